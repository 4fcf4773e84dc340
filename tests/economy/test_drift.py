"""The watch over one candidate: it sees falls and returns, and nothing where nothing changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.drift import HOPE, PATIENCE, TRIAL, Drift, trial_wait

shares = st.floats(0.0, 1.0)


class Learner:
    """One candidate in one context: a mean of all outcomes that moves as the watch says."""

    def __init__(self, *, known: float, outcomes: float = 2000.0) -> None:
        self.sum, self.outcomes = known * outcomes, outcomes
        self.drift = Drift(seen=outcomes)
        self.alarms: list[int] = []

    @property
    def mean(self) -> float:
        return min(1.0, max(0.0, self.sum / self.outcomes))

    def run(self, truth: float, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        for number in range(count):
            quality = float(random.random() < truth)
            seen = self.drift.see(expected=self.mean, quality=quality)
            self.drift = seen.state
            self.sum += seen.move * self.outcomes + quality
            self.outcomes += 1.0
            if seen.alarm:
                self.alarms.append(number)


@pytest.mark.parametrize("seed", range(10))
def test_a_fall_is_seen_within_60_outcomes_and_beliefs_follow(seed: int) -> None:
    learner, needed = Learner(known=0.75), 0
    while not learner.alarms:
        learner.run(0.25, 1, 1000 * seed + needed)
        needed += 1
    assert needed <= 60
    assert learner.drift.disgraced
    assert learner.mean == pytest.approx(0.25, abs=0.2)


@pytest.mark.parametrize("seed", range(10))
def test_a_return_is_seen_within_20_trials(seed: int) -> None:
    learner = Learner(known=0.75)
    learner.run(0.25, 100, seed)
    learner.alarms.clear()
    learner.run(0.75, 20, seed + 100)
    assert learner.alarms
    assert learner.mean > 0.5


def test_after_a_return_the_level_goes_back_to_where_it_was() -> None:
    learner = Learner(known=0.75)
    learner.run(0.25, 200, 1)
    learner.run(0.75, 1500, 2)
    assert learner.mean == pytest.approx(0.75, abs=0.05)
    assert not learner.drift.disgraced


def test_disgrace_ends_with_a_hundred_outcomes_at_the_old_level() -> None:
    drift = Drift(seen=100.0, level=0.0, outcomes=5.0, falls=1)
    for _ in range(94):
        drift = drift.see(expected=0.5, quality=0.5).state
        assert drift.disgraced
    drift = drift.see(expected=0.5, quality=0.5).state
    assert not drift.disgraced


def test_who_never_fell_is_in_no_disgrace() -> None:
    learner = Learner(known=0.25)
    learner.run(0.75, 60, 5)
    assert learner.alarms
    assert learner.drift.level > 0.2
    assert not learner.drift.disgraced


@pytest.mark.parametrize("truth", [0.05, 0.3, 0.5, 0.9, 1.0])
def test_no_alarm_where_nothing_changes(truth: float) -> None:
    learner = Learner(known=truth)
    learner.run(truth, 10_000, 3)
    assert learner.alarms == []
    assert learner.drift.level == 0.0


def test_beliefs_that_are_a_little_off_are_no_alarm() -> None:
    learner = Learner(known=0.6, outcomes=1e9)
    learner.run(0.5, 3000, 4)
    assert learner.alarms == []


def test_a_card_that_was_wrong_is_no_fall() -> None:
    """A newcomer's beliefs are its card's: 30 outcomes belong to learning, not to the watch."""
    drift = Drift()
    for _ in range(30):
        seen = drift.see(expected=1.0, quality=0.0)
        drift = seen.state
        assert (seen.move, seen.alarm) == (0.0, False)
    assert drift == Drift(seen=30.0)


def test_weak_sources_need_more_outcomes_for_an_alarm() -> None:
    def needed(weight: float) -> int:
        drift = Drift(seen=100.0)
        for number in range(1000):
            seen = drift.see(expected=0.75, quality=0.0, weight=weight)
            drift = seen.state
            if seen.alarm:
                return number + 1
        raise AssertionError("no alarm")

    assert needed(1.0) * 4 - 3 <= needed(0.25) <= needed(1.0) * 4


def test_in_disgrace_less_makes_hope() -> None:
    well, ill = Drift(seen=100.0), Drift(seen=100.0, level=-0.5, outcomes=20.0, falls=1)
    alarms = {}
    for name, drift in (("well", well), ("ill", ill)):
        for number in range(1, 100):
            seen = drift.see(expected=0.5, quality=1.0)
            drift = seen.state
            if seen.alarm:
                alarms[name] = number
                break
    # Half a deviation of slack is taken from the one deviation that each of these outcomes is worth.
    assert alarms == {"well": int(PATIENCE / 0.5) + 1, "ill": int(HOPE / 0.5) + 1}


@given(st.lists(st.tuples(shares, shares, st.sampled_from([0.25, 1.0])), max_size=200))
def test_the_state_stays_bounded_and_moves_add_up_to_the_level(
    outcomes: list[tuple[float, float, float]],
) -> None:
    drift, moved = Drift(seen=100.0), 0.0
    for expected, quality, weight in outcomes:
        seen = drift.see(expected=expected, quality=quality, weight=weight)
        drift, moved = seen.state, moved + seen.move
        assert -1.0 <= drift.level <= 1.0
        assert 0.0 <= drift.worse <= PATIENCE
        assert 0.0 <= drift.better <= PATIENCE
    assert moved == pytest.approx(drift.level, abs=1e-9)


@given(shares, shares)
def test_better_and_worse_mirror_each_other(expected: float, quality: float) -> None:
    seen = Drift(seen=100.0).see(expected=expected, quality=quality).state
    mirror = Drift(seen=100.0).see(expected=1.0 - expected, quality=1.0 - quality).state
    assert seen.worse == pytest.approx(mirror.better)
    assert seen.better == pytest.approx(mirror.worse)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    for kwargs in (
        {"expected": bad, "quality": 0.5},
        {"expected": 0.5, "quality": bad},
        {"expected": 0.5, "quality": 0.5, "weight": bad},
        {"expected": 0.5, "quality": 0.5, "weight": -1.0},
    ):
        with pytest.raises(ValueError, match="not numbers"):
            Drift().see(**kwargs)


def test_trials_grow_rarer_with_a_long_disgrace() -> None:
    waits = [trial_wait(since) for since in (0, 100, 1800, 3600, 36_000)]
    assert waits == [TRIAL, TRIAL, TRIAL, 2 * TRIAL, 20 * TRIAL]
