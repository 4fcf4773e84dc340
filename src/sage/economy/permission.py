"""The rule: permission = expertise x cheapness x persistence.

Owns: the three factors, the two forms they can be put together in, and the dial from cheapest to best.
Must not know: where the numbers come from.

The product is the rule's own form. The additive form, expertise - price / scale + ln(bonus), is the usual
utility of routers; `sage bench route` measures both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sage.economy.pool import LOADS_IN, Pool
from sage.errors import UsageError
from sage.types import Form, PriceUnit

__all__ = [
    "DIALS",
    "LEAST_LOAD_SCALE",
    "cheapness",
    "dial_named",
    "hot_bonus_at",
    "load_scale_at",
    "permission",
    "persistence",
    "price_scale_at",
    "scales",
    "usual_scale",
    "worth_of_permission",
]

Floats = npt.NDArray[np.float64]

DIALS: Mapping[str, float] = {"fast": 0.1, "balanced": 0.5, "deep": 1.0}
"""Settings of the dial that have a name: ``sage:fast`` to ``sage:deep``."""

LEAST_PERMISSION = 1e-9
"""Nothing is divided by less."""

USUAL_ANSWERS = 3.0
"""How many usual answers halve cheapness at the middle of the dial, where nobody sets a price (development
data, docs/adr/0011)."""

LOAD_DIAL = 0.75
"""Beyond this a load grows no cheaper: whoever wants quality alone waits for it all the same, and so do the
requests after it (docs/adr/0011)."""

LEAST_LOAD_SCALE = 10.0
"""ATP, where the scale is told from usual answers: however short they are, a load of ten seconds is not dear.
It serves the answers after it too, which nobody counts who asks once."""

LEAST_DIAL = 0.005
"""Below this the product form is value for price to four digits, whatever the dial."""


def dial_named(text: str) -> float:
    """The setting of the dial for ``fast``, ``balanced``, ``deep`` or a number from 0 to 1.

    Raises:
        UsageError: it is none of these.
    """
    try:
        dial = DIALS[text] if text in DIALS else float(text)
    except ValueError:
        dial = -1.0
    if not 0.0 <= dial <= 1.0:
        names = ", ".join(DIALS)
        raise UsageError(f"The dial has no setting {text!r}.", mend=f"Use {names} or a number from 0 to 1")
    return dial


def usual_scale(prices: Floats) -> float:
    """The price that halves cheapness at the middle of the dial, told from what a usual answer costs each
    candidate (n,), without loading: so the dial says the same on a small board and on a workstation.

    Of the candidates and not of what was chosen among them: else a lower dial, which makes answers cheaper,
    would lower the scale again. 1 where nothing costs anything, or there is nobody.
    """
    middle = float(np.median(prices)) if len(prices) else 0.0
    return USUAL_ANSWERS * middle if middle > 0.0 else 1.0


def scales(pool: Pool, unit: PriceUnit, given: float | Literal["auto"]) -> tuple[float, float]:
    """The prices of an answer, in ``unit``, and of a load, in ``LOADS_IN`` of it, that halve cheapness at the
    middle of the dial: the number ``given``, or told from usual answers, those of this pool. What counts in
    another unit than the number is told from them in any case."""
    if given != "auto" and LOADS_IN[unit] == unit:
        return given, given
    scale = usual_scale(pool.runs[unit][pool.open]) if given == "auto" else given
    return scale, max(usual_scale(pool.runs[LOADS_IN[unit]][pool.open]), LEAST_LOAD_SCALE)


def price_scale_at(base: float, dial: float) -> float:
    """The price that halves cheapness: ``base`` at the middle of the dial, towards 0 at the cheap end,
    infinite at the other, where price does not matter."""
    dial = max(dial, LEAST_DIAL)
    return base * (dial / (1.0 - dial)) ** 2 if dial < 1.0 else float("inf")


def hot_bonus_at(bonus: float, dial: float) -> float:
    """Persistence is about the price of loading, so it goes where price does not matter any more."""
    return 1.0 + (bonus - 1.0) * min(1.0, 2.0 * (1.0 - dial))


def load_scale_at(base: float, dial: float) -> float:
    """The same for what a load counts for: finite at every dial, so that no request loads for nothing."""
    return price_scale_at(base, min(dial, LOAD_DIAL))


def cheapness(price: Floats, *, scale: float, load: Floats | float = 0.0, load_scale: float = 1.0) -> Floats:
    """1 / (1 + price / scale + load / load_scale), in (0, 1]: one half where the price equals ``scale``.

    ``price`` is that of the answer, ``load`` what loading counts for beside it.
    """
    return 1.0 / (1.0 + price / scale + load / load_scale)


def persistence(resident: npt.NDArray[np.bool_], *, hot_bonus: float) -> Floats:
    """``hot_bonus`` (>= 1) for what is loaded, else 1: a cold candidate must be better by that factor."""
    return np.where(resident, hot_bonus, 1.0)


def permission(form: Form, expertise: Floats, cheap: Any, persist: Any) -> Floats:
    """The factors put together. Monotone in each: more expertise, a lower price or being loaded never hurts.

    The additive form takes the price back out of cheapness, so that both forms see the same three factors.
    """
    if form == "product":
        return np.asarray(expertise * cheap * persist)
    return np.asarray(expertise - (1.0 / cheap - 1.0) + np.log(persist))


def worth_of_permission(
    form: Form, permission: Floats, price: Floats, *, scale: float, load_scale: float
) -> Floats:
    """The price of a load that one unit of permission is worth to each candidate: how much dearer loading it
    could be for each unit that it has to spare. ``price`` is that of the answer. Finite at every dial."""
    if form == "additive":
        return np.full(len(price), load_scale)
    return load_scale * (1.0 + price / scale) / np.maximum(permission, LEAST_PERMISSION)
