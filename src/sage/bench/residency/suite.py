"""`sage bench residency`: every policy over every stream, from a folder of outcomes to rows.

Owns: the order of the steps, and how busy the streams are. Must not know: how any policy chooses, what the
figures are.

A seed draws half of the questions as history, of which every policy may know everything, and streams from the
other half. SAGE has the settings of a new installation.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sage.bench.residency.belady import fewest_loads
from sage.bench.residency.claims import CLAIMS, Judged, judge
from sage.bench.residency.figures import DEFINITIONS, POLICIES, WATTS, figures, models_needed, summary
from sage.bench.residency.learned import SELECTOR, Trained, train
from sage.bench.residency.peers import BestSingle, Clairvoyant, Gdsf, KeepAlive, Lru, MinEvictCost
from sage.bench.residency.simulate import Policy, simulate
from sage.bench.residency.streams import STREAMS, Stream, StreamKind, make_stream
from sage.bench.residency.world import GB, fitting, folder_world, shipped_world
from sage.bench.route_views import embed_texts, open_named_embedder
from sage.economy.permission import DIALS
from sage.errors import UsageError

__all__ = [
    "JUDGED",
    "LOAD",
    "Figures",
    "ResidencyOptions",
    "claim_rows",
    "draw_stream",
    "gap_s",
    "measure_policies",
    "run_residency",
    "sage_settings",
]

LOAD = 0.6
"""Share of the time that answering takes if the best model answers everything: who is not slower than that
keeps up. By ``day``: at noon."""

USUAL_BUDGET_GB, MOST_GB = 8.0, 1e6

JUDGED = ("sage", "sage:deep")

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidencyOptions:
    """What to measure; ``data`` None takes the shipped measurement of real models. ``budget_gb`` None is 8
    for data; for the shipped models, which would all fit into 8, what holds half of their bytes and the
    largest."""

    data: Path | None
    budget_gb: float | None = None
    requests: int = 5000
    seeds: int = 10
    embedder: str = "auto"

    def __post_init__(self) -> None:
        if self.requests < 1 or self.seeds < 1:
            raise UsageError("There must be a request and a seed.", mend="Use --requests 5000 --seeds 10")
        if self.budget_gb is not None and not 0.0 < self.budget_gb < MOST_GB:
            raise UsageError(f"{self.budget_gb:g} GB are no budget.", mend="Use --budget-gb 8")


def run_residency(
    options: ResidencyOptions, home: Path, disk_bytes_s: float, *, progress: Callable[[str], None]
) -> dict[str, Any]:
    """``settings``, ``rows``, one for each policy and stream, and ``claims``: by stream, what was judged.

    Raises:
        NotFound, UsageError: what is wrong with the data.
    """
    began = time.perf_counter()
    if options.data is None:
        world = shipped_world(disk_bytes_s)
        default = world.usual_budget / GB
    else:
        world, default = folder_world(options.data, disk_bytes_s), USUAL_BUDGET_GB
    budget_gb = default if options.budget_gb is None else options.budget_gb
    budget = round(budget_gb * GB)
    world = fitting(world, budget)
    for name, why in world.left_out.items():
        progress(f"left out: {name} ({why})")
    views = embed_texts(world.texts, open_named_embedder(home, options.embedder), home, progress=progress)
    measured: dict[StreamKind, dict[str, list[Figures]]] = {kind: defaultdict(list) for kind in STREAMS}
    gaps = []
    for seed in range(options.seeds):
        trained = train(world, views, seed)
        gaps.append(gap_s(trained))
        for kind in STREAMS:
            stream = draw_stream(trained, kind, seed, budget=budget, requests=options.requests)
            for name, found in measure_policies(trained, stream, budget):
                measured[kind][name].append(found)
            progress(f"seed {seed + 1} of {options.seeds}, {kind}: {time.perf_counter() - began:.0f} s")
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
            "arrivals": f"random; the best model alone would be busy {LOAD:.0%} of the time (day: at noon)",
            "gap_s": [round(gap, 2) for gap in gaps],
            **sage_settings(),
            **({} if options.data is None else {"disk_gb_s": round(disk_bytes_s / GB, 2)}),
            "embedder": views.embedder,
            "watts": WATTS,
            "seconds": round(time.perf_counter() - began, 1),
            "policies": dict(POLICIES),
            "definitions": dict(DEFINITIONS),
            "claims": dict(CLAIMS),
        },
        "rows": [
            {"policy": name, "stream": kind, **summary(runs)}
            for kind, policies in measured.items()
            for name, runs in policies.items()
        ],
        "claims": {
            kind: [each for policy in JUDGED for each in judge(policies, policy)]
            for kind, policies in measured.items()
        },
    }


def sage_settings() -> Mapping[str, Any]:
    """What SAGE runs with, as the result file tells it."""
    return {
        "dial": SELECTOR.dial,
        "price_scale": SELECTOR.price_scale,
        "hot_bonus": SELECTOR.hot_bonus,
        "chosen_on": "development data, as were the constants of docs/adr/0011",
    }


def claim_rows(claims: Mapping[str, Sequence[Judged]]) -> list[dict[str, Any]]:
    """As a result file holds them."""
    return [{"stream": kind, **asdict(each)} for kind, judged in claims.items() for each in judged]


def gap_s(trained: Trained) -> float:
    """Seconds between requests: what the best model takes on average, for ``LOAD`` of the time."""
    return float(trained.world.run_s[trained.history, trained.best].mean()) / LOAD


def draw_stream(trained: Trained, kind: StreamKind, seed: int, *, budget: int, requests: int) -> Stream:
    """The same stream for the same seed."""
    world = trained.world
    return make_stream(
        kind,
        trained.rest,
        world.categories,
        trained.expected,
        [model.bytes for model in world.models],
        budget=budget,
        gap_s=gap_s(trained),
        requests=requests,
        random=np.random.default_rng([seed, STREAMS.index(kind)]),
    )


def measure_policies(trained: Trained, stream: Stream, budget: int) -> Iterator[tuple[str, Figures]]:
    """Every policy over one stream."""
    sizes = [model.bytes for model in trained.world.models]
    asked = trained.routed[stream.rows].tolist()
    plan = fewest_loads(asked, sizes, budget)
    policies: list[Policy] = [
        trained.sage(),
        trained.sage("sage:deep", dial=DIALS["deep"]),
        Lru(trained.routed),
        KeepAlive(trained.routed),
        MinEvictCost(trained.routed),
        Gdsf(trained.routed),
        Clairvoyant(asked, plan),
        Lru(trained.thrifty(), "costaware_knn"),
        Lru(trained.within_best_set(budget), "fixed_set"),
        BestSingle(trained.best),
    ]
    for policy in policies:
        run = simulate(trained.world, stream, policy, budget=budget)
        bound = plan if list(run.chosen) == asked else fewest_loads(run.chosen, sizes, budget)
        found = figures(run, bound)
        found["models_needed"] = models_needed(trained.world, stream, found["quality"])
        yield policy.name, found
