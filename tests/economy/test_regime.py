"""What the states allow, and that scarce states allow less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.metabolism import STATES
from sage.economy.regime import (
    LEAST_GRANT,
    REGIMES,
    drafts_allowed,
    grant_for,
    keep_cheapest,
    recovery_factor,
)
from sage.economy.strain import Readings

amounts = st.floats(0.0, 500.0)
anything = st.floats(allow_nan=True, allow_infinity=True)
USUAL = 30.0


def grant(state: str = "WAKE", *, want: float = 1e3, salience: float = 0.5, balance: float = 100.0) -> float:
    regime = REGIMES[state]  # type: ignore[index]
    return grant_for(want, usual=USUAL, salience=salience, regime=regime, balance=balance)


def test_every_state_has_a_regime_and_crisis_has_the_least() -> None:
    assert set(REGIMES) == set(STATES)
    crisis = REGIMES["CRISIS"]
    for state in set(STATES) - {"CRISIS"}:
        other = REGIMES[state]
        assert crisis.budget < other.budget
        assert crisis.drafts < other.drafts
        assert crisis.candidates is not None
        assert other.candidates is None or crisis.candidates < other.candidates
    assert [state for state in STATES if REGIMES[state].explore] == ["WAKE"]
    assert [state for state in STATES if REGIMES[state].background == "full"] == ["DREAM"]
    assert crisis.background == "none"


@given(want=amounts, usual=amounts, balance=amounts, salience=anything, state=st.sampled_from(STATES))
def test_a_grant_is_never_negative_nor_more_than_there_is(
    want: float, usual: float, balance: float, salience: float, state: str
) -> None:
    regime = REGIMES[state]  # type: ignore[index]
    given_atp = grant_for(want, usual=usual, salience=salience, regime=regime, balance=balance)
    assert 0.0 <= given_atp <= min(want, balance)
    assert given_atp >= min(want, balance, LEAST_GRANT), "what is cheap is begun in every state"


def test_salience_and_state_decide_how_much() -> None:
    assert grant() == USUAL
    assert grant(salience=0.0) == USUAL / 2
    assert grant(salience=1.0) == USUAL * 1.5
    assert grant("FOCUS") == USUAL * 2
    assert grant("CRISIS") == USUAL / 5
    assert grant("FOCUS", salience=1.0, balance=70.0) == 70.0
    assert grant(want=4.0, salience=1.0) == 4.0
    assert grant("CRISIS", want=-5.0) == 0.0
    assert grant(balance=-1.0) == 0.0


@pytest.mark.parametrize(
    ("state", "most", "allowed"),
    [("WAKE", 3, 3), ("FOCUS", 3, 6), ("REST", 3, 2), ("DREAM", 3, 1), ("CRISIS", 100, 1), ("REST", 1, 1)],
)
def test_drafts(state: str, most: int, allowed: int) -> None:
    assert drafts_allowed(most, REGIMES[state]) == allowed  # type: ignore[index]


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 10)), min_size=1, max_size=12),
    st.one_of(st.none(), st.integers(0, 13)),
)
def test_the_cheapest_stay(lines: list[tuple[bool, float]], most: int | None) -> None:
    ok, prices = np.array([line[0] for line in lines]), np.array([line[1] for line in lines])
    kept = keep_cheapest(ok, prices, most)
    assert not (kept & ~ok).any()
    assert kept.sum() == (ok.sum() if most is None else min(ok.sum(), max(1, most)))
    if kept.any() and (ok & ~kept).any():
        assert prices[kept].max() <= prices[ok & ~kept].min()


def test_recovery_by_state_power_and_heat() -> None:
    wake, calm = REGIMES["WAKE"], Readings()
    assert recovery_factor(wake, calm) == 1.0
    assert recovery_factor(REGIMES["REST"], calm) > 1.0 > recovery_factor(REGIMES["FOCUS"], calm)
    assert recovery_factor(wake, Readings(battery=0.9, on_mains=False)) == 0.5
    assert recovery_factor(wake, Readings(battery=0.9)) == 1.0
    assert recovery_factor(wake, Readings(temperature=0.94)) == pytest.approx(0.625)
    assert recovery_factor(wake, Readings(temperature=1.2)) == 0.25


@given(state=st.sampled_from(STATES), temperature=anything, battery=st.one_of(st.none(), anything))
def test_something_always_comes_back(state: str, temperature: float, battery: float | None) -> None:
    readings = Readings(temperature=temperature, battery=battery, on_mains=False)
    assert 0.05 < recovery_factor(REGIMES[state], readings) <= 2.0  # type: ignore[index]
