"""`sage bench residency`: every policy over every stream, from a folder of outcomes to rows.

Owns: the split, the order of the steps, the figures. Must not know: how any policy chooses.

A seed draws half of the questions as history, of which every policy may know everything, and streams from the
other half.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sage.bench.arena import Arena, build_arena
from sage.bench.residency.belady import fewest_loads
from sage.bench.residency.contender import Sage
from sage.bench.residency.peers import BestSingle, Clairvoyant, Gdsf, KeepAlive, Lru, MinEvictCost
from sage.bench.residency.simulate import Policy, Run, simulate
from sage.bench.residency.streams import STREAMS, Stream, make_stream
from sage.bench.residency.world import World, fitting, folder_world, shipped_world
from sage.bench.route_data import Floats, Ints, Outcomes
from sage.bench.route_views import Views, embed_texts, open_named_embedder
from sage.bench.routers import Knn
from sage.bench.sage_policy import book_of
from sage.economy.ledger import JOULES_PER_ATP, SECONDS_PER_ATP
from sage.errors import UsageError

__all__ = ["DEFINITIONS", "ResidencyOptions", "Trained", "run_residency", "table_of", "train"]

GB = 1e9

DIAL = 0.9
"""The rivals' router looks at quality alone, so SAGE is turned towards quality, and as far as it still counts
what an answer takes. Chosen on development data (docs/adr/0011)."""

OTHER_DIALS = (0.5, 0.75)
"""Shown beside it."""

PRICE_SHARE = 0.25
"""``selector.price_scale`` as a share of a usual answer's price: what is dear depends on the machine."""

HOT_BONUS = 1.2
"""As ``selector.hot_bonus`` is by default."""

WATTS = JOULES_PER_ATP / SECONDS_PER_ATP
"""Of a worker that loads or answers: the figure that ATP are converted by."""

USUAL_BUDGET, MOST_GB = 8.0, 1e6

ROOM = 1.02
"""Of the largest model: a budget that holds it, and seldom another beside it."""

SHARE_NEAR = 20
"""Neighbours of the router: one in so many of the history, 10 at least, at most what suits thousands."""

