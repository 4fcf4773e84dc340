"""`sage bench drift`: a model silently degrades, and later is well again. Who notices, and when?

Owns: the scenario and its figures. Must not know: how any policy chooses.

The best-used model of a pool falls to chance a third of the way through, and is well again after two thirds.
Nobody is told. What counts is what was lost meanwhile, and how long it took.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sage.bench.bandits import Bandit, LinUcb, SquareCb, Thompson
from sage.bench.planted import World, plant, run
from sage.bench.policies import Policy, Query
from sage.bench.report import spread, spread_columns
from sage.bench.route_data import Floats, Ints
from sage.bench.sage_policy import SagePolicy
from sage.errors import BackendMissing

__all__ = ["DEFINITIONS", "Figures", "TopicThompson", "drift_table", "figures_of", "measure_drift"]

Change = Literal["sudden", "gradual", "none"]

CHANCE = 0.25
"""Quality of a degraded model: four options, one right."""

WINDOW = 100
"""Requests that a share is taken over."""

TOPICS = 8

LEAST_SHARE = 0.1
"""Share that a model must have had before for its loss to be measured."""

HALF_LIFE = 300.0
"""Requests of its topic after which an outcome counts half for the discounted peer. Counted over all topics
together, it forgets faster than it learns: 1.7 times the regret."""

DEFINITIONS = {
    "world": f"{TOPICS} topics; the quality of each model in each topic is drawn from 0.3 to 0.9; the model "
    f"that is best in most topics falls to {CHANCE} after a third of the requests and is well again after "
    "two thirds; gradual: both over half a third; none: nothing changes",
    "regret": "sum of the quality of the best model less that of the chosen one; before, while ill, healed: "
    "a third each",
    "under_5": f"requests from the fall until its share of the last {WINDOW} requests is below 5 %; null: "
    "never while ill",
    "share_ill": "its share of requests from then until it is well again: what trying it costs included",
    "healed": f"requests from its healing until its share of the last {WINDOW} is half of what it was in the "
    "500 requests before the fall; null: never. Only where it had been under 5 %: who stays has nothing to "
    "come back to (seeds_left counts them)",
    "healed_in_300": "share of these seeds in which that took 300 requests or less",
    "thompson": "Beta posteriors whose counts never fade; thompson_topic is told the true topic; "
    f"thompson_discounted is told it too, and its counts halve every {HALF_LIFE:g} requests of a topic",
    "spread": "median and, with _low and _high, extremes over seeds; a seed in which the policy gave the "
    f"model less than {LEAST_SHARE:.0%} before is left out of under_5, share_ill and healed (seeds_used)",
}
"""What the figures mean; written into every result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One run. Requests are infinite where it never happened, None where it could not: the model had too
    little traffic to lose, or never lost it."""

    regret: tuple[float, float, float]
    under_5: float | None
    share_ill: float | None
    healed: float | None


class TopicThompson(Bandit):
    """Thompson sampling that is told the true topic, each with posteriors of its own; counts halve every
    ``half_life`` requests of their topic, and infinity never forgets."""

    def __init__(
        self, name: str, models: int, random: np.random.Generator, *, half_life: float = math.inf
    ) -> None:
        self.name = name
        self._models, self._random = models, random
        self._keep = 0.5 ** (1.0 / half_life)
        self._counts: dict[str, Floats] = {}
        """By topic: successes and failures, (2, models)."""

    def choose(self, query: Query) -> int:
        """The highest draw in this topic; frozen, the highest mean."""
        good, bad = 1.0 + self._counts.get(query.category, np.zeros((2, self._models)))
        if self.frozen:
            return int((good / (good + bad)).argmax())
        return int(self._random.beta(good, bad).argmax())

    def learn(self, query: Query, arm: int, quality: float) -> None:
        """The counts of this topic fade, and this one is added."""
        counts = self._counts.setdefault(query.category, np.zeros((2, self._models)))
        counts *= self._keep
        counts[:, arm] += quality, 1.0 - quality


def measure_drift(
    *,
    seeds: int,
    requests: int = 6000,
    models: Sequence[int] = (8,),
    changes: Sequence[Change] = ("sudden", "gradual", "none"),
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """A row for each change, number of models and policy: medians over seeds, with their extremes.

    ``regret`` and the keys of :data:`DEFINITIONS`; None where something never happened or does not apply. A
    policy whose package is missing is left out.
    """
    rows = []
    for count in models:
        for change in changes:
            runs: dict[str, list[Figures]] = {}
            for seed in range(seeds):
                progress(f"drift: {change}, {count} models, seed {seed}")
                world, target = _world(count, change, requests, seed)
                for policy in _policies(world, seed):
                    found = figures_of(world, target, run(policy, world))
                    runs.setdefault(policy.name, []).append(found)
            rows += [_row(change, count, policy, found) for policy, found in runs.items()]
    return rows


def drift_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as people read them: medians, and the extremes of regret."""

    def requests(row: Mapping[str, Any], key: str, seeds: str) -> str:
        if not row[seeds]:
            return "-"
        return "never" if row[key] is None else f"{row[key]:.0f}"

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100.0 * value:.1f}"

    return [
        {
            "change": row["change"],
            "policy": row["policy"],
            "regret": f"{row['regret']:.0f}",
            "low-high": f"{row['regret_low']:.0f}-{row['regret_high']:.0f}",
            "under 5 %": requests(row, "under_5", "seeds_used"),
            "ill %": percent(row["share_ill"]),
            "healed": requests(row, "healed", "seeds_left"),
            "in 300 %": percent(row["healed_in_300"]),
        }
        for row in rows
    ]


