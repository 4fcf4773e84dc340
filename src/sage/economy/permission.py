"""The rule: permission = expertise x cheapness x persistence.

Owns: the three factors and their product. Must not know: where the numbers come from.
"""

from __future__ import annotations

__all__ = ["cheapness", "permission", "persistence"]


def cheapness(atp: float, *, scale: float) -> float:
    """1 / (1 + price / scale), in (0, 1]: one half where the price equals ``scale`` ATP."""
    return 1.0 / (1.0 + max(atp, 0.0) / scale)


def persistence(resident: bool, *, hot_bonus: float) -> float:
    """``hot_bonus`` (>= 1) for what is loaded, else 1: a cold candidate must be better by that factor."""
    return hot_bonus if resident else 1.0


def permission(expertise: float, cheap: float, persist: float) -> float:
    """The product. Each factor is monotone: more expertise, a lower price or being loaded never hurts."""
    return expertise * cheap * persist
