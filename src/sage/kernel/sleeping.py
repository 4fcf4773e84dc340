"""Sleep: what is put in order while nobody waits.

Owns: which parts sleep has, their order, and that it can be stopped between any two pieces of work.
Must not know: how each part does its work; when there is time for it.

Each piece is a short transaction of its own and leaves everything in order, so nothing is lost where sleep
ends early, by whatever: the next one goes on. A second sleep right after the first finds nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sage.clock import Clock
from sage.config import Settings
from sage.errors import BackendMissing, SageError, StoreDamaged, WeightsMissing
from sage.kernel.stores import Stores
from sage.memory.db import Database
from sage.memory.duplicates import merge_duplicates
from sage.memory.replay import Replay
from sage.memory.retention import prune

__all__ = ["LIGHT", "Part", "PartDone", "Report", "Sleep", "backlog"]

CODED_AT_ONCE = 8
"""Passages read by the sentence model in one piece: some tens of milliseconds."""

HEARD_AT_ONCE = 16
"""Passages appraised in one piece."""

LOOKED_AT = 2000
"""Passages looked at for one that nobody has appraised."""

FOLDED_AFTER_S = 7 * 86_400.0
"""Ledger entries are kept one by one for so long."""

COMPACTED = 100_000_000
"""Bytes in use up to which the file is written anew: about a second."""

REPEATED = 5
"""Questions that a report names, those asked most often."""

SLEPT = "sleep.up_to"

COUNTED = 1000
"""The backlog is counted each second."""

LIGHT = ("index", "meaning")
"""Parts that serve the very next request: done in any idle second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One kind of work: ``done`` says what its numbers count. ``work`` yields them a piece at a time."""

    name: str
    done: str
    work: Callable[[], Iterator[int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartDone:
    """What came of one part: how much it did in how many seconds, whether it got to its end, or its error."""

    name: str
    what: str
    count: int
    seconds: float
    ended: bool
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What one sleep did; ``repeated`` are the questions asked most often in the usual namespace, and
    how often."""

    parts: tuple[PartDone, ...]
    repeated: tuple[tuple[str, int], ...] = field(default=())

    @property
    def ended(self) -> bool:
        """Whether every part got to its end."""
        return all(part.ended for part in self.parts)


def backlog(db: Database) -> int:
    """Messages that were stored since the last whole sleep; no more than ``COUNTED`` are counted."""
    rows = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM passages WHERE id > ? LIMIT ?)", (_slept_to(db), COUNTED)
    )
    return int(rows[0][0])


def _slept_to(db: Database) -> int:
    rows = db.execute("SELECT value FROM facts WHERE name = ?", (SLEPT,))
    return int(rows[0][0]) if rows else 0


