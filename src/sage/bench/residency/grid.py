"""The claims over budgets and disks: where SAGE holds what it promises, and where not.

Owns: the cells. Must not know: how a claim is judged, or what a policy does.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sage.bench.residency.claims import CLAIMS, judge, not_met
from sage.bench.residency.learned import train
from sage.bench.residency.streams import STREAMS
from sage.bench.residency.suite import (
    JUDGED,
    LOAD,
    Figures,
    ResidencyOptions,
    draw_stream,
    measure_policies,
    sage_settings,
)
from sage.bench.residency.world import GB, fitting, folder_world
from sage.bench.route_views import embed_texts, open_named_embedder

__all__ = ["BUDGETS_GB", "DISKS_GB_S", "grid_table", "run_grid"]

BUDGETS_GB = (5.0, 8.0, 12.0)

DISKS_GB_S = (0.15, 0.5, 2.0)
"""A memory card or a hard disk, a SATA disk, an NVMe disk."""


SHOWN = (*JUDGED, "lru_knn", "costaware_knn", "fixed_set", "best_single_resident")


def run_grid(
    data: Path, options: ResidencyOptions, home: Path, *, progress: Callable[[str], None]
) -> dict[str, Any]:
    """``settings`` and ``rows``: one for each budget, disk and stream, with SAGE's figures and the claims
    that were not met: missed (-), tied (=) or not judged (~). Of ``options`` count
    requests, seeds and the embedder.

    Raises:
        NotFound, UsageError: what is wrong with the data, or a budget holds fewer than two models.
    """
    began = time.perf_counter()
    whole = folder_world(data, GB)
    views = embed_texts(whole.texts, open_named_embedder(home, options.embedder), home, progress=progress)
    rows = []
    for budget_gb in BUDGETS_GB:
        for disk_gb_s in DISKS_GB_S:
            budget = round(budget_gb * GB)
            world = fitting(folder_world(data, disk_gb_s * GB), budget)
            measured: dict[str, dict[str, list[Figures]]] = {kind: defaultdict(list) for kind in STREAMS}
            for seed in range(options.seeds):
                trained = train(world, views, seed)
                for kind in STREAMS:
                    stream = draw_stream(trained, kind, seed, budget=budget, requests=options.requests)
                    for name, found in measure_policies(trained, stream, budget):
                        measured[kind][name].append(found)
            rows += [_cell(budget_gb, disk_gb_s, kind, policies) for kind, policies in measured.items()]
            progress(f"{budget_gb:g} GB, {disk_gb_s:g} GB/s: {time.perf_counter() - began:.0f} s")
    return {
        "settings": {
            "data": whole.name,
            "requests": options.requests,
            "seeds": list(range(options.seeds)),
            "load": LOAD,
            **sage_settings(),
            "embedder": views.embedder,
            "claims": dict(CLAIMS),
            "seconds": round(time.perf_counter() - began, 1),
        },
        "rows": rows,
    }


def grid_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A line for each policy, budget and disk, a column for each stream: what was not met there."""
    lines: dict[tuple[str, float, float], dict[str, str]] = {}
    for policy in JUDGED:
        for row in rows:
            key = policy, row["budget_gb"], row["disk_gb_s"]
            named = {"policy": policy, "GB": f"{key[1]:g}", "disk GB/s": f"{key[2]:g}"}
            lines.setdefault(key, named)[row["stream"]] = row[f"not met, {policy}"]
    return list(lines.values())


def _cell(
    budget_gb: float, disk_gb_s: float, kind: str, policies: Mapping[str, Sequence[Figures]]
) -> dict[str, Any]:
    def mean(policy: str, key: str) -> float:
        return sum(found[key] for found in policies[policy]) / len(policies[policy])

    judged = {policy: judge(policies, policy) for policy in JUDGED}
    return {
        "budget_gb": budget_gb,
        "disk_gb_s": disk_gb_s,
        "stream": kind,
        **{f"not met, {policy}": not_met(found) for policy, found in judged.items()},
        **{f"swaps {name}": round(mean(name, "swaps"), 1) for name in SHOWN},
        **{f"quality {name}": round(mean(name, "quality"), 4) for name in SHOWN},
        **{f"quality_per_s {name}": round(mean(name, "quality_per_s"), 5) for name in SHOWN},
    }
