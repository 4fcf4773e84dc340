"""Each factor of the rule can only help in one direction, and the dial goes from cheapest to best."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.permission import (
    DIALS,
    LEAST_LOAD_SCALE,
    cheapness,
    dial_named,
    hot_bonus_at,
    load_scale_at,
    permission,
    persistence,
    price_scale_at,
    usual_scale,
    worth_of_permission,
)
from sage.economy.permission import scales as scales_of
from sage.economy.pool import Pool
from sage.errors import UsageError
from sage.types import Candidate, Form

FORMS: tuple[Form, ...] = ("product", "additive")

prices = st.floats(min_value=0.0, max_value=1e6)
scales = st.floats(min_value=1e-3, max_value=1e6)
unit = st.floats(min_value=0.0, max_value=1.0)
bonuses = st.floats(min_value=1.0, max_value=10.0)
dials = st.floats(min_value=0.0, max_value=1.0)
forms = st.sampled_from(FORMS)


def rule(
    form: Form, expertise: list[float], price: list[float], hot: list[bool], *, scale: float, bonus: float
) -> np.ndarray:
    cheap = cheapness(np.array(price), scale=scale)
    return permission(form, np.array(expertise), cheap, persistence(np.array(hot), hot_bonus=bonus))


@pytest.mark.parametrize("scale", [0.5, 10.0, 1e6])
def test_cheapness_is_one_half_at_the_scale(scale: float) -> None:
    assert cheapness(np.array([scale, 0.0, 3 * scale]), scale=scale).tolist() == [0.5, 1.0, 0.25]


@given(price=prices, more=prices, scale=scales)
def test_a_higher_price_is_never_cheaper(price: float, more: float, scale: float) -> None:
    low, high = cheapness(np.array([price, price + more]), scale=scale)
    assert 0.0 < high <= low <= 1.0


@given(bonus=bonuses)
def test_persistence_is_the_bonus_of_the_loaded(bonus: float) -> None:
    assert persistence(np.array([True, False]), hot_bonus=bonus).tolist() == [bonus, 1.0]


@given(
    form=forms, expertise=st.tuples(unit, unit), price=st.tuples(prices, prices), scale=scales, bonus=bonuses
)
def test_permission_is_monotone_in_each_factor(
    form: Form, expertise: tuple[float, float], price: tuple[float, float], scale: float, bonus: float
) -> None:
    low, high = sorted(expertise)
    free, dear = sorted(price)
    for hot in (False, True):
        worse, better = rule(form, [low, high], [dear] * 2, [hot] * 2, scale=scale, bonus=bonus)
        assert worse <= better
        worse, better = rule(form, [low] * 2, [dear, free], [hot] * 2, scale=scale, bonus=bonus)
        assert worse <= better
    cold, loaded = rule(form, [low] * 2, [dear] * 2, [False, True], scale=scale, bonus=bonus)
    assert cold <= loaded


def test_the_product_is_the_product() -> None:
    values = permission("product", np.array([0.5, 0.0]), np.array([0.25, 1.0]), np.array([1.2, 1.2]))
    assert values == pytest.approx([0.15, 0.0])


def test_the_additive_form_takes_the_price_off() -> None:
    values = rule("additive", [0.5, 0.5], [5.0, 0.0], [False, True], scale=10.0, bonus=1.2)
    assert values == pytest.approx([0.0, 0.5 + math.log(1.2)])


@given(
    expertise=st.lists(unit, min_size=2, max_size=8, unique=True),
    price=prices,
    hot=st.booleans(),
    scale=scales,
)
def test_the_forms_rank_alike_where_only_expertise_differs(
    expertise: list[float], price: float, hot: bool, scale: float
) -> None:
    count = len(expertise)
    values = [rule(form, expertise, [price] * count, [hot] * count, scale=scale, bonus=1.2) for form in FORMS]
    best = [expertise[int(value.argmax())] for value in values]
    assert best == pytest.approx([max(expertise)] * 2, abs=1e-6)


@given(base=scales, low=dials, high=dials)
def test_the_scale_grows_with_the_dial(base: float, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert 0.0 < price_scale_at(base, low) <= price_scale_at(base, high)
    assert price_scale_at(base, 0.5) == pytest.approx(base)
    assert price_scale_at(base, 1.0) == math.inf


@given(prices=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), faster=st.floats(0.01, 100.0))
def test_the_usual_scale_follows_the_machine(prices: list[float], faster: float) -> None:
    """On a machine where all is faster by a factor, cheapness is the same."""
    here, there = np.array(prices), np.array(prices) / faster
    cheap = cheapness(here, scale=usual_scale(here))
    assert cheapness(there, scale=usual_scale(there)) == pytest.approx(cheap)


def test_what_a_load_is_held_against(make_candidate: Callable[..., Candidate]) -> None:
    """A number is for both where both count in its unit; else loads are told from usual answers, in ATP."""
    pool = Pool([make_candidate("a", est_run_s=20.0, est_usd=0.01, est_tokens=50.0)])
    quick = Pool([make_candidate("a", est_run_s=0.5)])
    assert scales_of(pool, "atp", 7.0) == scales_of(pool, "seconds", 7.0) == (7.0, 7.0)
    assert scales_of(pool, "usd", 0.5) == (0.5, 60.0)
    assert scales_of(pool, "atp", "auto") == (60.0, 60.0)
    assert scales_of(pool, "usd", "auto") == pytest.approx((0.03, 60.0))
    assert scales_of(quick, "atp", "auto") == (1.5, LEAST_LOAD_SCALE)


def test_where_nothing_costs_anything_there_is_a_scale_all_the_same() -> None:
    assert usual_scale(np.zeros(3)) == usual_scale(np.zeros(0)) == 1.0


@given(base=scales, dial=dials)
def test_a_load_is_never_free(base: float, dial: float) -> None:
    scale = load_scale_at(base, dial)
    assert scale <= price_scale_at(base, dial)
    assert scale <= load_scale_at(base, 1.0) == pytest.approx(9.0 * base)
    assert cheapness(np.zeros(1), scale=math.inf, load=scale, load_scale=scale).tolist() == [0.5]


@given(form=forms, dial=dials, expertise=st.floats(0.01, 1.0), price=prices)
def test_what_permission_is_worth_is_how_much_dearer_a_load_could_be(
    form: Form, dial: float, expertise: float, price: float
) -> None:
    """A load that costs all that a candidate has to spare leaves it level with the other."""
    scale, load_scale = price_scale_at(10.0, dial), load_scale_at(10.0, dial)
    run = np.array([price])
    warm = permission(form, np.array([expertise]), cheapness(run, scale=scale), 1.0)
    target = warm - 0.25 * abs(warm)
    load = (warm - target) * worth_of_permission(form, warm, run, scale=scale, load_scale=load_scale)
    spare = 1.0 if form == "additive" else warm / target
    cold = cheapness(run, scale=scale, load=load * spare, load_scale=load_scale)
    assert permission(form, np.array([expertise]), cold, 1.0) == pytest.approx(target, rel=1e-6, abs=1e-9)


@given(bonus=bonuses, low=dials, high=dials)
def test_the_bonus_goes_where_price_does_not_matter(bonus: float, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert 1.0 <= hot_bonus_at(bonus, high) <= hot_bonus_at(bonus, low) <= bonus + 1e-12
    assert hot_bonus_at(bonus, 0.5) == pytest.approx(bonus)
    assert hot_bonus_at(bonus, 1.0) == 1.0


def at_dial(form: Form, dial: float, expertise: list[float], price: list[float], hot: list[bool]) -> int:
    scale, bonus = price_scale_at(10.0, dial), hot_bonus_at(1.2, dial)
    return int(rule(form, expertise, price, hot, scale=scale, bonus=bonus).argmax())


rows = st.lists(st.tuples(st.integers(2, 98), st.floats(0.1, 1e4), st.booleans()), min_size=1, max_size=8)


@given(form=forms, rows=rows)
def test_at_one_end_of_the_dial_the_best_wins_whatever_it_costs(
    form: Form, rows: list[tuple[int, float, bool]]
) -> None:
    expertise = [percent / 100 for percent, _, _ in rows]
    winner = at_dial(form, 1.0, expertise, [row[1] for row in rows], [row[2] for row in rows])
    assert expertise[winner] == max(expertise)


@given(rows=rows)
def test_at_the_other_end_additive_takes_the_cheapest_and_product_value_for_price(
    rows: list[tuple[int, float, bool]],
) -> None:
    expertise, price = [row[0] / 100 for row in rows], [row[1] for row in rows]
    cold = [False] * len(rows)
    assert price[at_dial("additive", 0.0, expertise, price, cold)] <= min(price) + 10.0 * 3e-5
    value = [e / p for e, p in zip(expertise, price, strict=True)]
    assert value[at_dial("product", 0.0, expertise, price, cold)] >= 0.997 * max(value)


def test_the_named_dials_go_from_fast_to_deep() -> None:
    assert DIALS["fast"] < DIALS["balanced"] < DIALS["deep"] == 1.0
    assert DIALS["balanced"] == 0.5


@pytest.mark.parametrize(
    ("text", "dial"), [("fast", 0.1), ("deep", 1.0), ("0", 0.0), ("1.0", 1.0), ("0.25", 0.25)]
)
def test_a_dial_is_a_name_or_a_number(text: str, dial: float) -> None:
    assert dial_named(text) == dial


@pytest.mark.parametrize("text", ["", "best", "nan", "inf", "-0.1", "1.01", "0,5"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no setting") as caught:
        dial_named(text)
    assert "fast, balanced, deep" in (caught.value.mend or "")
