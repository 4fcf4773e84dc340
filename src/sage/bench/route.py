"""`sage bench route`: which router answers most questions right, on recorded outcomes of every model.

Owns: splits, and running every policy over them. Must not know: how any policy chooses, what is made of it.

Trained on ``train`` and measured on ``test``; or, with ``train`` alone, cross-validated: every seed draws its
own folds, and every question is tested once a seed (bandits take one fold a seed).
``leave_out_categories`` makes each category the test set of models trained on all others: tasks unlike any
seen.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sage.bench.arena import FIRST_TEXTS, Arena, build_arena
from sage.bench.contestants import contestants
from sage.bench.policies import Estimator, Mode, Policy
from sage.bench.route_cascade import play_cascade
from sage.bench.route_data import Ints, Outcomes
from sage.bench.route_rows import Record, figures
from sage.bench.route_views import Views

__all__ = ["Plan", "Split", "measure_route", "splits"]

TIMED = 50
"""Choices with full information that are timed, one by one, in each split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How to split. ``trained``: the first so many rows are for training, the others are the test; None where
    the rows are cross-validated in ``folds`` parts, or by category."""

    modes: tuple[Mode, ...]
    seeds: int
    folds: int = 5
    trained: int | None = None
    leave_out_categories: bool = False

    def runs(self, mode: Mode, seed: int, part: int) -> bool:
        """Whether a mode runs on this part of this seed. Bandits walk through the whole stream: they take one
        part a seed, so that as many seeds as folds see about every question; all categories, but once."""
        if mode != "bandit" or self.trained is not None:
            return True
        return seed == 0 if self.leave_out_categories else part == seed % self.folds

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


def measure_route(
    outcomes: Outcomes, views: Views, plan: Plan, *, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for each policy and mode, and notes on policies that could not run."""
    records: dict[tuple[str, Mode, float | None], Record] = defaultdict(Record)
    notes: dict[str, None] = {}
    for seed in range(plan.seeds):
        parts = splits(outcomes, plan, seed)
        for number, split in enumerate(parts):
            for mode in plan.modes:
                if not plan.runs(mode, seed, number):
                    continue
                began = time.perf_counter()
                first = FIRST_TEXTS if mode == "bandit" else None
                arena = build_arena(outcomes, views, split.train, split.test, first=first, seed=seed)
                policies, left_out = contestants(outcomes, arena, mode)
                notes.update(dict.fromkeys(left_out))
                for policy in policies:
                    _compete(policy, mode, outcomes, split, arena, records[policy.name, mode, None])
                if mode == "full":
                    play_cascade(
                        outcomes,
                        arena,
                        split.train,
                        split.test,
                        record_of=lambda name, ceiling: records[name, "full", ceiling],
                    )
                progress(
                    f"{outcomes.name}, {mode}: seed {seed + 1} of {plan.seeds}, "
                    f"split {number + 1} of {len(parts)}, {time.perf_counter() - began:.1f} s"
                )
    baseline = records.get(("best_single", "full", None))
    by_category = plan.split == "leave one category out"
    rows = [
        {
            "policy": name,
            "mode": mode,
            "ceiling": ceiling,
            **figures(outcomes, record, baseline, by_category=by_category),
        }
        for (name, mode, ceiling), record in sorted(
            records.items(), key=lambda item: plan.modes.index(item[0][1])
        )
    ]
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
    chosen = np.zeros(len(split.test), np.intp)
    if isinstance(policy, Estimator):
        chosen = policy.estimate(arena.test).argmax(1)
    for number, query in enumerate(arena.test):
        if number == TIMED and isinstance(policy, Estimator):
            break
        began = time.perf_counter()
        chosen[number] = policy.choose(query)
        if mode == "full" and number < TIMED:
            record.seconds.append(time.perf_counter() - began)
    record.chose(seed, split.test, chosen, outcomes)
