"""The schema of ``sage.db``, one SQL script a version.

Owns: every table and index, and the order in which they came.
Must not know: how a script is applied or who reads a table.

A script that has been released is never changed: a mistake is mended by the next one. The number of
a script, counted from 1, is the ``user_version`` of a database it has been applied to.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID = 0x53414745
"""``SAGE`` in ASCII, in the header of the file: tells our database from another program's."""

_FIRST = f"""
PRAGMA application_id = {APPLICATION_ID};

-- One request and what came of it. Times are seconds since the epoch. The row id is the order in which
-- turns began, which the wall clock is not: it may be set back, or start at 1970 on a board without a
-- battery. So "newest" goes by row id, and an index on session alone (which ends in the row id) serves it.
CREATE TABLE turns (
    id          TEXT PRIMARY KEY NOT NULL,
    session     TEXT NOT NULL,
    created     REAL NOT NULL,
    ended       REAL,
    kind        TEXT NOT NULL,
    prompt      TEXT NOT NULL,
    messages    TEXT NOT NULL,           -- JSON: [{{"role", "content"}}, ...], the whole request
    answer      TEXT NOT NULL DEFAULT '',
    model       TEXT NOT NULL DEFAULT '',
    status      TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted', 'abandoned')),
    error       TEXT NOT NULL DEFAULT '',
    usage       TEXT,                    -- JSON
    irp         TEXT,                    -- JSON
    atp         TEXT,                    -- JSON
    pid         INTEGER NOT NULL,        -- who runs it; a pid is used again, so with its start time
    pid_started REAL NOT NULL
);
CREATE INDEX turns_session ON turns (session);
CREATE INDEX turns_running ON turns (pid) WHERE status = 'running';

CREATE TABLE decisions (
    turn_id TEXT PRIMARY KEY NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    record  TEXT NOT NULL                -- JSON of sage.types.Decision
);

CREATE TABLE outcomes (
    event_id  TEXT PRIMARY KEY NOT NULL, -- the same outcome reported twice counts once
    turn_id   TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    candidate TEXT NOT NULL,
    kind      TEXT NOT NULL,
    quality   REAL NOT NULL CHECK (quality BETWEEN 0 AND 1),
    source    TEXT NOT NULL,
    at        REAL NOT NULL
);
CREATE INDEX outcomes_turn ON outcomes (turn_id);

-- The decayed evidence about one candidate in one kind of work, as of updated_at.
CREATE TABLE trust (
    candidate  TEXT NOT NULL,
    kind       TEXT NOT NULL,
    weight     REAL NOT NULL,
    quality    REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (candidate, kind)
);

-- What was measured of a model on this machine: tokens a second, seconds to load, bytes resident.
CREATE TABLE rates (
    model      TEXT NOT NULL,
    name       TEXT NOT NULL,
    value      REAL NOT NULL,
    samples    INTEGER NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (model, name)
);

-- Double entry: the balances of accounts are what the entries add up to. Amounts are whole units.
CREATE TABLE accounts (
    name    TEXT PRIMARY KEY NOT NULL,
    balance INTEGER NOT NULL
);
CREATE TABLE entries (
    id      INTEGER PRIMARY KEY,
    at      REAL NOT NULL,
    turn_id TEXT NOT NULL,
    debit   TEXT NOT NULL,
    credit  TEXT NOT NULL,
    amount  INTEGER NOT NULL CHECK (amount > 0),
    reason  TEXT NOT NULL
);
CREATE INDEX entries_turn ON entries (turn_id);

-- Small things that need one value each.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);
"""

_CONTEXTS = """
-- Trust by context instead of by kind: what was learned is learned again from the outcomes.
DROP TABLE trust;

-- Where a turn's text lies: cells of a codebook (uint16) and memberships (float32), little-endian; labels is
-- JSON, enough to place the text again under another codebook.
CREATE TABLE contexts (
    turn_id    TEXT PRIMARY KEY NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    codebook   TEXT NOT NULL,
    labels     TEXT NOT NULL,
    cells      BLOB NOT NULL,
    membership BLOB NOT NULL
);

-- The rows of a sage.economy.trust.TrustBook; sums and weights are float64, little-endian.
CREATE TABLE trust_rows (
    codebook  TEXT NOT NULL,
    origin    TEXT NOT NULL,
    candidate TEXT NOT NULL,
    since     REAL NOT NULL,
    events    INTEGER NOT NULL,
    at        REAL NOT NULL,
    total     REAL NOT NULL,
    sums      BLOB NOT NULL,
    weights   BLOB NOT NULL,
    drift     TEXT NOT NULL,             -- JSON of sage.economy.drift.Drift
    PRIMARY KEY (codebook, origin, candidate)
);
CREATE TABLE trust_resets (
    candidate TEXT PRIMARY KEY NOT NULL,
    at        REAL NOT NULL
);

-- sage.economy.evidence.Evidence: what answers have shown of each candidate (float64, little-endian), and of
-- pairs (one <= other) that were wrong together. Faded as of at.
CREATE TABLE opinions (
    candidate TEXT PRIMARY KEY NOT NULL,
    at        REAL NOT NULL,
    counters  BLOB NOT NULL
);
CREATE TABLE opinion_pairs (
    one   TEXT NOT NULL REFERENCES opinions (candidate) ON DELETE CASCADE,
    other TEXT NOT NULL REFERENCES opinions (candidate) ON DELETE CASCADE,
    at    REAL NOT NULL,
    wrong REAL NOT NULL,
    same  REAL NOT NULL,
    PRIMARY KEY (one, other)
);

-- What the card claimed for the kind of work beyond its overall figure.
ALTER TABLE outcomes ADD COLUMN shift REAL NOT NULL DEFAULT 0;
"""

