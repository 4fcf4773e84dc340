"""Who leaves memory when a model needs room.

Owns: the order of leaving. Pure: sizes and worths in, names out. Must not know: processes or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sage.errors import DoesNotFit

__all__ = ["Loaded", "make_room"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A model in memory: what it occupies, when it was last used (any rising number), whether now, and what
    permission would be lost without it (0: nobody said)."""

    name: str
    bytes: int
    last_used: float
    busy: bool = False
    worth: float = 0.0


def make_room(need: int, free: int, loaded: Sequence[Loaded], *, name: str) -> tuple[str, ...]:
    """The models to unload, least worth a byte first, then least recently used, so that ``need`` bytes are
    free.

    Raises:
        DoesNotFit: not even without every idle model; says need and free.
    """
    victims: list[str] = []
    for model in sorted(
        (m for m in loaded if not m.busy), key=lambda m: (m.worth / max(1, m.bytes), m.last_used)
    ):
        if need <= free:
            break
        victims.append(model.name)
        free += model.bytes
    if need > free:
        raise DoesNotFit(
            f"{name} needs {need / 1e6:.0f} MB of memory; {max(free, 0) / 1e6:.0f} MB can be made free.",
            mend="Free memory, lower models.context, or raise models.memory_limit_gb where it is set",
        )
    return tuple(victims)
