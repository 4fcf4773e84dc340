"""Who leaves memory when a model needs room.

Owns: whether there is enough, and the refusal. Pure: sizes and worths in, names out. Must not know: processes
or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sage.economy.leaving import leaving_order, who_leaves
from sage.errors import DoesNotFit

__all__ = ["Occupant", "does_not_fit", "victims"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Occupant:
    """A model in memory that may leave: what it occupies, when it was last used (any rising number), and what
    permission would be lost without it (0: nobody said)."""

    name: str
    bytes: int
    last_used: float
    worth: float = 0.0


def victims(need: int, free: int, occupants: Sequence[Occupant]) -> tuple[str, ...] | None:
    """The models to unload so that ``need`` bytes are free; None where not even all of them are enough.

    Who goes first is the economy's to say (``economy/leaving.py``), so that what a load is said to cost is
    what it costs.
    """
    if need - free > sum(model.bytes for model in occupants):
        return None
    order = [
        occupants[place]
        for place in leaving_order(
            [model.worth for model in occupants],
            [model.bytes for model in occupants],
            [model.last_used for model in occupants],
        )
    ]
    sizes = np.array([model.bytes for model in order], np.int64)
    gone = who_leaves(np.array([need - free], np.int64), sizes)[0]
    return tuple(model.name for model, goes in zip(order, gone, strict=True) if goes)


def does_not_fit(name: str, need: int, free: int) -> DoesNotFit:
    """The refusal of a model for which not even everybody who may leave makes room; sizes in bytes."""
    return DoesNotFit(
        f"{name} needs {need / 1e6:.0f} MB of memory; {max(free, 0) / 1e6:.0f} MB can be made free.",
        mend="Free memory, lower models.context, or raise models.memory_limit_gb where it is set",
    )
