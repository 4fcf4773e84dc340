"""Trust, kept in the database: one book for every process that uses this ``SAGE_HOME``.

Owns: loading, learning, resetting, merging and rebuilding the book, each change in one transaction.
Must not know: how evidence becomes belief; that is the economy's, and pure.

Processes may place texts under different codebooks (one has MiniLM, another has not). Each codebook has rows
of its own and a note of the newest outcome that they hold; who finds newer ones catches up. Texts are placed
before the write lock is taken, and the note is read again under it, so nothing is learned twice.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from sage.clock import Clock
from sage.config import SelectorSettings
from sage.economy.context import Context
from sage.economy.trust import TrustBook, TrustRow
from sage.memory.db import Database
from sage.memory.lessons import Lesson, Lessons
from sage.memory.locate import Locator
from sage.memory.trust_rows import TrustTables
from sage.memory.verbatim import VerbatimStore
from sage.types import Outcome

__all__ = ["Merged", "TrustStore"]

NOTHING_LEFT = 0.01
"""Faded outcomes below which a row says nothing any more."""

RELEARNED = 2000
"""Outcomes that are learned by themselves under a codebook that has not seen them: some seconds of work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What came of merging: records that were newer than those here, of how many machines, and resets."""

    records: int
    machines: int
    resets: int


class TrustStore:
    """The trust book of one home. A thread reads it under :meth:`book`; ``learn`` waits for it."""

    def __init__(
        self,
        db: Database,
        store: VerbatimStore,
        clock: Clock,
        settings: SelectorSettings,
        locator: Callable[[], Locator],
    ) -> None:
        """``locator`` is asked for when the first text has to be placed or the book is first read."""
        self._db = db
        self._store = store
        self._clock = clock
        self._settings = settings
        self._open_locator = locator
        self._locator: Locator | None = None
        self._book: TrustBook | None = None
        self._version = -1
        self._seen = -1
        self._lock = threading.RLock()

    @property
    def locator(self) -> Locator:
        """Places texts in the cells that the book is kept for."""
        with self._lock:
            if self._locator is None:
                self._locator = self._open_locator()
            return self._locator

    @contextmanager
    def book(self) -> Iterator[TrustBook]:
        """The book as it stands now, while nobody writes it. Other processes' changes are seen."""
        with self._lock:
            seen = self._db.execute("PRAGMA data_version")[0][0]
            if self._book is None or seen != self._seen:
                self._catch_up()
                self._seen = seen
            yield self._current()

    def note(self, turn_id: str, context: Context, labels: Mapping[str, int]) -> None:
        """Keep where a turn's text lies: its outcomes may come much later."""
        self._db.execute(
            "INSERT INTO contexts (turn_id, codebook, labels, cells, membership) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (turn_id) DO UPDATE SET codebook = excluded.codebook, labels = excluded.labels,"
            " cells = excluded.cells, membership = excluded.membership",
            (
                turn_id,
                context.codebook,
                json.dumps(dict(labels)),
                context.cells.astype("<u2").tobytes(),
                context.membership.astype("<f4").tobytes(),
            ),
        )

    def learn(self, outcome: Outcome) -> bool:
        """Store an outcome and what it teaches, together; False when this event was learned before.

        Raises:
            TurnNotFound: the outcome belongs to no turn. ValueError: its quality is not in [0, 1].
        """
        with self._lock:
            self._catch_up()
            context = self._lessons.context(outcome.turn_id)
            with self.together():
                # Few, if any: what another embedder learned since. Whoever holds the lock takes them in.
                while late := self._lessons.after(self._tables.learned() or 0):
                    self._take_in(late)
                if not self._store.record_outcome(outcome):
                    return False
                if context is None:  # the turn began since it was looked for
                    context = self._lessons.context(outcome.turn_id)
                book = self._current()
                if context is not None and book.observe(outcome, context):
                    self._write(book, {outcome.candidate})
                self._tables.set_learned(self._lessons.newest())
            return True

    def reset(self, candidate: str) -> None:
        """Forget what was learned about a candidate, here and wherever this book is merged into."""
        with self._lock:
            self._catch_up()
            with self.together():
                book = self._current()
                before = dict(book.resets)
                book.reset(candidate, self._clock.time())
                self._rewrite(book, before)

    def merge(self, other: TrustBook) -> Merged:
        """Take over what other nodes have learned. Doing it again changes nothing.

        What ``other`` says of this very node is left out: nobody knows that better than its own database, and
        one that was lost and made anew is another node.

        Raises:
            ValueError: the other book is of another codebook.
        """
        with self._lock:
            self._catch_up()
            with self.together():
                book = self._current()
                before, had = dict(book.resets), _versions(book.rows())
                foreign = [row for row in other.rows() if row.origin != book.origin]
                strangers = TrustBook(
                    other.codebook,
                    origin=other.origin,
                    half_life=self._half_life,
                    prior_strength=self._settings.prior_strength,
                    rows=foreign,
                    resets=other.resets,
                )
                book.merge(strangers, now=self._clock.time())
                self._rewrite(book, before)
                has = _versions(book.rows())
                new = [key for key in _versions(foreign) if key in has and has[key] != had.get(key)]
                resets = sum(before.get(name) != at for name, at in book.resets.items())
                return Merged(records=len(new), machines=len({origin for origin, _ in new}), resets=resets)

    def compact(self) -> int:
        """Let go of rows of which nothing is left, of this codebook and of others; returns how many.

        Faded as of the newest evidence there is: a clock that is ahead makes nothing old.
        """
        with self._lock:
            self._catch_up()
            with self.together():
                rows = self._db.execute("SELECT rowid, at, total FROM trust_rows")
                newest = max((at for _, at, _ in rows), default=0.0)
                gone = [
                    ident
                    for ident, at, total in rows
                    if total * math.exp2((at - newest) / self._half_life) < NOTHING_LEFT
                ]
                for ident in gone:
                    self._db.execute("DELETE FROM trust_rows WHERE rowid = ?", (ident,))
                if gone:
                    self._book, self._version = None, self._tables.changed()
            return len(gone)

    def rebuild(self, *, progress: Callable[[int, int], None] | None = None) -> int:
        """Learn all of this node's outcomes again from the stored turns; returns how many were learned.

        What other nodes taught stays. Others may read and learn meanwhile: the old rows are replaced at the
        end, in one transaction. ``progress(done, all)`` counts outcomes.
        """
        with self._lock:
            tables, lessons = self._tables, self._lessons
            fresh = self._empty([])
            every = lessons.count(lessons.newest()) if progress else 0
            row_id = done = learned = 0
            while page := lessons.after(row_id):
                learned += len(self._observe(fresh, page))
                row_id, done = page[-1].row_id, done + len(page)
                if progress:
                    progress(min(done, every), every)
            with self.together():
                while page := lessons.after(row_id):
                    learned += len(self._observe(fresh, page))
                    row_id = page[-1].row_id
                foreign = [row for row in tables.rows() if row.origin != tables.origin()]
                # A reset that came meanwhile empties what was learned before it.
                self._book = self._empty([*fresh.rows(), *foreign])
                tables.rewrite(self._book.rows())
                tables.set_learned(row_id)
                self._version = tables.changed()
            return learned

    def signs(self, turn_id: str) -> dict[str, int]:
        """What plain signs told of a turn's text: cells of the views without centroids; empty if unknown."""
        rows = self._db.execute("SELECT labels FROM contexts WHERE turn_id = ?", (turn_id,))
        return {name: int(label) for name, label in json.loads(rows[0][0]).items()} if rows else {}

    def feedback(self, *, turns: int = 50) -> float:
        """The share of the newest turns that a user or a verifier has judged."""
        rows = self._db.execute(
            "SELECT count(*), coalesce(sum(judged), 0) FROM (SELECT EXISTS (SELECT 1 FROM outcomes o"
            " WHERE o.turn_id = t.id AND o.source IN ('user', 'verifier')) AS judged"
            " FROM turns t ORDER BY t.rowid DESC LIMIT ?)",
            (turns,),
        )
        there, judged = rows[0]
        return judged / there if there else 0.0

    @cached_property
    def _tables(self) -> TrustTables:
        return TrustTables(self._db, self.locator.codebook)

    @cached_property
    def _lessons(self) -> Lessons:
        return Lessons(self._db, self.locator)

    @property
    def _half_life(self) -> float:
        return self._settings.half_life_days * 86_400.0

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction for what is learned here and what is stored elsewhere. After a failure the book is
        read again: it may have learned what was undone."""
        with self._lock:  # before the database's, as everywhere
            try:
                with self._db.transaction():
                    yield
            except BaseException:
                self._book = None
                raise

    def _current(self) -> TrustBook:
        """The book, read again only where trust has changed."""
        if self._book is None or self._tables.version() != self._version:
            self._tables.origin()  # made, where it is missing, before a transaction that only reads
            with self._db.transaction(write=False):
                self._version = self._tables.version()
                self._book = self._empty(self._tables.rows())
        return self._book

    def _catch_up(self) -> None:
        """Learn what was stored without being learned under this codebook: the newest of it, page by page."""
        tables, lessons = self._tables, self._lessons
        learned = tables.learned()
        if learned == lessons.newest() or (learned is None and not lessons.newest()):
            return
        row_id = max(learned or 0, lessons.before_newest(RELEARNED))
        while page := lessons.after(row_id):
            with self.together():
                if tables.learned() is None:  # rows without a note: nobody knows what they hold
                    tables.rewrite(row for row in tables.rows() if row.origin != tables.origin())
                    self._version = -1
                self._take_in(page)
            row_id = page[-1].row_id

    def _take_in(self, page: list[Lesson]) -> None:
        """Learn those of a page that nobody has learned meanwhile."""
        learned = self._tables.learned() or 0
        new = [lesson for lesson in page if lesson.row_id > learned]
        if new:
            book = self._current()
            self._write(book, set(self._observe(book, new)))
            self._tables.set_learned(new[-1].row_id)

    def _observe(self, book: TrustBook, page: list[Lesson]) -> list[str]:
        """Let a book learn; returns whose outcomes it took. What cannot be learned must not stop the rest."""
        forgotten = self._tables.forgotten()
        taken = []
        for lesson in page:
            outcome = lesson.outcome
            if lesson.row_id > forgotten.get(outcome.candidate, 0):
                with contextlib.suppress(ValueError):
                    if book.observe(outcome, lesson.context):
                        taken.append(outcome.candidate)
        return taken

    def _write(self, book: TrustBook, candidates: Iterable[str]) -> None:
        for candidate in candidates:
            if row := book.row(candidate):
                self._tables.write(row)
        self._version = self._tables.changed()

    def _rewrite(self, book: TrustBook, before: Mapping[str, float]) -> None:
        """Store all of a book, and those resets that it did not have ``before``."""
        self._tables.rewrite(book.rows())
        for candidate, at in book.resets.items():
            if before.get(candidate) != at:
                self._tables.set_reset(candidate, at, newest=self._lessons.newest())
        self._version = self._tables.changed()

    def _empty(self, rows: list[TrustRow]) -> TrustBook:
        """A book of these rows."""
        return TrustBook(
            self.locator.codebook,
            origin=self._tables.origin(),
            half_life=self._half_life,
            prior_strength=self._settings.prior_strength,
            rows=rows,
            resets=self._tables.resets(),
        )


def _versions(rows: Iterable[TrustRow]) -> dict[tuple[str, str], tuple[float, int]]:
    return {(row.origin, row.candidate): row.version for row in rows}
