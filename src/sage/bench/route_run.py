"""From two folders to the result of `sage bench route`.

Owns: the order of the steps, and what a result says about itself. Must not know: how anything is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage.bench.arena import FIRST_TEXTS
from sage.bench.policies import Mode
from sage.bench.route import Plan, measure_route
from sage.bench.route_cost import measure_frontier
from sage.bench.route_data import load_outcomes, matched, pooled
from sage.bench.route_rows import DEFINITIONS
from sage.bench.route_views import embed_texts, open_named_embedder
from sage.errors import UsageError

__all__ = ["RouteOptions", "run_route", "table_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteOptions:
    """What to measure; ``test`` None cross-validates on ``train``."""

    train: Path
    test: Path | None
    modes: tuple[Mode, ...]
    models: str = "*"
    seeds: int = 5
    folds: int = 5
    leave_out_categories: bool = False
    embedder: str = "auto"


def run_route(options: RouteOptions, home: Path, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """``settings``, ``results`` (a row for each policy and mode), ``frontier`` (rows where there is cost) and
    ``equal_cost`` (the cascade at the price of each single model, or None).

    Raises:
        NotFound, UsageError: what is wrong with the data, or options that do not go together.
        BackendMissing: the embedder that was asked for is not here.
    """
    began = time.perf_counter()
    if options.test is not None and options.leave_out_categories:
        raise UsageError(
            "Leaving out categories cross-validates on the training set.", mend="Leave out --test"
        )
    train = load_outcomes(options.train, models=options.models)
    test = None if options.test is None else load_outcomes(options.test, models=options.models)
    outcomes = train if test is None else pooled(train, test := matched(test, train))
    _enough(len(train.ids), len(set(train.categories)), options)
    embedder = open_named_embedder(home, options.embedder)
    views = embed_texts(train.texts, embedder, home, progress=progress)
    if test is not None:
        views = views.then(embed_texts(test.texts, embedder, home, progress=progress))
    plan = Plan(
        modes=options.modes,
        seeds=options.seeds,
        folds=options.folds,
        trained=None if test is None else len(train.ids),
        leave_out_categories=options.leave_out_categories,
    )
    results, notes = measure_route(outcomes, views, plan, progress=progress)
    frontier: list[dict[str, Any]] = []
    equal_cost: dict[str, Any] | None = None
    if "full" in plan.modes:
        frontier, equal_cost = measure_frontier(outcomes, views, plan, progress=progress)
    settings = {
        "data": outcomes.name,
        "queries": {"train": len(train.ids), "test": None if test is None else len(test.ids)},
        "categories": len(set(outcomes.categories)),
        "models": list(outcomes.models),
        "split": plan.split if plan.split != "folds" else f"{plan.folds} folds, drawn anew for each seed",
        "seeds": list(range(plan.seeds)),
        "embedder": views.embedder,
        "price_unit": outcomes.price_unit,
        "seconds": round(time.perf_counter() - began, 1),
        "notes": notes,
        "codebook": "fitted on the training texts; with bandit feedback on the first "
        f"{FIRST_TEXTS} of the stream, which are read without outcomes; drawn anew for each seed",
        "repetition": "bandits: one fold a seed, or every category once",
        "definitions": dict(DEFINITIONS),
    }
    return {"settings": settings, "results": results, "frontier": frontier, "equal_cost": equal_cost}


def table_of(results: Sequence[Mapping[str, Any]], *, worst: bool) -> list[dict[str, Any]]:
    """The results as rows for people: percent, and a dash where nothing was measured. ``worst`` shows
    the worst category too."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100.0 * value:.2f}"

    return [
        {
            "policy": row["policy"]
            if row["ceiling"] is None
            else f"{row['policy'].removeprefix('sage_')} {row['ceiling']:g}",
            "mode": row["mode"],
            "score %": percent(row["score"]),
            "macro %": percent(row["score_macro"]),
            "sd": percent(row["score_sd"]),
            "online %": percent(row.get("online")),
            "calls": f"{row['calls']:.2f}",
            "cost": "-" if row["cost"] is None else f"{row['cost']:.3g}",
            **({"worst %": percent(row.get("worst_category"))} if worst else {}),
            "us": "-" if row["us_per_decision"] is None else f"{row['us_per_decision']:.0f}",
        }
        for row in results
    ]


def _enough(queries: int, categories: int, options: RouteOptions) -> None:
    if options.test is None and options.leave_out_categories and categories < 2:
        raise UsageError("One category cannot be left out of one.", mend="Leave out --leave-out-categories")
    if options.test is None and not options.leave_out_categories and queries < 2 * options.folds:
        raise UsageError(
            f"{queries} questions cannot make {options.folds} folds.", mend="Use fewer --folds, or more data"
        )