_PASSAGES = """
-- What was said, message by message. AUTOINCREMENT: an id that was forgotten is never used again.
CREATE TABLE passages (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    session   TEXT NOT NULL,
    turn_id   TEXT REFERENCES turns (id) ON DELETE CASCADE, -- NULL: imported
    speaker   TEXT NOT NULL,
    at        REAL NOT NULL,
    text      TEXT NOT NULL
);
CREATE INDEX passages_namespace ON passages (namespace);
CREATE INDEX passages_session ON passages (session, namespace);
CREATE INDEX passages_turn ON passages (turn_id) WHERE turn_id IS NOT NULL;

-- secure-delete: what is forgotten leaves the index at once, not at its next merge.
CREATE VIRTUAL TABLE passages_fts USING fts5 (
    text, content = 'passages', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT INTO passages_fts (passages_fts, rank) VALUES ('secure-delete', 1);

-- The index that recall reads: passages of one namespace with ids from first to last, what ranking needs of
-- each, and for each term (a hash) where it occurs. What lies in no block is read as it was said.
CREATE TABLE recall_blocks (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    columns   BLOB NOT NULL
);
CREATE INDEX recall_blocks_namespace ON recall_blocks (namespace, first);
CREATE TABLE recall_postings (
    block INTEGER NOT NULL REFERENCES recall_blocks (id) ON DELETE CASCADE,
    term  INTEGER NOT NULL,
    data  BLOB NOT NULL,
    PRIMARY KEY (block, term)
) WITHOUT ROWID;

-- What each piece of a passage means, by the sentence model: the signs of 384 numbers a piece, 48 bytes.
CREATE TABLE passage_vectors (
    passage_id INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    data       BLOB NOT NULL
);

CREATE TRIGGER passages_said AFTER INSERT ON passages BEGIN
    INSERT INTO passages_fts (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER passages_unchanged BEFORE UPDATE OF id, text ON passages BEGIN
    SELECT RAISE (ABORT, 'a passage is never changed');
END;
-- Blocks hold words of all their passages, so they are made again without the forgotten one. The count tells
-- other processes that what they remember of the index is out of date.
CREATE TRIGGER passages_forgotten AFTER DELETE ON passages BEGIN
    INSERT INTO passages_fts (passages_fts, rowid, text) VALUES ('delete', old.id, old.text);
    DELETE FROM recall_blocks WHERE namespace = old.namespace AND first <= old.id AND last >= old.id;
    INSERT INTO facts (name, value) VALUES ('passages.forgotten', '1')
        ON CONFLICT (name) DO UPDATE SET value = value + 1;
END;
"""

_NAMESPACES = """
-- Whose turn it is. No query crosses namespaces.
ALTER TABLE turns ADD COLUMN namespace TEXT NOT NULL DEFAULT 'default';

-- AUTOINCREMENT: facts name the newest outcome that was learned. Were the id of one that was forgotten given
-- to a later one, that would never be learned.
CREATE TABLE outcomes_numbered (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id  TEXT NOT NULL UNIQUE,      -- the same outcome reported twice counts once
    turn_id   TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    candidate TEXT NOT NULL,
    kind      TEXT NOT NULL,
    quality   REAL NOT NULL CHECK (quality BETWEEN 0 AND 1),
    source    TEXT NOT NULL,
    at        REAL NOT NULL,
    shift     REAL NOT NULL DEFAULT 0    -- what the card claimed for the kind beyond its overall figure
);
INSERT INTO outcomes_numbered
    SELECT rowid, event_id, turn_id, candidate, kind, quality, source, at, shift FROM outcomes ORDER BY rowid;
DROP TABLE outcomes;
ALTER TABLE outcomes_numbered RENAME TO outcomes;
CREATE INDEX outcomes_turn ON outcomes (turn_id);

-- What was said before there were passages.
INSERT INTO passages (namespace, session, turn_id, speaker, at, text)
    SELECT namespace, session, id, speaker, at, text FROM (
        SELECT rowid AS line, 0 AS place, namespace, session, id, 'user' AS speaker, created AS at,
            substr(prompt, 1, 32000) AS text FROM turns WHERE status = 'done'
        UNION ALL
        SELECT rowid, 1, namespace, session, id, 'assistant', coalesce(ended, created),
            substr(answer, 1, 32000) FROM turns WHERE status = 'done' AND answer <> ''
    ) ORDER BY line, place;
"""

