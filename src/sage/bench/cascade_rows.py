"""The figures of `sage_cascade`: one row for each ceiling on mean calls, over splits and seeds.

Owns: what a row says. Must not know: how a cascade is played, how splits are made.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sage.bench.cascade import CEILINGS, Learned, Played, Recorded, at_ceilings
from sage.bench.route_data import Floats

__all__ = ["run_cascade"]


def run_cascade(
    splits: Iterable[tuple[int, Recorded, Recorded]], *, ceilings: Sequence[float] = CEILINGS
) -> list[dict[str, Any]]:
    """Rows like those of :func:`sage.bench.route.measure_route`, and the ``ceiling`` of each.

    ``splits`` are (seed, train, test), several of one seed being folds: their test questions count together.
    Nothing of ``test`` but answers and lengths that were paid for is seen before the last answer is returned.
    """
    played: dict[float, dict[int, list[tuple[Played, Recorded]]]] = {c: defaultdict(list) for c in ceilings}
    seconds: list[float] = []
    for seed, train, test in splits:
        learned = Learned(train)
        questions = learned.new(test)
        for ceiling, what in at_ceilings(learned, questions, ceilings, seed=seed).items():
            played[ceiling][seed].append((what, test))
        seconds += learned.seconds(questions)
    return [_row(ceiling, list(seeds.values()), seconds) for ceiling, seeds in played.items() if seeds]


def _row(
    ceiling: float, seeds: Sequence[Sequence[tuple[Played, Recorded]]], seconds: Sequence[float]
) -> dict[str, Any]:
    scores, macros, calls, costs, regrets, errors = [], [], [], [], [], []
    for folds in seeds:
        score = _joined([played.score for played, _ in folds])
        best = _joined([test.scores.max(1) for _, test in folds])
        category = np.concatenate([np.array(test.categories) for _, test in folds])
        scores.append(float(score.mean()))
        macros.append(statistics.fmean(float(score[category == name].mean()) for name in np.unique(category)))
        calls.append(float(_joined([played.calls for played, _ in folds]).mean()))
        costs.append(float(_joined([played.price for played, _ in folds]).mean()))
        regrets.append(float((best - score).mean()))
        errors.append(float(score.std()) / len(score) ** 0.5)
    cost = statistics.fmean(costs)
    return {
        "policy": "sage_cascade",
        "mode": "full",
        "ceiling": ceiling,
        "score": round(statistics.fmean(scores), 5),
        "score_macro": round(statistics.fmean(macros), 5),
        "score_sd": round(statistics.stdev(scores) if len(scores) > 1 else 0.0, 5),
        "score_se": round(statistics.fmean(errors), 5),
        "calls": round(statistics.fmean(calls), 4),
        "cost": round(cost, 5) if cost == cost else None,
        "regret": round(statistics.fmean(regrets), 5),
        "us_per_decision": round(1e6 * statistics.median(seconds), 1),
    }


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts)
