"""Quality at equal cost: the cascade beside every single model and the router that chooses once.

Owns: the family of policies at every price, choosing among them on training questions, and the comparison.
Must not know: how a policy is played.

A family is a set of policies and every mixture of two of them (a coin decides which one takes a question), so
that there is a policy for every budget. The single models and the router are members of the cascade's family:
it cascades only where that pays on the training questions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sage.bench.cascade import Learned, Played, Policy, Questions, Recorded
from sage.bench.frontier import Points, hull
from sage.bench.route_data import Floats

__all__ = ["Curves", "compare_at_cost", "cost_curves"]

ALPHA = 1.5
"""Of :class:`sage.economy.opinions.Weights`: spending is bounded by price here, not by calls."""

RATES = tuple(float(rate) for rate in np.geomspace(0.01, 3.0, 14))
"""What the price of the best single model counts in quality when the first model is chosen."""

SHARES = (0.1, 0.3, 1.0)
"""What a price counts in gain for a further opinion, as a share of its rate. 1 if gain were quality."""

BUDGETS = tuple(float(share) for share in np.geomspace(0.02, 2.0, 41))
"""Budgets a question, in prices of the best single model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """Mean price and quality on test questions. ``singles`` by model; ``router`` and ``cascade`` for each of
    BUDGETS and then for each single model's price. ``unit`` is the price of the best single model."""

    singles: Mapping[str, tuple[float, float]]
    router: Points
    cascade: Points
    unit: float


def cost_curves(train: Recorded, test: Recorded) -> Curves | None:
    """Learn on ``train``, choose policies there, measure them on ``test``; models without a known price are
    left out. None where fewer than two have one."""
    known = np.nonzero(~np.isnan(train.price).any(0) & ~np.isnan(test.price).any(0))[0]
    if len(known) < 2 or not np.ptp(train.price[:, known].mean(0)) > 0.0:
        return None
    learned = Learned(train.models_at(known))
    tests = learned.new(test.models_at(known))
    sample = learned.train
    prices = learned.train.data.price.mean(0)
    unit = float(prices[learned.train.data.scores.mean(0).argmax()])
    router = [Policy(first=rate / unit, further=math.inf, alpha=ALPHA) for rate in (0.0, *RATES)]
    further = [
        Policy(first=rate / unit, further=share * rate / unit, alpha=ALPHA)
        for rate in RATES
        for share in SHARES
    ]
    members: list[int | Policy] = [*range(len(known)), *router]
    budgets = [*(share * unit for share in BUDGETS), *prices.tolist()]
    return Curves(
        singles={
            name: (float(tests.data.price[:, model].mean()), float(tests.data.scores[:, model].mean()))
            for model, name in enumerate(tests.data.models)
        },
        router=_at_budgets(learned, sample, tests, members, budgets),
        cascade=_at_budgets(learned, sample, tests, [*members, *further], budgets),
        unit=unit,
    )


def _at_budgets(
    learned: Learned,
    sample: Questions,
    tests: Questions,
    members: Sequence[int | Policy],
    budgets: Sequence[float],
) -> Points:
    """Where the best mixture of members for each budget, by the sample, comes out on the test questions."""

    def point(member: int | Policy, questions: Questions) -> tuple[float, float]:
        played = _play(learned, questions, member)
        return float(played.price.mean()), float(played.score.mean())

    points = [point(member, sample) for member in members]
    corners = hull(points)
    at = [price for price, _ in corners]
    came = np.array([point(members[points.index(corner)], tests) for corner in corners])
    return [
        (float(np.interp(budget, at, came[:, 0])), float(np.interp(budget, at, came[:, 1])))
        for budget in budgets
    ]


def _play(learned: Learned, questions: Questions, member: int | Policy) -> Played:
    if isinstance(member, Policy):
        return learned.play(questions, member)
    data = questions.data
    return Played(score=data.scores[:, member], calls=np.ones(len(data.scores)), price=data.price[:, member])


def compare_at_cost(parts: Iterable[Curves]) -> dict[str, Any]:
    """Curves of several splits as one: ``points`` of each family in prices of the best single model, and a
    row for each single model with the quality of both families at its price.

    Raises:
        ValueError: no curves.
    """
    curves = list(parts)
    if not curves:
        raise ValueError("there are no curves to compare")
    unit = statistics.fmean(curve.unit for curve in curves)
    singles = {name: np.mean([curve.singles[name] for curve in curves], axis=0) for name in curves[0].singles}
    family = {
        "router": np.mean([curve.router for curve in curves], axis=0),
        "cascade": np.mean([curve.cascade for curve in curves], axis=0),
    }
    rows = []
    for name, (price, quality) in sorted(singles.items(), key=lambda item: float(item[1][0])):
        row: dict[str, Any] = {"model": name, "cost": _round(price / unit), "single": _round(quality)}
        row.update({key: _round(_quality_at(points, price)) for key, points in family.items()})
        rows.append(row)
    points = {key: _scaled(came[: len(BUDGETS)], unit) for key, came in family.items()}
    points["singles"] = _scaled(np.array(list(singles.values())), unit)
    return {"points": points, "at_cost_of": rows, "unit": unit}


def _quality_at(points: Floats, price: float) -> float:
    """Quality of a family at a price, between the points that it was measured at."""
    points = points[np.argsort(points[:, 0], kind="stable")]
    return float(np.interp(price, points[:, 0], points[:, 1]))


def _scaled(points: Floats, unit: float) -> list[list[float]]:
    return [[_round(price / unit), _round(quality)] for price, quality in points]


def _round(value: float) -> float:
    return round(float(value), 5)
