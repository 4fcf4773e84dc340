"""Columns hold what the candidates say, and figures that are none are found."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.pool import Pool, card_shift
from sage.errors import NoCandidate, WeightsMissing
from sage.types import Candidate

Make = Callable[..., Candidate]


def test_two_of_one_name_are_refused(make_candidate: Make) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Pool([make_candidate("a"), make_candidate("b"), make_candidate("a", prior={"*": 0.9})])


def test_an_empty_pool_is_a_pool() -> None:
    assert len(Pool([])) == 0
    assert Pool([]).families is None


def test_each_price_has_its_own_column(make_candidate: Make) -> None:
    slow = make_candidate("a", est_load_s=4.0, load_bytes=2**31, est_run_s=3.0, est_tokens=70.0)
    big = make_candidate("b", est_load_s=1.0, load_bytes=2**33, est_run_s=3.0, est_usd=0.25)
    pool = Pool([slow, big])
    assert pool.atp.tolist() == [7.0, 11.0]  # 4 s are more than 2 GiB, 8 GiB more than 1 s
    assert pool.prices["atp"].tolist() == [7.0, 11.0]
    assert pool.prices["seconds"].tolist() == [7.0, 4.0]
    assert pool.prices["tokens"].tolist() == [70.0, 0.0]
    assert pool.prices["usd"].tolist() == [0.0, 0.25]
    assert pool.waits["usd"].tolist() == pool.waits["tokens"].tolist() == [4.0, 8.0]  # no load is free


@pytest.mark.parametrize("figure", ["est_run_s", "est_load_s", "est_tokens", "est_usd"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -2.0])
def test_a_price_that_is_none_closes_one_candidate(figure: str, bad: float, make_candidate: Make) -> None:
    pool = Pool([make_candidate("good"), make_candidate("bad", **{figure: bad}), make_candidate("fine")])
    assert pool.open.tolist() == [True, False, True]
    assert isinstance(pool.unavailable[1], NoCandidate)
    assert "not a number" in pool.unavailable[1].message


def test_what_was_unavailable_before_keeps_its_reason(make_candidate: Make) -> None:
    gone = WeightsMissing("not here")
    pool = Pool([make_candidate("a", unavailable=gone, est_run_s=math.nan)])
    assert pool.unavailable[0] is gone


@pytest.mark.parametrize(("figure", "start"), [(1.0, 0.98), (0.0, 0.02), (math.nan, 0.5), (7.0, 0.98)])
def test_no_figure_on_a_card_is_certain(figure: float, start: float, make_candidate: Make) -> None:
    overall, _ = Pool([make_candidate("a", prior={"*": figure})]).priors("fact")
    assert overall.tolist() == pytest.approx([start])


def test_a_card_that_says_nothing_is_a_half(make_candidate: Make) -> None:
    overall, shifts = Pool([make_candidate("a", prior={})]).priors("fact")
    assert (overall.tolist(), shifts.tolist()) == ([0.5], [0.0])


@given(
    prior=st.dictionaries(st.sampled_from(["fact", "math", "*"]), st.floats(0.0, 1.0)),
    kind=st.sampled_from(["fact", "math", "chat"]),
)
def test_overall_and_shift_make_up_the_figure_of_the_kind(
    prior: dict[str, float], kind: str, make_candidate: Make
) -> None:
    overall, shifts = Pool([make_candidate("a", prior=prior)]).priors(kind)
    figure = prior.get(kind, prior.get("*", 0.5))
    assert overall[0] + shifts[0] == pytest.approx(min(0.98, max(0.02, figure)))
    assert shifts[0] == card_shift(prior, kind)


def test_who_is_able_depends_on_every_need(make_candidate: Make) -> None:
    names = {"a": {"text"}, "b": {"text", "image"}, "c": {"image"}}
    pool = Pool([make_candidate(n, capabilities=frozenset(c)) for n, c in names.items()])
    assert pool.able(frozenset({"text"})).tolist() == [True, True, False]
    assert pool.able(frozenset({"text", "image"})).tolist() == [False, True, False]
    assert pool.able(frozenset()).all()


def test_only_relatives_share_a_family(make_candidate: Make) -> None:
    families = ["x", "", "y", "x", ""]
    pool = Pool([make_candidate(str(i), family=family) for i, family in enumerate(families)])
    assert pool.families is not None
    numbers = pool.families.tolist()
    assert numbers[0] == numbers[3]
    assert len(set(numbers)) == 4
    assert Pool([make_candidate("a", family="x"), make_candidate("b", family="y")]).families is None
