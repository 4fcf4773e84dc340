"""The cascade among the policies of `sage bench route`, where answers were recorded.

Owns: which recorded questions it learns from and plays on. Must not know: how opinions are weighed.
"""

from __future__ import annotations

from collections.abc import Callable

from sage.bench.arena import Arena
from sage.bench.cascade import CEILINGS, Learned, Recorded, at_ceilings, record
from sage.bench.cascade_cost import Curves, cost_curves
from sage.bench.route_data import Ints, Outcomes
from sage.bench.route_rows import Record

__all__ = ["cascade_curves", "play_cascade"]


def play_cascade(
    outcomes: Outcomes, arena: Arena, train: Ints, test: Ints, *, record_of: Callable[[float], Record]
) -> None:
    """Learn from ``train``, play on ``test``, both row numbers in the arena's order; the row of each ceiling
    goes into ``record_of`` it. Nothing happens where answers or lengths were not recorded."""
    seen, asked = _recorded(outcomes, arena, train, test)
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


def cascade_curves(outcomes: Outcomes, arena: Arena, train: Ints, test: Ints) -> Curves | None:
    """Quality at every price; None where answers, lengths or prices were not recorded."""
    seen, asked = _recorded(outcomes, arena, train, test)
    return None if seen is None or asked is None else cost_curves(seen, asked)


def _recorded(
    outcomes: Outcomes, arena: Arena, train: Ints, test: Ints
) -> tuple[Recorded | None, Recorded | None]:
    return (
        record(outcomes, arena.train.contexts, train),
        record(outcomes, arena.test.contexts, test),
    )
