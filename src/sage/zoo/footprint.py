"""What each model takes: the estimate before it was ever loaded, corrected by what was measured since.

Owns: the correction. Pure: bytes in, bytes out. Must not know: budgets, or what is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Footprint", "Footprints"]

SETTLED = 3
"""Long answers after which a measurement is believed even where the estimate is higher."""

GROWTH = 1.1
"""What a settled model may still grow by. Short prompts settle nothing: after them a model occupied up to
9.4 % less than the estimate, which it came near with a long one (the table in ``estimate.py``), and in torch
what a prompt takes grows with its length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What was measured: the most bytes that a model occupied, and after how many long answers."""

    peak: int = 0
    settling: int = 0

    def corrected(self, estimate: int) -> int:
        """Bytes to set aside for a model that is estimated to take ``estimate``."""
        if self.settling < SETTLED:
            return max(estimate, self.peak)
        return max(self.peak, min(estimate, int(self.peak * GROWTH)))


class Footprints:
    """Bytes by model. While a model is new, the larger of estimate and measurement counts."""

    def __init__(self) -> None:
        self._estimates: dict[str, int] = {}
        self._measured: dict[str, Footprint] = {}

    def estimated(self, model: str, size: int) -> None:
        """What the header or the card says now."""
        self._estimates[model] = size

    def recall(self, model: str, found: Footprint) -> None:
        """What was measured once counts, in place of what was measured since."""
        self._measured[model] = found

    def known(self, model: str) -> Footprint:
        """What was measured so far."""
        return self._measured.get(model) or Footprint()

    def measured(self, model: str, size: int, *, settles: bool = False) -> None:
        """What the process occupied; the most that was seen counts, because it may be that again.

        ``settles`` says that it was measured after an answer that used much of the context.
        """
        known = self.known(model)
        settling = min(SETTLED, known.settling + (settles and size > 0))
        self._measured[model] = replace(known, peak=max(known.peak, size), settling=settling)

    def size(self, model: str) -> int:
        """Bytes to set aside; 0 for a model of which nothing is known."""
        return self.known(model).corrected(self._estimates.get(model, 0))
