"""From what a policy did to one row of `sage bench route`.

Owns: the record of a policy over splits and seeds, and every figure made of it.
Must not know: how anything was chosen or split.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sage.bench.route_data import Floats, Ints, Outcomes

__all__ = ["DEFINITIONS", "Record", "figures"]

DEFINITIONS = {
    "score": "mean quality over the test questions, mean over seeds; in a leave-out run mean over categories",
    "score_macro": "mean over categories",
    "score_sd": "standard deviation of score over seeds; score_se: standard error over the test questions",
    "runs": "seeds that the policy was tested with",
    "calls": "answers paid for per question; at most ceiling, where there is one",
    "cost": "mean price paid per question, in price_unit; null where the price of a chosen model is unknown",
    "regret": "mean over test questions of the best score any model got less the score of the answer given",
    "online": "bandit only: mean quality of the choices made while learning; online_regret likewise",
    "sage_cascade": "fitted anew on the training questions of each split; it knows that answers are letters, "
    "and which letter a model favours",
    "sage_cascade_served": "as it serves: the weights shipped, trust from the book, no letters; "
    "of its settings only the price of a call is chosen on the training questions",
    "worst_category": "lowest difference to best_single on the same questions of one category",
    "us_per_decision": "median microseconds of one choice (bandit: while learning; cascade: whether and whom "
    "to ask next), embedding and placing in cells excluded",
}
"""What the figures mean; written into every result."""


@dataclass(slots=True)
class Record:
    """What one policy did in one mode. By seed: quality, calls and price for every question (queries,), NaN
    where it was not tested (a price also where unknown); while learning, qualities and how far they lay
    below the best."""

    quality: dict[int, Floats] = field(default_factory=dict)
    calls: dict[int, Floats] = field(default_factory=dict)
    price: dict[int, Floats] = field(default_factory=dict)
    online: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    lost: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)

    def put(
        self, seed: int, rows: Ints, *, total: int, quality: Floats, calls: Floats, price: Floats
    ) -> None:
        """Results on the questions ``rows`` of ``total``."""
        for into, values in ((self.quality, quality), (self.calls, calls), (self.price, price)):
            into.setdefault(seed, np.full(total, np.nan))[rows] = values

    def chose(self, seed: int, rows: Ints, chosen: Ints, outcomes: Outcomes) -> None:
        """One model for each of the questions ``rows``."""
        price = outcomes.price
        self.put(
            seed,
            rows,
            total=len(outcomes.ids),
            quality=outcomes.scores[rows, chosen],
            calls=np.ones(len(rows)),
            price=np.full(len(rows), np.nan) if price is None else price[rows, chosen],
        )


def figures(
    outcomes: Outcomes, record: Record, baseline: Record | None, *, by_category: bool
) -> dict[str, Any]:
    """The figures of one policy, see :data:`DEFINITIONS`. ``baseline`` is the best single model's record;
    ``by_category`` makes the score a mean over categories."""
    macros, means, errors, regrets, calls, prices = [], [], [], [], [], []
    worst: dict[str, list[float]] = defaultdict(list)
    every = np.array(outcomes.categories)
    for seed, everything in record.quality.items():
        rows = np.flatnonzero(~np.isnan(everything))
        quality, categories = everything[rows], every[rows]
        means_of = {c: float(quality[categories == c].mean()) for c in np.unique(categories)}
        macros.append(statistics.fmean(means_of.values()))
        means.append(macros[-1] if by_category else float(quality.mean()))
        errors.append(float(quality.std()) / len(rows) ** 0.5)
        regrets.append(float((outcomes.scores[rows].max(1) - quality).mean()))
        calls.append(float(record.calls[seed][rows].mean()))
        prices.append(float(record.price[seed][rows].mean()))
        if baseline is not None:
            single = baseline.quality[seed][rows]
            for category, mean in means_of.items():
                worst[category].append(mean - float(single[categories == category].mean()))
    price = statistics.fmean(prices)
    row: dict[str, Any] = {
        "score": _round(statistics.fmean(means)),
        "score_macro": _round(statistics.fmean(macros)),
        "score_sd": _round(statistics.stdev(means)) if len(means) > 1 else None,
        "score_se": _round(statistics.fmean(errors)),
        "calls": _round(statistics.fmean(calls)),
        "cost": None if np.isnan(price) else _round(price),
        "regret": _round(statistics.fmean(regrets)),
        "us_per_decision": round(1e6 * statistics.median(record.seconds), 1),
        "runs": len(record.quality),
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


def _round(value: float) -> float:
    return round(value, 5)