class Sleep:
    """Puts the memories of one home in order."""

    def __init__(self, stores: Stores, settings: Settings, clock: Clock) -> None:
        self._stores = stores
        self._settings = settings
        self._clock = clock
        self.parts = (
            Part(name="index", done="blocks of 512 messages made quick to search", work=self._index),
            Part(name="meaning", done="messages read by the sentence model", work=self._code),
            Part(name="salience", done="messages appraised that nobody had", work=self._hear),
            Part(name="duplicates", done="repeated messages merged", work=self._merge),
            Part(name="forgetting", done="faint messages dropped from salient memory", work=self._fade),
            Part(name="replay", done="puzzles put aside for the reasoner", work=self._gather),
            Part(name="trust", done="faded rows of trust let go of", work=self._compact_trust),
            Part(name="ledger", done="entries put together", work=self._fold),
            Part(name="retention", done="old turns let go of", work=self._let_go),
            Part(name="disk", done="bytes given back to the disk", work=self._tidy),
        )

    def run(
        self,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        only: tuple[str, ...] = (),
        progress: Callable[[str], None] = lambda _part: None,
    ) -> Report:
        """Every part (or ``only`` these) to its end, or to where ``should_stop`` holds: then the report says
        what was done. ``progress`` is told of each part that begins.

        Raises:
            StoreDamaged: the database is; all other errors of a part are in the report.
        """
        parts = [part for part in self.parts if not only or part.name in only]
        newest = self._newest()
        done: list[PartDone] = []
        for part in parts:
            progress(part.name)
            result = self._do(part, should_stop)
            done.append(result)
            if not result.ended and not result.error:
                break
        whole = not only and len(done) == len(parts) and all(part.ended for part in done)
        if whole:
            self._note_slept(newest)
        namespace = self._settings.memory.namespace
        repeated = () if only else self._stores.patterns.repeated(namespace=namespace, most=REPEATED)
        return Report(parts=tuple(done), repeated=tuple(repeated))

    def _do(self, part: Part, should_stop: Callable[[], bool]) -> PartDone:
        began, count, ended, error = time.perf_counter(), 0, False, ""
        try:
            pieces = part.work()
            while not should_stop():
                piece = next(pieces, None)
                if piece is None:
                    ended = True
                    break
                count += piece
        except StoreDamaged:
            raise
        except SageError as failed:
            error = failed.message
        return PartDone(
            name=part.name,
            what=part.done,
            count=count,
            seconds=round(time.perf_counter() - began, 4),
            ended=ended,
            error=error,
        )

    def _newest(self) -> int:
        return int(self._stores.db.execute("SELECT coalesce(max(id), 0) FROM passages")[0][0])

    def _note_slept(self, newest: int) -> None:
        self._stores.db.execute(
            "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (SLEPT, str(newest))
        )

    def _namespaces(self) -> list[str]:
        """A walk over the index, from one name to the next: cheap however much was said."""
        rows = self._stores.db.execute(
            "WITH RECURSIVE names (name) AS (SELECT min(namespace) FROM passages UNION ALL SELECT"
            " (SELECT min(namespace) FROM passages WHERE namespace > name) FROM names WHERE name IS NOT NULL)"
            " SELECT name FROM names WHERE name IS NOT NULL"
        )
        return [name for (name,) in rows]

    def _index(self) -> Iterator[int]:
        for namespace in self._namespaces():
            while made := self._stores.recall.index(namespace, most=1):
                yield made

    def _code(self) -> Iterator[int]:
        with suppress(WeightsMissing, BackendMissing):  # there is no sentence model: words alone are searched
            while made := self._stores.recall.catch_up(limit=CODED_AT_ONCE):
                yield made

    def _hear(self) -> Iterator[int]:
        last, newest = _slept_to(self._stores.db), self._newest()
        while last < newest:
            rows = self._stores.db.execute(
                "SELECT p.id FROM passages p LEFT JOIN salience s ON s.passage_id = p.id"
                " WHERE p.id > ?1 AND p.id <= ?1 + ?2 AND s.passage_id IS NULL ORDER BY p.id",
                (last, LOOKED_AT),
            )
            ids = [ident for (ident,) in rows]
            for at in range(0, len(ids), HEARD_AT_ONCE):
                yield len(self._stores.salient.hear(ids[at : at + HEARD_AT_ONCE]))
            last += LOOKED_AT
            yield 0

    def _merge(self) -> Iterator[int]:
        return merge_duplicates(self._stores.db)

    def _fade(self) -> Iterator[int]:
        for namespace in self._namespaces():
            yield self._stores.salient.prune(namespace, now=self._clock.time())

    def _gather(self) -> Iterator[int]:
        return Replay(self._stores.db).gather()

    def _compact_trust(self) -> Iterator[int]:
        yield self._stores.trust.compact()

    def _fold(self) -> Iterator[int]:
        yield from self._stores.books.fold(self._clock.time() - FOLDED_AFTER_S)
        if off := self._stores.books.audit():
            raise SageError(f"The ledger does not add up: {off}")

    def _let_go(self) -> Iterator[int]:
        memory = self._settings.memory
        before = self._clock.time() - memory.keep_days * 86_400.0
        for went in prune(self._stores.db, before, max_bytes=memory.max_mb * 1e6):
            yield went.papers + went.turns + went.passages

    def _tidy(self) -> Iterator[int]:
        """The file is written anew only where more of it is free than used, and while that is quick: others
        wait meanwhile. Free parts of a large file are used again."""
        if self._stores.kept:
            self._stores.db.checkpoint()
            used, free = self._stores.db.bytes()
            if used < free and used < COMPACTED:
                self._stores.db.compact()
                yield free