_SALIENCE = """
-- What each passage counts as (sage.memory.salience), and its place in salient memory: rank is log2(odds)
-- plus time in half-lives, NULL where it was dropped. words: JSON, the hashes it added to salience_words.
CREATE TABLE salience (
    passage_id INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    namespace  TEXT NOT NULL,
    words      TEXT NOT NULL,
    surprise   REAL NOT NULL,
    novelty    REAL NOT NULL,
    arousal    REAL NOT NULL,
    reward     REAL NOT NULL,
    conflict   REAL NOT NULL,
    total      REAL NOT NULL,
    rank       REAL,
    used       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX salience_order ON salience (namespace, passage_id);
CREATE INDEX salience_kept ON salience (namespace, rank) WHERE rank IS NOT NULL;

-- In how many messages each word (a hash; -1: any) stands.
CREATE TABLE salience_words (
    namespace TEXT NOT NULL,
    word      INTEGER NOT NULL,
    messages  INTEGER NOT NULL,
    PRIMARY KEY (namespace, word)
) WITHOUT ROWID;

-- What use has taught; it goes with the last message of the namespace.
CREATE TABLE salience_weights (
    namespace TEXT PRIMARY KEY NOT NULL,
    data      TEXT NOT NULL              -- JSON of sage.memory.salience.Weights
);

CREATE TRIGGER salience_heard AFTER INSERT ON salience BEGIN
    INSERT INTO salience_words (namespace, word, messages)
        SELECT new.namespace, value, 1 FROM json_each(new.words)
        UNION ALL SELECT new.namespace, -1, 1 WHERE true
        ON CONFLICT (namespace, word) DO UPDATE SET messages = messages + 1;
END;
CREATE TRIGGER salience_forgotten AFTER DELETE ON salience BEGIN
    UPDATE salience_words SET messages = messages - 1
        WHERE namespace = old.namespace AND (word = -1 OR word IN (SELECT value FROM json_each(old.words)));
    DELETE FROM salience_words WHERE namespace = old.namespace AND messages <= 0
        AND (word = -1 OR word IN (SELECT value FROM json_each(old.words)));
    DELETE FROM salience_weights WHERE namespace = old.namespace
        AND NOT EXISTS (SELECT 1 FROM salience WHERE namespace = old.namespace);
END;
"""

_REFINEMENTS = """
-- How the answer of a turn was refined. cell: the one of the codebook that counts most for its text;
-- question: what exactly was asked, as a digest, NULL where the same words may be answered otherwise the next
-- time; steps: JSON, [energy, best model, gain, price] a step (sage.memory.patterns.Taken).
CREATE TABLE refinements (
    turn_id   TEXT PRIMARY KEY NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    namespace TEXT NOT NULL,
    plugin    TEXT NOT NULL,
    codebook  TEXT NOT NULL,
    cell      INTEGER NOT NULL,
    question  TEXT,
    at        REAL NOT NULL,
    steps     TEXT NOT NULL
);
CREATE INDEX refinements_place ON refinements (namespace, plugin, codebook, cell);
CREATE INDEX refinements_question ON refinements (namespace, question, plugin) WHERE question IS NOT NULL;
"""

_REPLAY = """
-- Puzzles that were asked, for the reasoner to learn from: JSON as it stood in the request, with a digest of
-- it, and the quality found in the newest answer, NULL where nobody judged it.
CREATE TABLE replay (
    id        INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    digest    TEXT NOT NULL,
    turn_id   TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    puzzle    TEXT NOT NULL,
    solved    REAL,
    UNIQUE (namespace, digest)
);
CREATE INDEX replay_turn ON replay (turn_id);
"""

MIGRATIONS: tuple[str, ...] = (
    *(_FIRST, _CONTEXTS, _PASSAGES, _NAMESPACES, _SALIENCE),
    *(_REFINEMENTS, _REPLAY),
)
