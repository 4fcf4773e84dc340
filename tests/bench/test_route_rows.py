"""Figures of a policy, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sage.bench.route_data import Outcomes
from sage.bench.route_rows import DEFINITIONS, Record, figures

OUTCOMES = Outcomes(
    name="by hand",
    ids=("a", "b", "c", "d"),
    texts=("", "", "", ""),
    categories=("x", "x", "x", "y"),
    models=("one", "two"),
    params_b=(1.0, None),
    scores=np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.5, 1.0]]),
    tokens=np.full((4, 2), 2000.0),
)
ALL = np.arange(4)


def chosen(*runs: tuple[int, ...]) -> Record:
    record = Record(seconds=[1e-6, 3e-6, 2e-6])
    for seed, run in enumerate(runs):
        record.chose(seed, ALL, np.array(run), OUTCOMES)
    return record


def test_figures_by_hand() -> None:
    baseline = chosen((0, 0, 0, 0), (0, 0, 0, 0))
    row = figures(OUTCOMES, chosen((1, 1, 1, 1), (0, 0, 0, 1)), baseline, by_category=False)
    assert row["score"] == pytest.approx(0.5)  # 2/4 and 2/4
    assert row["score_macro"] == pytest.approx((1 / 3 + 1.0) / 2, abs=1e-5)
    assert row["score_sd"] == 0.0
    assert row["score_se"] == pytest.approx(0.25)
    assert row["regret"] == pytest.approx((3.0 - 2.0) / 4)
    assert row["worst_category"] == pytest.approx(0.0)  # as good as "one" on x, better on y
    assert row["us_per_decision"] == 2.0
    assert (row["calls"], row["cost"], row["runs"]) == (1.0, None, 2)  # nobody knows the price of "two"
    assert row["online"] is None


def test_a_mean_over_categories_weighs_small_ones_as_much() -> None:
    row = figures(OUTCOMES, chosen((0, 0, 0, 0)), None, by_category=True)
    assert row["score"] == row["score_macro"] == pytest.approx((1 / 3 + 0.5) / 2, abs=1e-5)
    assert row["worst_category"] is None
    assert row["cost"] == pytest.approx(2.0)  # 1 billion x 2,000 tokens


def test_what_was_not_tested_does_not_count() -> None:
    record = Record(seconds=[1e-6])
    some = np.array([1, 3])
    record.put(
        0, some, total=4, quality=np.array([1.0, 0.0]), calls=np.array([2.0, 3.0]), price=np.array([4.0, 6.0])
    )
    baseline = chosen((0, 0, 0, 0))
    row = figures(OUTCOMES, record, baseline, by_category=False)
    assert (row["score"], row["calls"], row["cost"]) == (0.5, 2.5, 5.0)
    assert row["regret"] == pytest.approx(0.5)
    assert row["worst_category"] == pytest.approx(-0.5)  # y: 0 against 0.5


def test_learning_is_reported_beside() -> None:
    record = chosen((0, 0, 0, 0), (0, 0, 0, 0))
    for seed, qualities in ((0, (1.0, 0.0)), (1, (1.0, 1.0))):
        record.online[seed] += qualities
        record.lost[seed] += [0.0, 0.5]
    row = figures(OUTCOMES, record, None, by_category=False)
    assert (row["online"], row["online_regret"]) == (0.75, 0.25)


def test_every_figure_has_a_meaning() -> None:
    row = figures(OUTCOMES, chosen((0, 0, 0, 0)), None, by_category=False)
    text = " ".join([*DEFINITIONS, *DEFINITIONS.values()])
    assert [key for key in row if key not in text] == []
