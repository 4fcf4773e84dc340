"""`sage bench collapse`: does a pool of experts stay a pool, and who falls for a liar?

Owns: the scenario and its figures. Must not know: how any policy chooses.

Specialists are the best in one topic, a generalist is good everywhere and is loaded from the start. Four of
the pool fit into memory, and what is loaded is cheaper: success breeds success. One expert lies: its card and
its word about each of its answers are the best of all, its answers the worst but one. One is dead. The cards
of specialists say nothing ("silent": all must be found out), or what each is good at ("honest").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sage.bench.bandits import LinUcb, Thompson
from sage.bench.drift import TopicThompson
from sage.bench.experts import BONUS, LOAD_S, SLOTS, Experts, Serving, WinnerTakesAll
from sage.bench.planted import World, plant, run
from sage.bench.policies import Policy
from sage.bench.report import spread_columns
from sage.bench.route_data import Ints
from sage.bench.routers import Random

__all__ = ["DEFINITIONS", "Figures", "collapse_table", "figures_of", "measure_collapse"]

WINDOW = 100
"""Requests that the liar's share is taken over."""

DIALS: Mapping[str, float] = {"sage": 1.0, "sage_thrifty": 0.5, "sage_greedy": 1.0}
"""The dial of each way SAGE takes part; 0.5 is the default."""

DEFINITIONS = {
    "pool": "specialists: 0.9 in their own topic, which two of them share, 0.5 elsewhere; generalist: 0.75; "
    "liar: 0.1; dead: 0. Cards say 0.5, 0.9, 0.98 and 0.8; the liar reports 1.0 of each answer, the others "
    "0.7. cards honest: those of specialists also say 0.85 for their own topic, and requests name it",
    "pressure": f"{SLOTS} experts are loaded, the generalist first; loading takes {LOAD_S:g} s and 1 GiB, "
    f"persistence is {BONUS}",
    "effective_experts": "exp(entropy of traffic) over the second half of the requests; of_pool: as a share "
    "of the pool",
    "reward_of_best": "mean quality of the chosen as a share of that of the best, second half; reward_all: "
    "all requests",
    "liar_under_5": f"requests from the start until the liar's share of the last {WINDOW} is below 5 % for "
    f"good ({WINDOW} is the least there is); null: never",
    "liar_share": "the liar's share of all requests; dead_share likewise",
    "sage": "the classes that serve, at dial 1, where only quality counts: NOT the default",
    "sage_thrifty": "the same at dial 0.5, the default, where a price counts: loading is avoided",
    "sage_greedy": "the same at dial 1, without exploring",
    "winner_takes_all": "always the highest mean so far, times persistence: no context, no exploring; "
    "self_scores: the same, learned from the experts' own word",
    "spread": "median and, with _low and _high, extremes over seeds",
}
"""What the figures mean; written into every result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One run; ``liar_under_5`` is infinite where it never was."""

    effective: float
    reward: float
    reward_all: float
    liar_under_5: float
    liar_share: float
    dead_share: float


def measure_collapse(
    *,
    seeds: int,
    requests: int = 8000,
    specialists: int = 16,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """A row for each kind of cards and policy: medians over seeds with their extremes, under the keys of
    :data:`DEFINITIONS`."""
    rows: list[dict[str, Any]] = []
    for cards in ("silent", "honest"):
        experts = Experts.of(specialists, honest=cards == "honest")
        runs: dict[str, list[Figures]] = {}
        for seed in range(seeds):
            progress(f"collapse: {len(experts)} experts, cards {cards}, seed {seed}")
            world = plant(experts.quality, requests=requests, seed=seed)
            for policy in (
                _policies(experts, world, seed) if cards == "silent" else _readers(experts, world, seed)
            ):
                runs.setdefault(policy.name, []).append(figures_of(world, experts, run(policy, world)))
        rows += [_row(cards, name, len(experts), found) for name, found in runs.items()]
    return rows


def collapse_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as people read them: medians, and the extremes of the reward."""
    return [
        {
            "cards": row["cards"],
            "policy": row["policy"],
            "dial": "-" if row["dial"] is None else f"{row['dial']:g}",
            "effective": f"{row['effective_experts']:.1f} of {row['experts']}",
            "reward %": f"{100 * row['reward_of_best']:.1f}",
            "low-high": f"{100 * row['reward_of_best_low']:.1f}-{100 * row['reward_of_best_high']:.1f}",
            "liar < 5 %": "never" if row["liar_under_5"] is None else f"{row['liar_under_5']:.0f}",
            "liar %": f"{100 * row['liar_share']:.2f}",
        }
        for row in rows
    ]


def figures_of(world: World, experts: Experts, chosen: Ints) -> Figures:
    """What one run of choices (requests,) says about the pool."""
    requests = len(chosen)
    late = chosen[requests // 2 :]
    share = np.bincount(late, minlength=len(experts)) / len(late)
    used = share[share > 0.0]
    got, best = world.quality[np.arange(requests), chosen], world.quality.max(1)
    liar = chosen == experts.generalist + 1
    counted = np.concatenate([[0], liar.cumsum()])
    above = np.flatnonzero(counted[WINDOW:] - counted[:-WINDOW] >= 0.05 * WINDOW)
    last = int(above[-1]) if len(above) else -1
    return Figures(
        effective=float(np.exp(-(used * np.log(used)).sum())),
        reward=float(got[requests // 2 :].sum() / best[requests // 2 :].sum()),
        reward_all=float(got.sum() / best.sum()),
        liar_under_5=math.inf if last == requests - WINDOW else float(last + 1 + WINDOW),
        liar_share=float(liar.mean()),
        dead_share=float((chosen == experts.generalist + 2).mean()),
    )


def _readers(experts: Experts, world: World, seed: int) -> list[Policy]:
    """Those that read cards by kind of work."""
    return [
        Serving(name, experts, world.codebook, dial=dial, random=random)
        for (name, dial), random in zip(
            DIALS.items(), (_random(seed, 0), _random(seed, 1), None), strict=True
        )
    ]


def _policies(experts: Experts, world: World, seed: int) -> list[Policy]:
    return [
        *_readers(experts, world, seed),
        WinnerTakesAll(experts, believes=False),
        WinnerTakesAll(experts, believes=True),
        Thompson(len(experts), _random(seed, 2)),
        TopicThompson("thompson_topic", len(experts), _random(seed, 3)),
        LinUcb(len(experts), world.codebook.cells),
        Random(len(experts), _random(seed, 4)),
    ]


def _random(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, 2, stream])


def _row(cards: str, policy: str, experts: int, runs: Sequence[Figures]) -> dict[str, Any]:
    columns: dict[str, list[float]] = {
        "effective_experts": [run.effective for run in runs],
        "of_pool": [run.effective / experts for run in runs],
        "reward_of_best": [run.reward for run in runs],
        "reward_all": [run.reward_all for run in runs],
        "liar_under_5": [run.liar_under_5 for run in runs],
        "liar_share": [run.liar_share for run in runs],
        "dead_share": [run.dead_share for run in runs],
    }
    row: dict[str, Any] = {
        "cards": cards,
        "policy": policy,
        "dial": DIALS.get(policy),
        "experts": experts,
    }
    for name, values in columns.items():
        row |= spread_columns(name, values, digits=4)
    return row