DEFINITIONS: Mapping[str, str] = {
    "swaps": "models loaded; the first ones into the empty memory count too",
    "quality": "mean recorded score of the answers; quality_sd over seeds",
    "cold_seconds_per_1k": "seconds of loading for 1,000 requests",
    "p95_wait_s": "from a request's arrival to the start of its answer: the queue, and the load",
    "budget_violations": "moments at which models in memory took more than the budget, by a count of its own",
    "joules_per_correct": f"{WATTS:g} W while loading or answering, for each point of score; idling is free",
    "quality_per_s": "score for each second of loading or answering",
    "belady_swaps": "the fewest loads that serve the same sequence of choices (dynamic programming)",
    "swaps_to_belady": "swaps / belady_swaps; 'exact' says whether that is proved to be the fewest",
    "belady": "the router's choices with that fewest number of loads: clairvoyant",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidencyOptions:
    """What to measure; ``data`` None takes the shipped measurement of real models. ``budget_gb`` None is 8
    for data, and what holds the largest model alone for the shipped ones, which would all fit into 8."""

    data: Path | None
    budget_gb: float | None = None
    requests: int = 5000
    seeds: int = 3
    dial: float = DIAL
    embedder: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """What a seed's history has taught. ``routed`` (questions,) the router's choice, ``expected`` (questions,
    models) its estimates; ``best``, the best model overall; ``usual_s``, seconds of a usual answer: by the
    models that the router chooses."""

    world: World
    arena: Arena
    history: Ints
    rest: Ints
    routed: Ints
    expected: Floats
    best: int
    usual_s: float

    def sage(self, dial: float, *, name: str = "sage") -> Sage:
        """SAGE as of the end of the history, with nothing loaded."""
        world, queries = self.world, self.arena.train
        return Sage(
            world,
            self.history,
            self.arena.test.contexts,
            book_of(self.arena.codebook, queries, world.scores[self.history], [m.name for m in world.models]),
            dial=dial,
            price_scale=PRICE_SHARE * self.usual_s,
            hot_bonus=HOT_BONUS,
            name=name,
        )


def run_residency(
    options: ResidencyOptions, home: Path, disk_bytes_s: float, *, progress: Callable[[str], None]
) -> dict[str, Any]:
    """``settings`` and ``rows``, one for each policy and stream.

    Raises:
        NotFound, UsageError: what is wrong with the data or the options.
    """
    began = time.perf_counter()
    if options.requests < 1 or options.seeds < 1:
        raise UsageError("There must be a request and a seed.", mend="Use --requests 5000 --seeds 3")
    if options.budget_gb is not None and not 0.0 < options.budget_gb < MOST_GB:
        raise UsageError(f"{options.budget_gb:g} GB are no budget.", mend="Use --budget-gb 8")
    if options.data is None:
        world = shipped_world(disk_bytes_s)
        default = ROOM * max(model.bytes for model in world.models) / GB
    else:
        world, default = folder_world(options.data, disk_bytes_s), USUAL_BUDGET
    budget_gb = default if options.budget_gb is None else options.budget_gb
    budget = round(budget_gb * GB)
    world = fitting(world, budget)
    for name, why in world.left_out.items():
        progress(f"left out: {name} ({why})")
    views = embed_texts(world.texts, open_named_embedder(home, options.embedder), home, progress=progress)
    measured: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for seed in range(options.seeds):
        trained = train(world, views, seed)
        for number, kind in enumerate(STREAMS):
            stream = make_stream(
                kind,
                trained.rest,
                world.categories,
                trained.expected,
                [model.bytes for model in world.models],
                budget=budget,
                usual_s=trained.usual_s,
                requests=options.requests,
                random=np.random.default_rng([seed, number]),
            )
            for name, figures in _serve(trained, stream, budget, options.dial):
                measured[name, kind].append(figures)
            progress(f"seed {seed + 1} of {options.seeds}, {kind}: {time.perf_counter() - began:.0f} s")
    names = list(dict.fromkeys(name for name, _ in measured))
    return {
        "settings": {
            "data": world.name,
            "questions": len(world.ids),
            "models": {
                m.name: {"gb": round(m.bytes / GB, 2), "load_s": round(m.load_s, 2)} for m in world.models
            },
            "left_out": dict(world.left_out),
            "budget_gb": round(budget_gb, 3),
            "requests": options.requests,
            "seeds": list(range(options.seeds)),
            "split": "half of the questions are history, drawn anew for each seed; the others are asked",
            "dial": options.dial,
            "price_scale": f"{PRICE_SHARE:g} of a usual answer, in ATP",
            "disk_gb_s": round(disk_bytes_s / GB, 2),
            "embedder": views.embedder,
            "watts": WATTS,
            "seconds": round(time.perf_counter() - began, 1),
            "definitions": dict(DEFINITIONS),
        },
        "rows": [
            {"policy": name, "stream": kind, **_summary(measured[name, kind])}
            for kind in STREAMS
            for name in names
        ],
    }


def train(world: World, views: Views, seed: int) -> Trained:
    """Split the questions and learn from the history."""
    order = np.random.default_rng(seed).permutation(len(world.ids))
    history, rest = order[: len(order) // 2], np.sort(order[len(order) // 2 :])
    every = np.arange(len(order))
    arena = build_arena(_outcomes(world), views, history, every, first=None, seed=seed)
    router = Knn()
    router.NEIGHBOURS = min(Knn.NEIGHBOURS, max(10, len(history) // SHARE_NEAR))
    router.fit(arena.train, world.scores[history])
    expected = router.estimate(arena.test)
    routed, best = expected.argmax(1), int(world.scores[history].mean(0).argmax())
    return Trained(
        world=world,
        arena=arena,
        history=history,
        rest=rest,
        routed=routed,
        expected=expected,
        best=best,
        usual_s=float(world.run_s[history, routed[history]].mean()),
    )


def table_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as people read them."""
    return [
        {
            "stream": row["stream"],
            "policy": row["policy"],
            "quality %": f"{100 * row['quality']:.2f}",
            "swaps": f"{row['swaps']:.0f}",
            "x belady": "-" if row["swaps_to_belady"] is None else f"{row['swaps_to_belady']:.2f}",
            "cold s/1k": f"{row['cold_seconds_per_1k']:.0f}",
            "p95 wait s": f"{row['p95_wait_s']:.1f}",
            "over budget": row["budget_violations"],
            "J/correct": f"{row['joules_per_correct']:.3g}",
            "quality/s": f"{row['quality_per_s']:.4f}",
        }
        for row in rows
    ]


def _serve(trained: Trained, stream: Stream, budget: int, dial: float) -> list[tuple[str, dict[str, float]]]:
    """Every policy over one stream."""
    sizes = [model.bytes for model in trained.world.models]
    asked = trained.routed[stream.rows].tolist()
    plan = fewest_loads(asked, sizes, budget)
    others = [d for d in OTHER_DIALS if d != dial]
    policies: list[Policy] = [
        trained.sage(dial),
        *(trained.sage(other, name=f"sage dial {other:g}") for other in others),
        Lru(trained.routed),
        KeepAlive(trained.routed),
        MinEvictCost(trained.routed),
        Gdsf(trained.routed),
        Clairvoyant(asked, plan),
        BestSingle(trained.best),
    ]
    found = []
    for policy in policies:
        run = simulate(trained.world, stream, policy, budget=budget)
        routed = list(run.chosen) == asked
        bound = plan if routed else fewest_loads(run.chosen, sizes, budget)
        found.append((policy.name, {**_figures(run), "belady": len(bound.loads), "exact": bound.exact}))
    return found


def _figures(run: Run) -> dict[str, float]:
    busy, score = run.cold_s + float(run.run_s.sum()), float(run.quality.sum())
    return {
        "quality": float(run.quality.mean()),
        "swaps": len(run.loads),
        "cold_seconds_per_1k": 1000.0 * run.cold_s / len(run.chosen),
        "p95_wait_s": float(np.quantile(run.wait_s, 0.95)),
        "budget_violations": run.violations,
        "joules_per_correct": WATTS * busy / score if score else float("inf"),
        "quality_per_s": score / busy,
        "busy_s_per_request": busy / len(run.chosen),
        "ms_per_decision": 1e3 * float(np.median(run.decide_s)),
    }


def _summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means over seeds; violations add up."""

    def mean(key: str) -> float:
        return statistics.fmean(run[key] for run in runs)

    qualities = [run["quality"] for run in runs]
    return {
        "quality": round(mean("quality"), 4),
        "quality_sd": round(statistics.stdev(qualities), 4) if len(runs) > 1 else None,
        "swaps": round(mean("swaps"), 1),
        "swaps_low": min(run["swaps"] for run in runs),
        "swaps_high": max(run["swaps"] for run in runs),
        "belady_swaps": round(mean("belady"), 1),
        "swaps_to_belady": round(mean("swaps") / mean("belady"), 3),
        "exact": all(run["exact"] for run in runs),
        "cold_seconds_per_1k": round(mean("cold_seconds_per_1k"), 2),
        "p95_wait_s": round(mean("p95_wait_s"), 3),
        "budget_violations": int(sum(run["budget_violations"] for run in runs)),
        "joules_per_correct": round(mean("joules_per_correct"), 3),
        "quality_per_s": round(mean("quality_per_s"), 5),
        "busy_s_per_request": round(mean("busy_s_per_request"), 4),
        "ms_per_decision": round(mean("ms_per_decision"), 4),
    }


def _outcomes(world: World) -> Outcomes:
    """The world as the arena reads it."""
    return Outcomes(
        name=world.name,
        ids=world.ids,
        texts=world.texts,
        categories=world.categories,
        models=tuple(model.name for model in world.models),
        params_b=(None,) * len(world.models),
        scores=world.scores,
    )
