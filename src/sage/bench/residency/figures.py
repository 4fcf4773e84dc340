"""What a run amounts to: figures of one, rows over seeds, and the words that explain both.

Owns: the measures, their names and units. Must not know: policies, how anything is run, what is claimed.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sage.bench.residency.belady import Bound
from sage.bench.residency.simulate import Run
from sage.bench.residency.streams import Stream
from sage.bench.residency.world import World
from sage.economy.ledger import JOULES_PER_ATP, SECONDS_PER_ATP

__all__ = ["COLUMNS", "DEFINITIONS", "POLICIES", "WATTS", "figures", "models_needed", "summary", "table_of"]

WATTS = JOULES_PER_ATP / SECONDS_PER_ATP
"""Of a worker that loads or answers: the figure that ATP are converted by."""

SPREAD = ("quality", "swaps", "p95_wait_s", "quality_per_s")
"""Figures that are given with the lowest and the highest of the seeds."""

MOST_MODELS = 3
"""In a set that is tried for ``swaps_at_least``: 14 models make 364 of three."""

MANY = 20
"""Of more models only pairs are tried: 140 make 9,730, and 447,580 of three."""

POLICIES: Mapping[str, str] = {
    "sage": "chooses model and memory together, with the settings of a new installation",
    "sage:deep": "with the dial at 1 and the settings of a new installation: the best answers",
    "lru_knn": "a router by nearest neighbours for quality alone; the least recently used model leaves",
    "keepalive": "that router; five idle minutes and a model leaves, for room the first by name (Ollama)",
    "min_evict_cost": "that router; who is quickest to load again leaves (llama-swap's sets and costs)",
    "gdsf": "that router; GreedyDual-Size-Frequency",
    "belady": "that router with the fewest loads there can be, by who knows the future",
    "costaware_knn": "ablation: the router weighs time as sage does and knows no memory; LRU",
    "fixed_set": "ablation: that cost-aware router, among the best set of models that fits; it never swaps",
    "best_single_resident": "the model that was best on the history, for everything",
}

DEFINITIONS: Mapping[str, str] = {
    "quality": "mean recorded score of the answers; _low and _high: of the seeds",
    "swaps": "models loaded; the first ones into the empty memory count too",
    "belady_swaps": "the fewest loads that serve the same sequence of choices (dynamic programming); loads, "
    "not seconds of loading, are minimised",
    "swaps_to_belady": "swaps / belady_swaps, on the policy's own choices; 'exact': proved to be the fewest",
    "swaps_at_least": "who knows every answer and the future needs so many models for this quality, each "
    "loaded once: nobody does with fewer loads",
    "cold_seconds_per_1k": "seconds of loading for 1,000 requests",
    "p95_wait_s": "from a request's arrival to the start of its answer: the queue, and the load",
    "budget_violations": "moments at which models in memory took more than the budget, by a count of its own",
    "joules_per_correct": f"{WATTS:g} W while loading or answering, for each point of score; idling is free",
    "quality_per_s": "score for each second of loading or answering",
}

COLUMNS: Mapping[str, str] = {
    "quality %": "right answers; low-high: of the seeds",
    "swaps": "models loaded",
    "x fewest": "swaps / the fewest loads that serve the policy's own choices, knowing the future",
    "cold s/1k": "seconds of loading for 1,000 requests",
    "p95 wait": "seconds until an answer starts: 19 of 20 wait less",
    "over": "moments over the memory budget",
    "J/right": f"joules a right answer, at {WATTS:g} W",
    "right/s": "right answers for each second of loading or answering",
}


def figures(run: Run, bound: Bound) -> dict[str, float]:
    """One run; ``bound`` is of its own choices."""
    busy, score = run.cold_s + float(run.run_s.sum()), float(run.quality.sum())
    return {
        "quality": float(run.quality.mean()),
        "swaps": len(run.loads),
        "belady": len(bound.loads),
        "exact": bound.exact,
        "cold_seconds_per_1k": 1000.0 * run.cold_s / len(run.chosen),
        "p95_wait_s": float(np.quantile(run.wait_s, 0.95)),
        "budget_violations": run.violations,
        "joules_per_correct": WATTS * busy / score if score else float("inf"),
        "quality_per_s": score / busy,
        "busy_s_per_request": busy / len(run.chosen),
    }


def models_needed(world: World, stream: Stream, quality: float) -> int:
    """At least so many models it takes for somebody who knows every answer to reach this quality on the
    stream: the fewest, where sets of so many are tried, else one more than the largest of those."""
    scores = world.scores[stream.rows]
    most = MOST_MODELS if scores.shape[1] <= MANY else MOST_MODELS - 1
    for count in range(1, min(most, scores.shape[1]) + 1):
        sets = itertools.combinations(range(scores.shape[1]), count)
        if any(float(scores[:, kept].max(1).mean()) >= quality - 1e-9 for kept in sets):
            return count
    return most + 1


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means over seeds, with the lowest and the highest; violations add up."""

    def mean(key: str) -> float:
        return statistics.fmean(run[key] for run in runs)

    digits = {"quality": 4, "swaps": 1, "quality_per_s": 5}
    row: dict[str, Any] = {}
    for key in SPREAD:
        values = [run[key] for run in runs]
        places = digits.get(key, 3)
        row |= {key: round(mean(key), places)}
        row |= {f"{key}_low": round(min(values), places), f"{key}_high": round(max(values), places)}
    return row | {
        "belady_swaps": round(mean("belady"), 1),
        "swaps_to_belady": round(mean("swaps") / mean("belady"), 3),
        "exact": all(run["exact"] for run in runs),
        "swaps_at_least": round(mean("models_needed"), 1),
        "cold_seconds_per_1k": round(mean("cold_seconds_per_1k"), 2),
        "budget_violations": int(sum(run["budget_violations"] for run in runs)),
        "joules_per_correct": round(mean("joules_per_correct"), 3),
        "busy_s_per_request": round(mean("busy_s_per_request"), 4),
    }


def table_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one stream as people read them; what the columns are is in ``COLUMNS``."""
    return [
        {
            "policy": row["policy"],
            "quality %": f"{100 * row['quality']:.1f}",
            "low-high": f"{100 * row['quality_low']:.1f}-{100 * row['quality_high']:.1f}",
            "swaps": f"{row['swaps']:.0f}",
            "x fewest": f"{row['swaps_to_belady']:.2f}",
            "cold s/1k": f"{row['cold_seconds_per_1k']:.0f}",
            "p95 wait": f"{row['p95_wait_s']:.0f}",
            "over": row["budget_violations"],
            "J/right": f"{row['joules_per_correct']:.3g}",
            "right/s": f"{row['quality_per_s']:.4g}",
        }
        for row in rows
    ]
