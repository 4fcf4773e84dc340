"""What is dear on this machine, told anew as its models become known.

Owns: when the scales of prices are told, and the selector that has them. Must not know: how they are told.

Before anything is measured, the rates of models are guesses: a slow board would be ten times too stingy if
what they say stood until the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sage.config import SelectorSettings
from sage.economy.permission import scales
from sage.economy.pool import Pool
from sage.economy.selector import Selector

__all__ = ["RENEWED", "Dearness"]

RENEWED = 50
"""Decisions after which the scales are told anew in any case: what is measured also drifts."""


class Dearness:
    """Gives the selector for the next decision."""

    def __init__(self, settings: SelectorSettings) -> None:
        self._settings = settings
        self._known: frozenset[str] = frozenset()
        self._left = 0
        self._selector = self._make(Pool(()))

    def selector(self, rates: Mapping[str, Mapping[str, float]], usual: Callable[[], Pool]) -> Selector:
        """``rates`` are those measured, by model; ``usual`` gives the pool for a usual piece of work."""
        known = frozenset(name for name, found in rates.items() if "generate_tok_s" in found)
        if self._left <= 0 or known != self._known:
            self._known, self._left = known, RENEWED
            self._selector = self._make(usual())
        self._left -= 1
        return self._selector

    def _make(self, usual: Pool) -> Selector:
        chosen = self._settings
        scale, load_scale = scales(usual, chosen.price_unit, chosen.price_scale)
        return Selector(
            hot_bonus=chosen.hot_bonus,
            price_scale=scale,
            load_scale=load_scale,
            form=chosen.form,
            unit=chosen.price_unit,
        )
