"""Posterior and gain: sums to one, counts what it should, pays only for what is worth it, and is quick."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.evidence import Evidence, logit
from sage.economy.opinions import (
    DEFAULT_WEIGHTS,
    FEATURES,
    SIZE,
    Beliefs,
    Opinions,
    believe,
    fit_weights,
)

ROW = np.zeros(1, np.intp)
FREE = np.zeros(1)


def beliefs(*trust: float, surprise: float = 1.0, rows: int = 1) -> Beliefs:
    many = len(trust)
    overall = logit(np.full(many, 0.5))
    return Beliefs(
        overall=overall,
        context=np.tile(logit(np.array(trust)) - overall, (rows, 1)),
        surprise=np.full((many, many), surprise),
        silence=np.full(many, 0.02),
    )


def heard(opinions: Opinions, *answers: tuple[int, int], shift: float = 0.0) -> Opinions:
    """Answers as (candidate, group) in the first row."""
    for candidate, group in answers:
        opinions.hear(ROW, np.array([candidate]), np.array([group]), np.array([shift]))
    return opinions


def chance(opinions: Opinions) -> npt.NDArray[np.float64]:
    return opinions.posterior(DEFAULT_WEIGHTS)[0][0]


@given(
    st.lists(st.floats(0.05, 0.95), min_size=5, max_size=5),
    st.lists(st.integers(-1, 3), min_size=5, max_size=5),
    st.floats(-2.0, 2.0),
)
def test_chances_sum_to_one_and_gains_are_numbers(
    trust: list[float], groups: list[int], shift: float
) -> None:
    opinions = Opinions(beliefs(*trust), 4)
    for candidate, group in enumerate(groups):
        gain = opinions.gain(DEFAULT_WEIGHTS)[0]
        assert np.isfinite(gain[candidate:]).all()
        assert (gain[:candidate] == -np.inf).all()
        heard(opinions, (candidate, group), shift=shift)
        group_chance, none = opinions.posterior(DEFAULT_WEIGHTS)
        assert group_chance.sum() + none[0] == pytest.approx(1.0)
        assert (group_chance[0] > 0).tolist() == [g in groups[: candidate + 1] for g in range(4)]
    assert (opinions.gain(DEFAULT_WEIGHTS) == -np.inf).all()
    assert opinions.next_opinion(DEFAULT_WEIGHTS, np.full(5, -9.0)).tolist() == [-1]


def test_agreement_raises_the_chance_and_dissent_lowers_it() -> None:
    alone = chance(heard(Opinions(beliefs(0.6, 0.6, 0.6), 3), (0, 0)))[0]
    agreed = chance(heard(Opinions(beliefs(0.6, 0.6, 0.6), 3), (0, 0), (1, 0)))[0]
    split = chance(heard(Opinions(beliefs(0.6, 0.6, 0.6), 3), (0, 0), (1, 1)))[0]
    assert split < alone < agreed


def test_agreement_of_two_that_err_alike_counts_less() -> None:
    independent = chance(heard(Opinions(beliefs(0.6, 0.6, surprise=2.5), 2), (0, 0), (1, 0)))[0]
    twins = chance(heard(Opinions(beliefs(0.6, 0.6, surprise=0.05), 2), (0, 0), (1, 0)))[0]
    assert twins < independent


def test_two_modest_ones_do_not_outvote_a_strong_one() -> None:
    opinions = heard(Opinions(beliefs(0.95, 0.25, 0.25), 2), (0, 0), (1, 1), (2, 1))
    assert opinions.answer(DEFAULT_WEIGHTS).tolist() == [0]


def test_the_answer_is_said_by_the_strongest_of_its_group() -> None:
    opinions = heard(Opinions(beliefs(0.4, 0.8, 0.3), 2), (0, 0), (1, 0), (2, 1))
    assert opinions.answer(DEFAULT_WEIGHTS).tolist() == [1]


def test_nobody_answered() -> None:
    opinions = heard(Opinions(beliefs(0.4, 0.8), 2), (0, -1), (1, -1))
    assert opinions.answer(DEFAULT_WEIGHTS).tolist() == [-1]
    assert opinions.posterior(DEFAULT_WEIGHTS)[1][0] == pytest.approx(1.0)


def test_marks_move_the_chance() -> None:
    low, high = (
        chance(heard(Opinions(beliefs(0.6, 0.6), 2), (0, 0), shift=shift))[0] for shift in (-1.0, 1.0)
    )
    assert low < high


def test_a_price_above_every_gain_stops_and_inf_rules_one_out() -> None:
    opinions = heard(Opinions(beliefs(0.5, 0.9, 0.6), 2), (0, 0))
    gain = opinions.gain(DEFAULT_WEIGHTS)[0]
    assert gain[1] == max(gain) > 0.0
    assert opinions.next_opinion(DEFAULT_WEIGHTS, np.zeros(3)).tolist() == [1]
    assert opinions.next_opinion(DEFAULT_WEIGHTS, np.array([0.0, np.inf, -1.0])).tolist() == [2]
    assert opinions.next_opinion(DEFAULT_WEIGHTS, np.full(3, gain[1] + 1e-9)).tolist() == [-1]


def test_once_sure_another_opinion_gains_less() -> None:
    unsure = heard(Opinions(beliefs(0.5, 0.5, 0.7), 2), (0, 0), (1, 1))
    sure = heard(Opinions(beliefs(0.9, 0.9, 0.7), 2), (0, 0), (1, 0))
    assert sure.gain(DEFAULT_WEIGHTS)[0, 2] < unsure.gain(DEFAULT_WEIGHTS)[0, 2]


def test_a_batch_decides_as_its_rows_do_alone() -> None:
    random = np.random.default_rng(0)
    rows, many = 20, 6
    base = beliefs(*[0.5] * many, rows=rows)
    base = replace(base, context=random.normal(size=(rows, many)))
    batch = Opinions(base, 4)
    alone = [Opinions(replace(base, context=base.context[r : r + 1]), 4) for r in range(rows)]
    for candidate in range(3):
        groups = random.integers(-1, 4, rows)
        shifts = random.normal(size=rows)
        batch.hear(np.arange(rows), np.full(rows, candidate), groups, shifts)
        for r, one in enumerate(alone):
            one.hear(ROW, np.array([candidate]), groups[r : r + 1], shifts[r : r + 1])
    gain = batch.gain(DEFAULT_WEIGHTS)
    assert np.allclose(gain, np.vstack([one.gain(DEFAULT_WEIGHTS) for one in alone]))
    some = np.array([3, 11])
    assert np.allclose(gain[some], batch.gain(DEFAULT_WEIGHTS, some))


def test_weights_are_found_again() -> None:
    """Outcomes drawn from the model itself: the fit explains them as well as the weights they came from."""
    random = np.random.default_rng(1)
    rows, many = 4000, 4
    base = replace(beliefs(*[0.5] * many, rows=rows), context=random.normal(size=(rows, many)))
    opinions = Opinions(base, many)
    for candidate in range(many):
        opinions.hear(
            np.arange(rows), np.full(rows, candidate), random.integers(0, 3, rows), random.normal(size=rows)
        )
    design, there = opinions.design(np.arange(rows))

    def chances(values: tuple[float, ...]) -> npt.NDArray[np.float64]:
        odds = np.exp(np.where(there, design @ np.array(values), -np.inf))
        return np.asarray(odds / odds.sum(1, keepdims=True))

    true = chances(DEFAULT_WEIGHTS.values)
    group, none = opinions.posterior(DEFAULT_WEIGHTS)
    assert np.allclose(true, np.hstack([group, none[:, None]]))
    drawn = (true.cumsum(1) > random.random((rows, 1))).argmax(1)
    right = np.eye(many + 1)[drawn]
    fitted = fit_weights(design, there, right, alpha=1.5)
    assert np.abs(chances(fitted.values) - true).mean() < 0.02
    assert len(fitted.values) == SIZE == 2 * len(FEATURES) + 3


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="design"):
        fit_weights(np.zeros((2, 3, SIZE)), np.ones((2, 4), bool), np.zeros((2, 4)), alpha=1.5)
    with pytest.raises(ValueError, match="design"):
        fit_weights(np.zeros((0, 3, SIZE)), np.ones((0, 3), bool), np.zeros((0, 3)), alpha=1.5)


@pytest.mark.parametrize("trust", [[[0.5, np.nan]], [[0.5, 1.2]], [[0.5]]])
def test_trust_must_be_numbers_for_every_candidate(trust: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="trust"):
        believe(Evidence(("a", "b")), np.array(trust))


def test_beliefs_start_from_the_trust_that_is_given() -> None:
    start = believe(Evidence(("a", "b")), np.array([[0.8, 0.3]]), np.array([0.6, 0.4]))
    assert start.overall + start.context[0] == pytest.approx(logit(np.array([0.8, 0.3])))
    assert start.overall == pytest.approx(logit(np.array([0.6, 0.4])))


def test_a_decision_is_quick_and_grows_no_faster_than_the_candidates() -> None:
    """The bound is 0.1 ms for ten candidates on an idle machine; here with room for a busy one."""

    def median(many: int) -> float:
        opinions = heard(Opinions(beliefs(*[0.5] * many), 4), (0, 0), (1, 1))
        times = []
        for _ in range(200):
            began = time.perf_counter()
            opinions.next_opinion(DEFAULT_WEIGHTS, np.full(many, 0.01))
            times.append(time.perf_counter() - began)
        return float(np.median(times))

    assert median(10) < 0.001
    assert median(1000) < 0.005
