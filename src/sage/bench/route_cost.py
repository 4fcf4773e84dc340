"""Quality against cost for `sage bench route`: every router expects both quality and price of every model.

Owns: which routers are swept, and their expectations for questions they were not trained on.
Must not know: what a dial or a hull is.

Prices are learned as quality is, from the training questions: nobody knows beforehand what a call will cost.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sage.bench.arena import Arena, build_arena
from sage.bench.cascade_cost import Curves, compare_at_cost
from sage.bench.frontier import Points, aiq, sweep
from sage.bench.policies import Estimator
from sage.bench.route import Plan, splits
from sage.bench.route_cascade import cascade_curves
from sage.bench.route_data import Floats, Ints, Outcomes, of_models
from sage.bench.route_views import Views
from sage.bench.routers import Kmeans, Knn, Ridge, Topic
from sage.bench.sage_policy import SageExpectation
from sage.types import Form

__all__ = ["measure_frontier"]

FORMS: Mapping[str, tuple[Form, ...]] = {
    "topic": ("additive",),
    "knn": ("additive",),
    "kmeans": ("additive",),
    "ridge": ("additive",),
    "sage": ("additive", "product"),
}
"""In which forms each router puts quality and price together; the additive one is what routers usually do."""


def measure_frontier(
    outcomes: Outcomes, views: Views, plan: Plan, *, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """One row for each router and form, for the cascade where answers were recorded, and for the lines of
    reference (``singles``, ``oracle``): AIQ and the points of its dial, as means over seeds. Then what the
    cascade does at the price of each single model, see :func:`sage.bench.cascade_cost.compare_at_cost`.

    Models whose price is unknown are left out; empty where fewer than two are left or all cost the same.
    """
    if outcomes.price is None:
        return [], None
    outcomes = of_models(outcomes, np.flatnonzero(~np.isnan(outcomes.price).any(0)).tolist())
    price = outcomes.price
    if price is None or price.shape[1] < 2 or not np.ptp(price.mean(0)) > 0.0:
        return [], None
    swept: dict[tuple[str, Form | None], list[tuple[Points, float]]] = defaultdict(list)
    curves: list[Curves] = []
    for seed in range(plan.seeds):
        progress(f"{outcomes.name}, frontier: seed {seed + 1} of {plan.seeds}")
        expected = {name: _Expected.of(price.shape) for name in FORMS}
        tested = np.zeros(len(price), bool)
        cascade: list[tuple[Points, Ints]] = []
        for number, split in enumerate(splits(outcomes, plan, seed)):
            arena = build_arena(outcomes, views, split.train, split.test, first=None, seed=seed)
            tested[split.test] = True
            for name, into in expected.items():
                for target, values in ((outcomes.scores, into.quality), (price, into.price)):
                    estimator = _estimator(name, outcomes, arena)
                    estimator.fit(arena.train, target[split.train])
                    values[split.test] = estimator.estimate(arena.test)
            if plan.runs("bandit", seed, number):  # its curves take as long as a bandit's walk
                curve = cascade_curves(outcomes, arena, split.train, split.test)
                if curve is not None:
                    curves.append(curve)
                    cascade.append((curve.cascade, split.test))
        scores, costs = outcomes.scores[tested], price[tested]
        lines: dict[tuple[str, Form | None], Points] = {
            ("singles", None): list(zip(costs.mean(0).tolist(), scores.mean(0).tolist(), strict=True)),
            ("oracle", "additive"): sweep(scores, costs, scores, costs, form="additive"),
        }
        for name, forms in FORMS.items():
            quality, cost = expected[name].quality[tested], expected[name].price[tested]
            for form in forms:
                lines[name, form] = sweep(quality, cost, scores, costs, form=form)
        for key, points in lines.items():
            swept[key].append((points, aiq(points, scores, costs)))
        if cascade:
            rows = np.concatenate([test for _, test in cascade])
            sizes = [len(test) for _, test in cascade]
            mixed = np.average([points for points, _ in cascade], axis=0, weights=sizes).tolist()
            area = aiq(mixed, outcomes.scores[rows], price[rows])
            swept["sage_cascade", None].append((mixed, area))
    found = [_row(name, form, runs) for (name, form), runs in swept.items()]
    return found, compare_at_cost(curves) if curves else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expected:
    """What a router expects of questions it was not trained on, (queries, models) each."""

    quality: Floats
    price: Floats

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> _Expected:
        return cls(quality=np.zeros(shape), price=np.zeros(shape))


def _row(name: str, form: Form | None, runs: Sequence[tuple[Points, float]]) -> dict[str, Any]:
    areas = [area for _, area in runs]
    return {
        "policy": name,
        "form": form,
        "aiq": round(statistics.fmean(areas), 5),
        "aiq_sd": round(statistics.stdev(areas) if len(areas) > 1 else 0.0, 5),
        "points": np.round(np.mean([points for points, _ in runs], axis=0), 6).tolist(),
    }


def _estimator(name: str, outcomes: Outcomes, arena: Arena) -> Estimator:
    if name == "sage":
        return SageExpectation(outcomes.models, arena.codebook)
    if name == "kmeans":
        return Kmeans(arena.seed)
    if name == "ridge":
        return Ridge()
    return Knn() if name == "knn" else Topic()
