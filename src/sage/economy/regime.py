"""What each metabolic state allows: budgets, candidates, drafts, exploring, background work, recovery.

Owns: the regimes, and the arithmetic that applies them. Must not know: how a state comes about.

Each field lowers cost or saves the machine in the states that are short of something; CRISIS has the least of
everything, and still answers what can be answered cheaply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sage.economy.strain import Readings
from sage.types import MetabolicState

__all__ = [
    "LEAST_GRANT",
    "REGIMES",
    "Background",
    "Regime",
    "drafts_allowed",
    "grant_for",
    "keep_cheapest",
    "recovery_factor",
]

Background = Literal["none", "light", "full"]
"""Work that nobody waits for: ``light`` is what serves the next request (loading ahead, vectors that are
missing), ``full`` also sleep."""

LEAST_GRANT = 1.0
"""ATP: below this a prediction is mostly noise."""

ON_BATTERY = 0.5
"""Recovery away from the mains: every joule is one that must last."""

WARM, HOT, HEAT_LEAVES = 0.88, 1.0, 0.25
"""Shares of the temperature limit between which recovery falls from whole to the last figure: a worker that
runs half of the time gives the machine the other half to cool."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """What a state allows.

    ``budget``: the ATP of one request, relative to ``atp.grant``. ``candidates``: how many of the cheapest
    that can do the work may be chosen from; None: all. ``drafts``: relative to ``irp.max_steps``.
    ``explore``: whether a model may be tried in order to learn. ``background``: work that nobody waits for.
    ``recovery``: relative to ``atp.recovery_per_s``.
    """

    budget: float
    candidates: int | None
    drafts: float
    explore: bool
    background: Background
    recovery: float


REGIMES: Mapping[MetabolicState, Regime] = {
    "WAKE": Regime(budget=1.0, candidates=None, drafts=1.0, explore=True, background="light", recovery=1.0),
    # Focus lives on reserves: it spends more and earns less, so that it ends by itself.
    "FOCUS": Regime(budget=2.0, candidates=None, drafts=2.0, explore=False, background="none", recovery=0.5),
    "REST": Regime(budget=0.5, candidates=4, drafts=0.67, explore=False, background="light", recovery=1.5),
    "DREAM": Regime(budget=0.5, candidates=4, drafts=0.34, explore=False, background="full", recovery=1.0),
    # Two, so that one may fail.
    "CRISIS": Regime(budget=0.2, candidates=2, drafts=0.0, explore=False, background="none", recovery=1.0),
}
"""Recovery in CRISIS is whole: heat and battery lower it where they are the need, and the way out of an empty
budget is not made longer."""


def grant_for(
    want: float, *, usual: float, salience: float, regime: Regime, balance: float, floor: float = LEAST_GRANT
) -> float:
    """The ATP to set aside for a request that wants so many, of the ``balance`` there is.

    The ceiling is ``usual`` (``atp.grant``) in this regime, from half of it at salience 0 to one and a half
    at 1; never under ``floor``, so that what is cheap is always begun. Never negative.
    """
    weight = 0.5 + min(1.0, max(0.0, salience))
    return max(0.0, min(want, balance, max(usual * regime.budget * weight, floor)))


def drafts_allowed(most: int, regime: Regime) -> int:
    """The most drafts for one answer, where WAKE allows ``most``; one at least."""
    return max(1, round(most * regime.drafts))


def keep_cheapest(
    ok: npt.NDArray[np.bool_], prices: npt.NDArray[np.float64], most: int | None
) -> npt.NDArray[np.bool_]:
    """The mask ``ok`` (candidates,) less all but its ``most`` cheapest; the earlier of equals stays. Somebody
    stays wherever somebody was."""
    lines = np.flatnonzero(ok)
    if most is None or len(lines) <= most:
        return ok
    kept = np.zeros_like(ok)
    kept[lines[np.argsort(prices[lines], kind="stable")[: max(1, most)]]] = True
    return kept


def recovery_factor(regime: Regime, readings: Readings) -> float:
    """What one second brings in this regime, by the power there is and the heat, relative to
    ``atp.recovery_per_s``. Above 0: what is spent always comes back."""
    factor = regime.recovery
    if not readings.on_mains and readings.battery is not None:
        factor *= ON_BATTERY
    heat = (readings.temperature - WARM) / (HOT - WARM)
    return factor * (1.0 - (1.0 - HEAT_LEAVES) * min(1.0, max(0.0, heat)))
