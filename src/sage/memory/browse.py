"""Looking at what is remembered: search by words, one item in full, and figures.

Owns: the queries behind `sage memory search`, `show` and `stats`. Must not know: how they are printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sage.errors import NotFound
from sage.memory.db import Database
from sage.memory.passages import DEFAULT_NAMESPACE, Passage, PassageStore

__all__ = ["Filters", "Match", "passages_of", "search", "stats"]

_WORDS = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which passages are looked at; times are seconds since the epoch."""

    namespace: str = DEFAULT_NAMESPACE
    session: str | None = None
    speaker: str | None = None
    after: float | None = None
    before: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A passage that was found, and the part of it that fits."""

    passage: Passage
    excerpt: str


def search(db: Database, text: str, filters: Filters, *, limit: int) -> list[Match]:
    """The passages that have all words of ``text`` (in any form), best first; what stands in double quotes is
    one phrase. Where there are no words, as in an emoji, passages that have the very text."""
    where, params = ["p.namespace = ?"], [filters.namespace]
    for column, sign, value in (
        ("session", "=", filters.session),
        ("speaker", "=", filters.speaker),
        ("at", ">=", filters.after),
        ("at", "<", filters.before),
    ):
        if value is not None:
            where.append(f"p.{column} {sign} ?")
            params.append(value)  # type: ignore[arg-type]
    terms = [phrase or word for phrase, word in _WORDS.findall(text)]
    conditions = " AND ".join(where)
    if any(c.isalnum() for c in text):
        wanted = " ".join(
            '"' + term.replace('"', '""') + '"' for term in terms if any(map(str.isalnum, term))
        )
        rows = db.execute(
            "SELECT p.id, snippet(passages_fts, 0, '', '', ' ... ', 24) FROM passages_fts f"  # noqa: S608
            f" JOIN passages p ON p.id = f.rowid WHERE passages_fts MATCH ? AND {conditions}"
            " ORDER BY f.rank, p.id DESC LIMIT ?",
            (wanted, *params, limit),
        )
    else:
        rows = db.execute(
            f"SELECT p.id, substr(p.text, 1, 160) FROM passages p WHERE {conditions}"  # noqa: S608
            " AND instr(p.text, ?) ORDER BY p.id DESC LIMIT ?",
            (*params, text.strip(), limit),
        )
    excerpts = dict(rows)
    found = PassageStore(db).get([row[0] for row in rows])
    return [Match(passage=passage, excerpt=excerpts[passage.id]) for passage in found]


def passages_of(db: Database, name: str, namespace: str) -> list[Passage]:
    """The passage of this number, or all passages of the turn of this id.

    Raises:
        NotFound: the namespace has neither.
    """
    turn = name if name.startswith("turn-") else f"turn-{name}"
    number = int(name) if name.isdecimal() and len(name) < 19 else -1
    rows = db.execute(
        "SELECT id FROM passages WHERE namespace = ? AND (id = ? OR turn_id = ?) ORDER BY id",
        (namespace, number, turn),
    )
    if not rows:
        raise NotFound(
            f"Nothing in namespace {namespace!r} has the id {name!r}.", mend="sage memory search TEXT"
        )
    return PassageStore(db).get([row[0] for row in rows])


def stats(db: Database) -> dict[str, Any]:
    """Counts and bytes of the whole database, and of each namespace."""
    used, free = db.bytes()
    spaces: dict[str, dict[str, Any]] = {}
    for name, count, sessions, size, oldest, newest in db.execute(
        "SELECT namespace, count(*), count(DISTINCT session), sum(length(CAST(text AS BLOB))), min(at),"
        " max(at) FROM passages GROUP BY namespace"
    ):
        spaces[name] = {
            "passages": count,
            "sessions": sessions,
            "text_bytes": size,
            "oldest": oldest,
            "newest": newest,
            "turns": 0,
        }
    empty = {"passages": 0, "sessions": 0, "text_bytes": 0, "oldest": None, "newest": None}
    for name, count in db.execute("SELECT namespace, count(*) FROM turns GROUP BY namespace"):
        spaces.setdefault(name, dict(empty))["turns"] = count
    tables = db.execute(
        "SELECT name, sum(pgsize) FROM dbstat WHERE aggregate = TRUE GROUP BY name ORDER BY 2 DESC"
    )
    return {
        "path": str(db.path),
        "bytes": used,
        "free_bytes": free,
        "wal_bytes": _wal(db),
        "vectors": int(db.execute("SELECT count(*) FROM passage_vectors")[0][0]),
        "tables": dict(tables),
        "namespaces": spaces,
    }


def _wal(db: Database) -> int:
    try:
        return db.path.with_name(f"{db.path.name}-wal").stat().st_size
    except OSError:
        return 0
