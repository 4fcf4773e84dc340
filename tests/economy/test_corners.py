"""Corners that went wrong once: ties, clocks, falls that several nodes saw, figures that are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sage.economy.context import Codebook, View
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import RECORDED, Selector

Make = Callable[..., Any]

PLENTY = Limits(atp=1e6, capacity=1e6, memory_bytes=10**9, explore_atp=1.0)


def ask(trust: Any, context: Any, now: float = 0.0, who: tuple[str, ...] = ("a", "b")) -> Any:
    half = np.full(len(who), 0.5)
    return trust.beliefs(who, context, priors=half, shifts=0.0 * half, now=now)


def test_ties_among_many_go_by_price(
    make_candidate: Make, make_situation: Make, make_book: Make, place: Make
) -> None:
    pool = Pool([make_candidate(f"m{i}", est_run_s=50.0 - i) for i in range(50)])
    decision = Selector(hot_bonus=1.2, price_scale=10.0).choose(
        make_situation(), place(), pool, make_book(), limits=PLENTY, now=0.0, dial=1.0
    )
    assert decision.chosen == "m49"


def test_equal_many_go_to_the_first(
    make_candidate: Make, make_situation: Make, make_book: Make, place: Make
) -> None:
    pool = Pool([make_candidate(f"m{i}") for i in range(1000)])
    decision = Selector(hot_bonus=1.2, price_scale=10.0).choose(
        make_situation(), place(), pool, make_book(), limits=PLENTY, now=0.0
    )
    assert [s.name for s in decision.candidates] == [f"m{i}" for i in range(RECORDED)]


def test_a_trial_that_is_too_dear_does_not_stop_exploring(
    make_candidate: Make, make_situation: Make, make_book: Make, told: Make, place: Make
) -> None:
    trust = make_book(half_life=1e9)
    for number in range(120):
        trust.observe(told(float(number % 10 > 0), candidate="a"), place())
        trust.observe(told(float(number % 10 > 4), candidate="b"), place())
    for _ in range(30):
        trust.observe(told(0.0, candidate="a"), place())
    random = np.random.default_rng(0)
    pool = Pool(
        [make_candidate("a", est_run_s=3.0), make_candidate("b"), make_candidate("new", prior={"*": 0.45})]
    )
    chosen = [
        Selector(hot_bonus=1.2, price_scale=10.0)
        .choose(make_situation(), place(), pool, trust, limits=PLENTY, now=0.0, random=random, dial=0.9)
        .chosen
        for _ in range(600)
    ]
    assert chosen.count("new") > 60


@pytest.mark.parametrize("skill", [0.3, 0.5])
def test_a_fall_that_two_nodes_saw_is_one_fall(
    skill: float, make_book: Make, told: Make, place: Make
) -> None:
    x, y = (make_book(name, half_life=1e9) for name in "xy")
    for phase in (0.9, skill):
        for number in range(200):
            for book in (x, y):
                book.observe(told(float((number * 7) % 10 < 10 * phase)), place())
                book.observe(told(0.5, candidate="b"), place())
    apart = ask(x, place()).mean[0]
    x.merge(y)
    assert ask(x, place()).mean[0] == pytest.approx(apart, abs=0.1)


def test_merged_beliefs_do_not_depend_on_who_merges(make_book: Make, told: Make, place: Make) -> None:
    x, y = (make_book(name, half_life=1e9) for name in "xy")
    for number in range(200):
        for book in (x, y):
            book.observe(told(float(number % 10 > 0)), place())
    for number in range(100):
        x.observe(told(float((number * 7) % 10 < 3)), place())
    beliefs = []
    for name, order in (("x", [y]), ("y", [x]), ("new", [x, y]), ("new", [y, x])):
        rows = {"x": x.rows(), "y": y.rows()}.get(name, [])
        book = make_book(name, half_life=1e9, rows=rows)
        for other in order:
            book.merge(other)
        beliefs.append(ask(book, place()).mean[0])
    assert beliefs == pytest.approx([beliefs[0]] * 4, abs=0.03)


def test_a_peer_whose_clock_is_ahead_does_not_erase_ours(make_book: Make, told: Make, place: Make) -> None:
    ours, theirs = make_book("x"), make_book("y")
    for _ in range(50):
        ours.observe(told(1.0), place())
    theirs.observe(told(0.0, at=1e6), place())
    ours.merge(theirs, now=0.0)
    assert ask(ours, place(), now=0.0).total.sum() > 40.0


def test_a_late_outcome_keeps_what_others_saw(make_book: Make, told: Make, place: Make) -> None:
    x, y = make_book("x"), make_book("y")
    for _ in range(10):
        x.observe(told(1.0), place())
        y.observe(told(0.0, at=2.5), place())
    x.merge(y)
    x.observe(told(1.0), place())
    again = make_book("x", rows=x.rows())
    assert ask(x, place(), now=2.5).total.sum() == pytest.approx(
        ask(again, place(), now=2.5).total.sum(), rel=0.05
    )


def test_when_all_has_faded_beliefs_are_the_cards(make_book: Make, told: Make, place: Make) -> None:
    trust = make_book()
    for _ in range(30):
        trust.observe(told(0.0), place())
    assert ask(trust, place(), now=60.0).mean == pytest.approx([0.5, 0.5], abs=0.02)


def test_what_was_learned_can_be_reopened_whatever_the_shift(
    make_book: Make, told: Make, place: Make
) -> None:
    trust = make_book()
    with pytest.raises(ValueError, match="shift"):
        trust.observe(told(1.0, shift=5.0), place())
    make_book(rows=trust.rows())


@pytest.mark.parametrize("at", [math.nan, math.inf])
def test_a_reset_needs_a_time(at: float, make_book: Make) -> None:
    with pytest.raises(ValueError, match="time"):
        make_book().reset("a", at)


def test_a_label_alone_must_be_in_range() -> None:
    book = Codebook([View(name="a", weight=1.0, size=2), View(name="b", weight=1.0, size=3)])
    for label in (-1, 2):
        with pytest.raises(ValueError, match="label"):
            book.alone("a", label)


@pytest.mark.parametrize("bad", [{"est_load_s": -0.5}, {"load_bytes": -5}, {"load_bytes": math.nan}], ids=str)
def test_a_part_of_a_price_that_is_none_closes_the_candidate(
    bad: dict[str, float], make_candidate: Make
) -> None:
    assert not Pool([make_candidate("a", **bad)]).open[0]


def test_the_frontier_rises_whoever_is_loaded(
    make_candidate: Make, make_situation: Make, make_book: Make, place: Make
) -> None:
    candidates = [
        make_candidate("hot", resident=True, est_run_s=5.0),
        make_candidate("cold", prior={"*": 0.55}, est_run_s=4.9),
    ]
    points = Selector(hot_bonus=1.2, price_scale=10.0).frontier(
        make_situation(), place(), Pool(candidates), make_book(), limits=PLENTY, now=0.0
    )
    assert [p.price for p in points] == sorted(p.price for p in points)
