"""From the cheapest to the best: what each setting of the dial would choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.context import Context
from sage.economy.demand import Demand
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import FrontierPoint, Selector
from sage.economy.trust import TrustBook
from sage.errors import DeadlineExceeded
from sage.types import Candidate, Form, Situation

Make = Callable[..., Candidate]
Frontier = Callable[..., tuple[FrontierPoint, ...]]

LIMITS = Limits(atp=1e9, capacity=1e9, memory_bytes=10**9)


@pytest.fixture(scope="session")
def frontier(
    make_situation: Callable[..., Situation],
    make_book: Callable[..., TrustBook],
    place: Callable[..., Context],
) -> Frontier:
    def frontier(
        candidates: Sequence[Candidate], form: Form = "product", **needs: object
    ) -> tuple[FrontierPoint, ...]:
        return Selector(hot_bonus=1.2, price_scale=10.0, form=form).frontier(
            make_situation(**needs), place(), Pool(candidates), make_book(), limits=LIMITS, now=0.0
        )

    return frontier


specs = st.lists(
    st.tuples(st.integers(2, 98), st.floats(0.01, 1000.0)), min_size=1, max_size=14, unique_by=lambda s: s[0]
)


@given(specs=specs, form=st.sampled_from(["product", "additive"]))
def test_along_it_quality_and_price_rise_from_the_cheap_to_the_best(
    specs: list[tuple[int, float]], form: Form, make_candidate: Make, frontier: Frontier
) -> None:
    candidates = [
        make_candidate(f"m{i}", prior={"*": percent / 100}, est_run_s=price)
        for i, (percent, price) in enumerate(specs)
    ]
    points = frontier(candidates, form)
    for before, after in pairwise(points):
        assert before.dial < after.dial
        assert before.expertise < after.expertise
        assert before.price < after.price + 1e-9
    assert points[0].dial == 0.0
    assert points[-1].expertise == pytest.approx(max(percent for percent, _ in specs) / 100)
    if form == "additive":
        assert points[0].price <= min(price for _, price in specs) + 1e-3
    else:
        value = max(percent / 100 / price for percent, price in specs)
        assert points[0].expertise / points[0].price >= 0.95 * value


def test_who_is_never_worth_it_is_not_on_it(make_candidate: Make, frontier: Frontier) -> None:
    candidates = [
        make_candidate("small", prior={"*": 0.4}, est_run_s=0.1),
        make_candidate("worse", prior={"*": 0.3}, est_run_s=5.0),
        make_candidate("middle", prior={"*": 0.7}, est_run_s=2.0),
        make_candidate("large", prior={"*": 0.9}, est_run_s=40.0),
    ]
    assert [point.name for point in frontier(candidates)] == ["small", "middle", "large"]


def test_each_point_is_what_the_dial_would_choose(
    make_candidate: Make,
    frontier: Frontier,
    make_situation: Callable[..., Situation],
    make_book: Callable[..., TrustBook],
    place: Callable[..., Context],
) -> None:
    candidates = [
        make_candidate(f"m{i}", prior={"*": 0.3 + 0.06 * i}, est_run_s=0.1 * 2.5**i, resident=i % 3 == 0)
        for i in range(10)
    ]
    points = frontier(candidates)
    assert len(points) > 3
    for point in points:
        decision = Selector(hot_bonus=1.2, price_scale=10.0).choose(
            make_situation(),
            place(),
            Pool(candidates),
            make_book(),
            limits=LIMITS,
            now=0.0,
            dial=point.dial,
            state="FOCUS",
        )
        assert decision.chosen == point.name
        assert decision.candidates[0].price == point.price


def test_a_load_that_was_paid_is_no_price_on_it(
    make_candidate: Make,
    make_situation: Callable[..., Situation],
    make_book: Callable[..., TrustBook],
    place: Callable[..., Context],
) -> None:
    """As in a decision: who was missed often enough stands there with what its answer takes."""
    pool = Pool(
        [
            make_candidate("here", prior={"*": 0.6}, resident=True),
            make_candidate("cold", prior={"*": 0.8}, est_load_s=9.0, reload_s=9.0, est_run_s=1.5),
        ]
    )
    selector, demand = Selector(hot_bonus=1.2, price_scale=10.0), Demand()

    def points() -> dict[str, float]:
        found = selector.frontier(
            make_situation(), place(), pool, make_book(), limits=LIMITS, now=0.0, demand=demand
        )
        return {point.name: point.price for point in found}

    assert points() == {"here": 1.0, "cold": 10.5}
    for _ in range(10):
        demand.see(pool, np.array([0.5, 0.7]), np.full(2, 10.0))
    assert points() == {"here": 1.0, "cold": 1.5}
    assert points() == {"here": 1.0, "cold": 1.5}


def test_only_those_who_may_are_on_it(make_candidate: Make, frontier: Frontier) -> None:
    candidates = [make_candidate("a"), make_candidate("slow", prior={"*": 0.9}, est_run_s=30.0)]
    assert [p.name for p in frontier(candidates, deadline_s=20.0)] == ["a"]
    with pytest.raises(DeadlineExceeded):
        frontier(candidates, deadline_s=0.5)
