"""The cascade among the policies of `sage bench route`, where answers were recorded.

Owns: one row for each ceiling on mean calls. Must not know: how opinions are weighed.
"""

from __future__ import annotations

from collections.abc import Callable

from sage.bench.arena import Arena
from sage.bench.cascade import CEILINGS, Learned, at_ceilings, record
from sage.bench.route_data import Ints, Outcomes
from sage.bench.route_rows import Record

__all__ = ["play_cascade"]


def play_cascade(
    outcomes: Outcomes, arena: Arena, train: Ints, test: Ints, *, record_of: Callable[[float], Record]
) -> None:
    """Learn from ``train``, play on ``test``, both row numbers in the arena's order; the row of each ceiling
    goes into ``record_of`` it. Nothing happens where answers or lengths were not recorded."""
    seen, asked = (
        record(outcomes, queries.contexts, rows)
        for queries, rows in ((arena.train, train), (arena.test, test))
    )
    if seen is None or asked is None:
        return
    learned = Learned(seen)
    questions = learned.new(asked)
    seconds = learned.seconds(questions)
    for ceiling, played in at_ceilings(learned, questions, CEILINGS, seed=arena.seed).items():
        row = record_of(ceiling)
        row.put(
            arena.seed,
            test,
            total=len(outcomes.ids),
            quality=played.score,
            calls=played.calls,
            price=played.price,
        )
        row.seconds += seconds
