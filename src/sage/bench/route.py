"""`sage bench route`: which router answers most questions right, on recorded outcomes of every model.

Owns: splits, running every policy over them, and the figures of each. Must not know: how any policy chooses.

Trained on ``train`` and measured on ``test``; or, with ``train`` alone, cross-validated: every seed draws its
own folds, and every question is tested once a seed. ``leave_out_categories`` makes each category the test set
of models trained on all others: tasks unlike any seen.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sage.bench.arena import FIRST_TEXTS, Arena, build_arena
from sage.bench.contestants import contestants
from sage.bench.policies import Estimator, Mode, Policy
from sage.bench.route_data import Ints, Outcomes
from sage.bench.route_views import Views

__all__ = ["DEFINITIONS", "Plan", "Split", "measure_route", "splits"]

TIMED = 50
"""Choices with full information that are timed, one by one, in each split."""

DEFINITIONS = {
    "score": "mean quality over the test questions, mean over seeds; in a leave-out run mean over categories",
    "score_macro": "mean over categories",
    "score_sd": "standard deviation of score over seeds; score_se: standard error over the test questions",
    "calls": "answers paid for per question",
    "regret": "mean over test questions of the best score any model got less the score of the chosen one",
    "online": "bandit only: mean quality of the choices made while learning; online_regret likewise",
    "worst_category": "lowest difference to best_single in one category; best_single is of mode full",
    "us_per_decision": f"median microseconds of one choice (full: {TIMED} a split; bandit: all while "
    "learning), embedding and placing in cells excluded",
    "codebook": f"fitted on the training texts (bandit: the first {FIRST_TEXTS} of the stream), by seed",
}
"""What the figures mean; written into every result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How to split. ``trained``: the first so many rows are for training, the others are the test; None where
    the rows are cross-validated in ``folds`` parts, or by category."""

    modes: tuple[Mode, ...]
    seeds: int
    folds: int = 5
    trained: int | None = None
    leave_out_categories: bool = False

    @property
    def split(self) -> Literal["train/test", "folds", "leave one category out"]:
        """In words, for the result file."""
        if self.trained is not None:
            return "train/test"
        return "leave one category out" if self.leave_out_categories else "folds"


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Row numbers: ``train`` shuffled by seed, as the stream comes; ``test``."""

    train: Ints
    test: Ints


def splits(outcomes: Outcomes, plan: Plan, seed: int) -> list[Split]:
    """The splits of one seed."""
    random = np.random.default_rng(seed)
    rows = np.arange(len(outcomes.ids))
    if plan.trained is not None:
        tests = [rows[plan.trained :]]
    elif plan.leave_out_categories:
        category = np.array(outcomes.categories)
        tests = [rows[category == name] for name in np.unique(category)]
    else:
        tests = [np.sort(part) for part in np.array_split(random.permutation(rows), plan.folds)]
    return [Split(train=random.permutation(np.setdiff1d(rows, test)), test=test) for test in tests]


@dataclass(slots=True)
class Record:
    """What one policy did in one mode: by seed, the choice for each test row, and while learning."""

    chosen: dict[int, Ints] = field(default_factory=dict)
    online: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    lost: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)