def figures_of(world: World, target: int, chosen: Ints) -> Figures:
    """What one run of choices (requests,) says about the loss of ``target``."""
    requests = len(chosen)
    fall, heal = requests // 3, 2 * requests // 3
    lost = world.quality.max(1) - world.quality[np.arange(requests), chosen]
    regret = (float(lost[:fall].sum()), float(lost[fall:heal].sum()), float(lost[heal:].sum()))
    hits = chosen == target
    before = float(hits[max(0, fall - 500) : fall].mean())
    if before < LEAST_SHARE:
        return Figures(regret=regret, under_5=None, share_ill=None, healed=None)
    counted = np.concatenate([[0], hits.cumsum()])
    share = np.zeros(requests)
    share[WINDOW - 1 :] = (counted[WINDOW:] - counted[:-WINDOW]) / WINDOW
    under = _first(share[fall:heal] < 0.05)
    return Figures(
        regret=regret,
        under_5=under,
        share_ill=float(hits[fall + int(under) : heal].mean()) if math.isfinite(under) else before,
        healed=_first(share[heal:] >= before / 2) if math.isfinite(under) else None,
    )


def _first(happened: Any) -> float:
    """Steps until the first True; infinite where there is none."""
    where = np.flatnonzero(happened)
    return float(where[0]) if len(where) else math.inf


def _world(models: int, change: Change, requests: int, seed: int) -> tuple[World, int]:
    """A planted world, and the model that falls."""
    quality = np.random.default_rng([seed, 0]).uniform(0.3, 0.9, (models, TOPICS))
    wins = np.bincount(quality.argmax(0), minlength=models)
    target = int((wins + quality.mean(1)).argmax())
    world = plant(quality, requests=requests, seed=seed)
    ill = _illness(change, requests)
    world.quality[:, target] += ill * (CHANCE - world.quality[:, target])
    return world, target


def _illness(change: Change, requests: int) -> Floats:
    """(requests,) from 0, well, to 1, degraded to chance."""
    at = np.arange(requests)
    fall, heal = requests // 3, 2 * requests // 3
    if change == "none":
        return np.zeros(requests)
    if change == "sudden":
        return ((at >= fall) & (at < heal)).astype(float)
    takes = requests / 6
    return np.clip(np.minimum((at - fall) / takes, 1.0 - (at - heal) / takes), 0.0, 1.0)


def _policies(world: World, seed: int) -> list[Policy]:
    def random(stream: int) -> np.random.Generator:
        return np.random.default_rng([seed, 2, stream])

    names = [f"model {number}" for number in range(world.models)]
    policies: list[Policy] = [
        SagePolicy(names, world.codebook, random(0)),
        LinUcb(world.models, world.codebook.cells),
        Thompson(world.models, random(1)),
        TopicThompson("thompson_topic", world.models, random(2)),
        TopicThompson("thompson_discounted", world.models, random(3), half_life=HALF_LIFE),
    ]
    with contextlib.suppress(BackendMissing):
        policies.append(SquareCb(world.models, seed=seed))
    return policies


def _row(change: Change, models: int, policy: str, runs: Sequence[Figures]) -> dict[str, Any]:
    row: dict[str, Any] = {"change": change, "models": models, "policy": policy}
    row |= spread_columns("regret", [sum(run.regret) for run in runs], digits=3)
    for part, name in enumerate(("before", "ill", "healed")):
        row[f"regret_{name}"] = round(spread([run.regret[part] for run in runs]).median, 1)
    used = [run for run in runs if run.under_5 is not None] if change != "none" else []
    left = [run.healed for run in used if run.healed is not None]
    row["seeds_used"], row["seeds_left"] = len(used), len(left)
    row |= spread_columns("under_5", [run.under_5 for run in used], digits=3)
    row |= spread_columns("share_ill", [run.share_ill for run in used], digits=3)
    row |= spread_columns("healed", left, digits=3)
    row["healed_in_300"] = sum(time <= 300 for time in left) / len(left) if left else None
    return row
