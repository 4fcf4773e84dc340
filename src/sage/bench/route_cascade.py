"""The cascade among the policies of `sage bench route`, where answers were recorded: fitted anew, and as it
serves.

Owns: which recorded questions it learns from and plays on. Must not know: how opinions are weighed.
"""

from __future__ import annotations

from collections.abc import Callable

from sage.bench.arena import Arena
from sage.bench.cascade import CEILINGS, Cascade, Learned, Questions, Recorded, at_ceilings, record
from sage.bench.cascade_cost import Curves, cost_curves
from sage.bench.cascade_served import Served
from sage.bench.route_data import Ints, Outcomes
from sage.bench.route_rows import Record

__all__ = ["cascade_curves", "play_cascade"]


def play_cascade(
    outcomes: Outcomes, arena: Arena, train: Ints, test: Ints, *, record_of: Callable[[str, float], Record]
) -> None:
    """Learn from ``train``, play on ``test``, both row numbers in the arena's order; the row of each policy
    and ceiling goes into ``record_of`` them. Nothing happens where answers or lengths were not recorded."""
    seen, asked = _recorded(outcomes, arena, train, test)
    if seen is None or asked is None:
        return
    learned = Learned(seen)
    served = Served(seen, arena.train, arena.codebook, seed=arena.seed)
    both: list[tuple[str, Cascade, Questions]] = [
        ("sage_cascade", learned, learned.new(asked)),
        ("sage_cascade_served", served, served.new(asked, arena.test)),
    ]
    for name, cascade, questions in both:
        seconds = cascade.seconds(questions)
        for ceiling, played in at_ceilings(cascade, questions, CEILINGS, seed=arena.seed).items():
            row = record_of(name, ceiling)
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