def measure_route(
    outcomes: Outcomes, views: Views, plan: Plan, *, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for each policy and mode, and notes on policies that could not run."""
    records: dict[tuple[Mode, str], Record] = defaultdict(Record)
    notes: dict[str, None] = {}
    for seed in range(plan.seeds):
        parts = splits(outcomes, plan, seed)
        for number, split in enumerate(parts):
            for mode in plan.modes:
                began = time.perf_counter()
                first = FIRST_TEXTS if mode == "bandit" else None
                arena = build_arena(outcomes, views, split.train, split.test, first=first, seed=seed)
                policies, left_out = contestants(outcomes, arena, mode)
                notes.update(dict.fromkeys(left_out))
                for policy in policies:
                    _compete(policy, mode, outcomes, split, arena, records[mode, policy.name])
                progress(
                    f"{outcomes.name}, {mode}: seed {seed + 1} of {plan.seeds}, "
                    f"split {number + 1} of {len(parts)}, {time.perf_counter() - began:.1f} s"
                )
    baseline = records.get(("full", "best_single"))
    rows = [_row(outcomes, plan, mode, name, record, baseline) for (mode, name), record in records.items()]
    return rows, list(notes)


def _compete(
    policy: Policy, mode: Mode, outcomes: Outcomes, split: Split, arena: Arena, record: Record
) -> None:
    """Train one policy, freeze it, let it choose for every test question."""
    seed = arena.seed
    if mode == "full":
        policy.fit(arena.train, outcomes.scores[split.train])
    else:
        for query, row in zip(arena.train, split.train, strict=True):
            began = time.perf_counter()
            arm = policy.choose(query)
            record.seconds.append(time.perf_counter() - began)
            quality = float(outcomes.scores[row, arm])
            policy.learn(query, arm, quality)
            record.online[seed].append(quality)
            record.lost[seed].append(float(outcomes.scores[row].max()) - quality)
    policy.freeze()
    chosen = record.chosen.setdefault(seed, np.full(len(outcomes.ids), -1))
    if isinstance(policy, Estimator):
        chosen[split.test] = policy.estimate(arena.test).argmax(1)
    for number, (query, row) in enumerate(zip(arena.test, split.test, strict=True)):
        if number == TIMED and isinstance(policy, Estimator):
            break
        began = time.perf_counter()
        chosen[row] = policy.choose(query)
        if mode == "full" and number < TIMED:
            record.seconds.append(time.perf_counter() - began)


def _row(
    outcomes: Outcomes, plan: Plan, mode: Mode, name: str, record: Record, baseline: Record | None
) -> dict[str, Any]:
    macros, means, costs, regrets, spreads = [], [], [], [], []
    worst: dict[str, list[float]] = defaultdict(list)
    for seed, all_chosen in record.chosen.items():
        rows = np.nonzero(all_chosen >= 0)[0]
        chosen = all_chosen[rows]
        quality = outcomes.scores[rows, chosen]
        categories = np.array(outcomes.categories)[rows]
        by_category = {c: float(quality[categories == c].mean()) for c in np.unique(categories)}
        macros.append(statistics.fmean(by_category.values()))
        means.append(macros[-1] if plan.split == "leave one category out" else float(quality.mean()))
        spreads.append(float(quality.std()) / len(rows) ** 0.5)
        regrets.append(float((outcomes.scores[rows].max(1) - quality).mean()))
        costs.append(_mean_price(outcomes, rows, chosen))
        if baseline is not None:
            single = outcomes.scores[rows, baseline.chosen[seed][rows]]
            for category, mean in by_category.items():
                worst[category].append(mean - float(single[categories == category].mean()))
    row: dict[str, Any] = {
        "policy": name,
        "mode": mode,
        "score": _round(statistics.fmean(means)),
        "score_macro": _round(statistics.fmean(macros)),
        "score_sd": _round(statistics.stdev(means) if len(means) > 1 else 0.0),
        "score_se": _round(statistics.fmean(spreads)),
        "calls": 1.0,
        "cost": None if None in costs else _round(statistics.fmean(c for c in costs if c is not None)),
        "regret": _round(statistics.fmean(regrets)),
        "us_per_decision": round(1e6 * statistics.median(record.seconds), 1),
        "online": None,
        "online_regret": None,
        "worst_category": None,
    }
    if record.online:
        row["online"] = _round(statistics.fmean(map(statistics.fmean, record.online.values())))
        row["online_regret"] = _round(statistics.fmean(map(statistics.fmean, record.lost.values())))
    if worst:
        row["worst_category"] = _round(min(statistics.fmean(values) for values in worst.values()))
    return row


def _mean_price(outcomes: Outcomes, rows: Ints, chosen: Ints) -> float | None:
    """None where prices, or the size of a chosen model, are unknown."""
    price = outcomes.price
    mean = float("nan") if price is None else float(price[rows, chosen].mean())
    return mean if mean == mean else None


def _round(value: float) -> float:
    return round(value, 5)
