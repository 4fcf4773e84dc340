"""Each factor of the rule can only help in one direction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.permission import cheapness, permission, persistence

prices = st.floats(min_value=0.0, max_value=1e9)
scales = st.floats(min_value=1e-3, max_value=1e6)
unit = st.floats(min_value=0.0, max_value=1.0)


@pytest.mark.parametrize("scale", [0.5, 10.0, 1e6])
def test_cheapness_is_one_half_at_the_scale(scale: float) -> None:
    assert cheapness(scale, scale=scale) == 0.5
    assert cheapness(0.0, scale=scale) == 1.0
    assert cheapness(3 * scale, scale=scale) == 0.25


@given(atp=prices, more=prices, scale=scales)
def test_a_higher_price_is_never_cheaper(atp: float, more: float, scale: float) -> None:
    assert 0.0 < cheapness(atp + more, scale=scale) <= cheapness(atp, scale=scale) <= 1.0


@given(scale=scales)
def test_a_negative_price_is_free_not_better_than_free(scale: float) -> None:
    assert cheapness(-5.0, scale=scale) == 1.0


@given(bonus=st.floats(min_value=1.0, max_value=10.0))
def test_persistence_is_the_bonus_of_the_loaded(bonus: float) -> None:
    assert persistence(True, hot_bonus=bonus) == bonus
    assert persistence(False, hot_bonus=bonus) == 1.0


@given(expertise=unit, better=unit, cheap=unit, cheaper=unit, bonus=st.floats(1.0, 10.0))
def test_permission_is_monotone_in_each_factor(
    expertise: float, better: float, cheap: float, cheaper: float, bonus: float
) -> None:
    low, high = sorted((expertise, better))
    dear, free = sorted((cheap, cheaper))
    assert permission(low, cheap, 1.0) <= permission(high, cheap, 1.0)
    assert permission(expertise, dear, 1.0) <= permission(expertise, free, 1.0)
    assert permission(expertise, cheap, 1.0) <= permission(expertise, cheap, bonus)


def test_permission_is_the_product() -> None:
    assert permission(0.5, 0.25, 1.2) == pytest.approx(0.15)
    assert permission(0.0, 1.0, 1.2) == 0.0
