"""Trust, kept in the database: one book for every process that uses this ``SAGE_HOME``.

Owns: loading, learning, resetting, merging and rebuilding the book, each change in one transaction.
Must not know: how evidence becomes belief; that is the economy's, and pure.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from sage.clock import Clock
from sage.config import SelectorSettings
from sage.economy.context import Context
from sage.economy.drift import Drift
from sage.economy.trust import TrustBook, TrustRow
from sage.memory.db import Database
from sage.memory.locate import Locator
from sage.memory.verbatim import VerbatimStore, to_json
from sage.types import Outcome, new_id

__all__ = ["TrustStore"]

ORIGIN = "trust.origin"
BUILT_FOR = "trust.codebook"

RELEARNED = 2000
"""Outcomes that are learned again by themselves when the codebook has changed: some seconds of work."""

BATCH = 64


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
        with self._changing():
            if not self._store.record_outcome(outcome):
                return False
            book = self._current()
            if book.observe(outcome, self._context(outcome.turn_id)):
                self._write(book.row(outcome.candidate))
            return True

    def reset(self, candidate: str) -> None:
        """Forget what was learned about a candidate, here and wherever this book is merged into."""
        with self._changing():
            book = self._current()
            book.reset(candidate, self._clock.time())
            self._rewrite(book)

    def merge(self, other: TrustBook) -> None:
        """Take over what another node has learned. Doing it again changes nothing.

        Raises:
            ValueError: the other book is of another codebook.
        """
        with self._changing():
            book = self._current()
            book.merge(other, now=self._clock.time())
            self._rewrite(book)

    def rebuild(
        self, *, newest: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Learn this node's outcomes again from the stored turns; returns how many there were.

        What other nodes taught stays where it was made for the same codebook. ``progress(done, all)``.
        """
        with self._changing():
            outcomes = self._outcomes(newest)
            fresh = self._empty([row for row in self._rows() if row.origin != self._origin()])
            locator = self.locator
            for start in range(0, len(outcomes), BATCH):
                batch = outcomes[start : start + BATCH]
                contexts = locator.locate_all([text for _, text, _ in batch], [at for *_, at in batch])
                for (outcome, _, labels), context in zip(batch, contexts, strict=True):
                    fresh.observe(outcome, context)
                    self.note(outcome.turn_id, context, labels)
                if progress:
                    progress(start + len(batch), len(outcomes))
            self._rewrite(fresh)
            self._set_fact(BUILT_FOR, locator.codebook.id)
            self._book = fresh
            return len(outcomes)

    def feedback(self, *, turns: int = 50) -> float:
        """The share of the newest turns that a user or a verifier has judged."""
        rows = self._db.execute(
            "SELECT count(DISTINCT o.turn_id), (SELECT count(*) FROM turns) FROM outcomes o"
            " WHERE o.source IN ('user', 'verifier')"
            " AND o.turn_id IN (SELECT id FROM turns ORDER BY rowid DESC LIMIT ?)",
            (turns,),
        )
        judged, there = rows[0]
        return judged / min(turns, there) if there else 0.0

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction; after a failure the book is read again: it may have learned what was undone."""
        with self._lock:
            try:
                with self._db.transaction():
                    yield
            except BaseException:
                self._book = None
                raise

    def _current(self) -> TrustBook:
        version = self._db.execute("PRAGMA data_version")[0][0]
        if self._book is None or version != self._seen:
            self._seen = version
            self._book = self._empty(self._rows())
            if self._fact(BUILT_FOR) != self.locator.codebook.id:
                self.rebuild(newest=RELEARNED)
        return self._book

    def _empty(self, rows: list[TrustRow]) -> TrustBook:
        return TrustBook(
            self.locator.codebook,
            origin=self._origin(),
            half_life=self._settings.half_life_days * 86_400.0,
            prior_strength=self._settings.prior_strength,
            rows=rows,
            resets=dict(self._db.execute("SELECT candidate, at FROM trust_resets")),
        )

    def _rows(self) -> list[TrustRow]:
        found = self._db.execute(
            "SELECT origin, candidate, since, events, at, total, sums, weights, drift FROM trust_rows"
            " WHERE codebook = ?",
            (self.locator.codebook.id,),
        )
        return [
            TrustRow(
                origin=origin,
                candidate=candidate,
                since=since,
                events=events,
                at=at,
                total=total,
                sums=np.frombuffer(sums, "<f8").astype(float),
                weights=np.frombuffer(weights, "<f8").astype(float),
                drift=Drift(**json.loads(drift)),
            )
            for origin, candidate, since, events, at, total, sums, weights, drift in found
        ]

    def _write(self, row: TrustRow | None) -> None:
        if row is None:
            return
        self._db.execute(
            "INSERT OR REPLACE INTO trust_rows"
            " (codebook, origin, candidate, since, events, at, total, sums, weights, drift)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.locator.codebook.id,
                row.origin,
                row.candidate,
                row.since,
                row.events,
                row.at,
                row.total,
                row.sums.astype("<f8").tobytes(),
                row.weights.astype("<f8").tobytes(),
                to_json(row.drift),
            ),
        )

    def _rewrite(self, book: TrustBook) -> None:
        self._db.execute("DELETE FROM trust_rows WHERE codebook = ?", (self.locator.codebook.id,))
        for row in book.rows():
            self._write(row)
        for candidate, at in book.resets.items():
            self._db.execute(
                "INSERT OR REPLACE INTO trust_resets (candidate, at) VALUES (?, ?)", (candidate, at)
            )

    def _context(self, turn_id: str) -> Context:
        """Where the turn's text lies: as it was noted, or placed anew under another codebook."""
        rows = self._db.execute(
            "SELECT c.codebook, c.labels, c.cells, c.membership, t.prompt FROM turns t"
            " LEFT JOIN contexts c ON c.turn_id = t.id WHERE t.id = ?",
            (turn_id,),
        )
        codebook, labels, cells, membership, prompt = rows[0]
        if codebook == self.locator.codebook.id:
            return self.locator.codebook.context(
                np.frombuffer(cells, "<u2").astype(np.intp), np.frombuffer(membership, "<f4").astype(float)
            )
        return self.locator.locate(prompt, self._labels(labels))

    def _labels(self, noted: str | None) -> dict[str, int]:
        """The labels that were noted, and the first cell of views that there were none for."""
        known = json.loads(noted) if noted else {}
        labelled = [view.name for view in self.locator.codebook.views if view.centroids is None]
        return {name: int(known.get(name, 0)) for name in labelled}

    def _outcomes(self, newest: int | None) -> list[tuple[Outcome, str, dict[str, int]]]:
        """Outcomes with the text and labels of their turns, oldest first, none from before a reset."""
        rows = self._db.execute(
            "SELECT o.event_id, o.turn_id, o.candidate, o.kind, o.quality, o.source, o.at, o.shift, t.prompt,"
            " c.labels FROM outcomes o JOIN turns t ON t.id = o.turn_id"
            " LEFT JOIN contexts c ON c.turn_id = o.turn_id"
            " LEFT JOIN trust_resets r ON r.candidate = o.candidate"
            " WHERE r.at IS NULL OR o.at >= r.at ORDER BY o.rowid DESC LIMIT ?",
            (-1 if newest is None else newest,),
        )
        names = ("event_id", "turn_id", "candidate", "kind", "quality", "source", "at", "shift")
        return [
            (Outcome(**dict(zip(names, row[:8], strict=True))), row[8], self._labels(row[9]))
            for row in reversed(rows)
        ]

    def _origin(self) -> str:
        origin = self._fact(ORIGIN)
        if origin is None:
            origin = new_id("node")
            self._set_fact(ORIGIN, origin)
        return origin

    def _fact(self, name: str) -> str | None:
        rows = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def _set_fact(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))
