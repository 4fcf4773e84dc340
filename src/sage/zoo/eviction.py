"""Who leaves memory when a model needs room.

Owns: the order of leaving. Pure: sizes and worths in, names out. Must not know: processes or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    Chosen are those that are least worth a byte, then those least recently used. Whom a larger one makes
    needless stays, the dearest first.
    """
    chosen: list[Occupant] = []
    for model in sorted(occupants, key=lambda m: (m.worth / max(1, m.bytes), m.last_used)):
        if need <= free:
            break
        chosen.append(model)
        free += model.bytes
    if need > free:
        return None
    for model in reversed(chosen):
        if need <= free - model.bytes:
            chosen.remove(model)
            free -= model.bytes
    return tuple(model.name for model in chosen)


def does_not_fit(name: str, need: int, free: int) -> DoesNotFit:
    """The refusal of a model for which not even everybody who may leave makes room; sizes in bytes."""
    return DoesNotFit(
        f"{name} needs {need / 1e6:.0f} MB of memory; {max(free, 0) / 1e6:.0f} MB can be made free.",
        mend="Free memory, lower models.context, or raise models.memory_limit_gb where it is set",
    )
