"""Quality against cost for `sage bench route`: every router expects both quality and price of every model.

Owns: which routers are swept, and their expectations for questions they were not trained on.
Must not know: what a dial or a hull is.

Prices are learned as quality is, from the training questions: nobody knows beforehand what a call will cost.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sage.bench.arena import Arena, build_arena
from sage.bench.frontier import Points, aiq, sweep
from sage.bench.policies import Estimator
from sage.bench.route import Plan, splits
from sage.bench.route_data import Floats, Outcomes
from sage.bench.route_views import Views
from sage.bench.routers import Kmeans, Knn, Topic
from sage.bench.sage_policy import SageExpectation
from sage.types import Form

__all__ = ["measure_frontier"]

FORMS: Mapping[str, tuple[Form, ...]] = {
    "topic": ("additive",),
    "knn": ("additive",),
    "kmeans": ("additive",),
    "sage": ("additive", "product"),
}
"""In which forms each router puts quality and price together; the additive one is what routers usually do."""


def measure_frontier(
    outcomes: Outcomes, views: Views, plan: Plan, *, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row for each router, form, and for the lines of reference (``singles``, ``oracle``): AIQ and the
    points of its dial, as means over seeds. Empty where a price is unknown or all models cost the same."""
    price = outcomes.price
    if price is None or np.isnan(price).any() or not np.ptp(price.mean(0)) > 0.0:
        return []
    runs: dict[tuple[str, Form | None], list[Points]] = {}
    areas: dict[tuple[str, Form | None], list[float]] = {}
    for seed in range(plan.seeds):
        progress(f"{outcomes.name}, frontier: seed {seed + 1} of {plan.seeds}")
        quality, cost, rows = _expected(outcomes, views, plan, price, seed)
        scores, costs = outcomes.scores[rows], price[rows]
        swept: dict[tuple[str, Form | None], Points] = {
            ("singles", None): list(zip(costs.mean(0).tolist(), scores.mean(0).tolist(), strict=True)),
            ("oracle", "additive"): sweep(scores, costs, scores, costs, form="additive"),
        }
        for name, forms in FORMS.items():
            for form in forms:
                swept[name, form] = sweep(quality[name][rows], cost[name][rows], scores, costs, form=form)
        for key, points in swept.items():
            runs.setdefault(key, []).append(points)
            areas.setdefault(key, []).append(aiq(points, scores, costs))
    return [
        {
            "policy": name,
            "form": form,
            "aiq": round(statistics.fmean(areas[name, form]), 5),
            "aiq_sd": round(statistics.stdev(areas[name, form]) if plan.seeds > 1 else 0.0, 5),
            "points": np.round(np.mean(points, axis=0), 6).tolist(),
        }
        for (name, form), points in runs.items()
    ]


def _expected(
    outcomes: Outcomes, views: Views, plan: Plan, price: Floats, seed: int
) -> tuple[Mapping[str, Floats], Mapping[str, Floats], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Quality and price that each router expects (queries, models), and which rows were test questions."""
    quality = {name: np.zeros_like(price) for name in FORMS}
    cost = {name: np.zeros_like(price) for name in FORMS}
    tested = np.zeros(len(price), bool)
    for split in splits(outcomes, plan, seed):
        arena = build_arena(outcomes, views, split.train, split.test, first=None, seed=seed)
        tested[split.test] = True
        for name in FORMS:
            for target, into in ((outcomes.scores, quality), (price, cost)):
                estimator = _estimator(name, outcomes, arena)
                estimator.fit(arena.train, target[split.train])
                into[name][split.test] = estimator.estimate(arena.test)
    return quality, cost, tested


def _estimator(name: str, outcomes: Outcomes, arena: Arena) -> Estimator:
    if name == "sage":
        return SageExpectation(outcomes.models, arena.codebook)
    if name == "kmeans":
        return Kmeans(arena.seed)
    return Knn() if name == "knn" else Topic()
