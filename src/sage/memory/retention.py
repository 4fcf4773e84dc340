"""What is let go of when the database grows old or large.

Owns: what goes first. Must not know: when it is done, or how much is allowed.

First the papers of old turns go: decisions, places of texts, outcomes, which trust has learned from already.
What was said goes only where the database would otherwise be too large, oldest first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sage.memory.db import Database

__all__ = ["Pruned", "prune"]

AT_ONCE = 200
"""Turns in one transaction: some milliseconds, in which other processes wait."""

SPARED = 50
"""The newest turns lose nothing, however small the database shall be."""

PAPERS = ("decisions", "contexts", "outcomes")

_OLD = f"""
    SELECT id FROM turns t WHERE t.status <> 'running' AND rowid < ?
    AND ({" OR ".join(f"EXISTS (SELECT 1 FROM {name} WHERE turn_id = t.id)" for name in PAPERS)})
    ORDER BY rowid LIMIT {AT_ONCE}
"""  # noqa: S608  names of ours


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """How many turns lost their papers, and how many turns and imported passages went whole."""

    papers: int = 0
    turns: int = 0
    passages: int = 0


def prune(db: Database, before: float, *, max_bytes: float = math.inf) -> Iterator[Pruned]:
    """Let go of the papers of turns begun before a time (seconds since the epoch), and of more where more
    than ``max_bytes`` are in use. Yields what each piece let go of, in a transaction of its own: stop it
    anywhere.

    A turn is as new as the newest before it, whatever its clock said: a board without a battery may have
    begun in 1970. So a turn is old where every turn up to it is. The space is used again; the file does not
    shrink.
    """
    newest = int(db.execute("SELECT coalesce(max(rowid), 0) FROM turns")[0][0])
    first = db.execute("SELECT min(rowid) FROM turns WHERE created >= ?", (before,))[0][0]
    limit = newest + 1 if first is None else int(first)
    while papers := _drop_papers(db, limit):
        yield Pruned(papers=papers)
    spared = newest - SPARED
    while db.bytes()[0] > max_bytes and (papers := _drop_papers(db, spared)):
        yield Pruned(papers=papers)
    while db.bytes()[0] > max_bytes:
        turns, passages = _drop_oldest(db, spared)
        if not turns and not passages:
            break
        yield Pruned(turns=turns, passages=passages)


def _drop_papers(db: Database, limit: int) -> int:
    if not db.execute(_OLD, (limit,)):  # looked for without keeping others from writing
        return 0
    with db.transaction():
        ids = db.execute(_OLD, (limit,))
        for table in PAPERS:
            for (ident,) in ids:
                db.execute(f"DELETE FROM {table} WHERE turn_id = ?", (ident,))  # noqa: S608  names of ours
        return len(ids)


def _drop_oldest(db: Database, limit: int) -> tuple[int, int]:
    """The oldest turns with all that belongs to them, and the oldest imported passages."""
    with db.transaction():
        ids = db.execute(
            "SELECT id FROM turns WHERE status <> 'running' AND rowid < ? ORDER BY rowid LIMIT ?",
            (limit, AT_ONCE),
        )
        gone = db.execute(
            "DELETE FROM passages WHERE id IN (SELECT id FROM passages WHERE turn_id IS NULL"
            " AND id < (SELECT max(id) FROM passages) - ? ORDER BY id LIMIT ?) RETURNING id",
            (2 * SPARED, 2 * AT_ONCE),
        )
        for (ident,) in ids:
            db.execute("DELETE FROM turns WHERE id = ?", (ident,))
        return len(ids), len(gone)
