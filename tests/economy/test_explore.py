"""Trying what is uncertain: only when allowed, within its budget, and said so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.context import Context
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import RECORDED, Selector
from sage.economy.trust import TrustBook
from sage.types import Candidate, Decision, Outcome, Situation

Make = Callable[..., Candidate]
Choose = Callable[..., Decision]


@pytest.fixture(scope="session")
def choose(
    make_situation: Callable[..., Situation],
    make_book: Callable[..., TrustBook],
    place: Callable[..., Context],
) -> Choose:
    """Choose with 5 ATP to explore with."""

    def choose(
        candidates: Sequence[Candidate],
        seed: int | None,
        *,
        explore_atp: float = 5.0,
        trust: TrustBook | None = None,
        situation: Situation | None = None,
        **how: Any,
    ) -> Decision:
        limits = Limits(atp=1e6, capacity=1e6, memory_bytes=10**9, explore_atp=explore_atp)
        return Selector(hot_bonus=1.2, price_scale=10.0).choose(
            situation or make_situation(),
            place(),
            Pool(candidates),
            trust or make_book(half_life=1e9),
            limits=limits,
            now=0.0,
            random=None if seed is None else np.random.default_rng(seed),
            **how,
        )

    return choose


def three(make_candidate: Make) -> list[Candidate]:
    priors = {"a": 0.6, "b": 0.5, "c": 0.4}
    return [make_candidate(name, prior={"*": p}) for name, p in priors.items()]


def test_without_a_generator_nothing_is_tried(make_candidate: Make, choose: Choose) -> None:
    decision = choose(three(make_candidate), None)
    assert (decision.chosen, decision.mode, decision.instead_of) == ("a", "permission", "")


def test_what_is_uncertain_is_tried_and_said_so(make_candidate: Make, choose: Choose) -> None:
    seen: Counter[str] = Counter()
    for seed in range(200):
        decision = choose(three(make_candidate), seed)
        seen[decision.chosen] += 1
        assert decision.candidates[0].name == "a"
        if decision.chosen == "a":
            assert (decision.mode, decision.instead_of) == ("permission", "")
        else:
            assert (decision.mode, decision.instead_of) == ("explore", "a")
            assert decision.reason.startswith(f"{decision.chosen} is tried instead of a, to learn")
            assert "±" in decision.reason
    assert seen["a"] > seen["c"] > 0
    assert seen["b"] > 0


def test_the_seed_decides(make_candidate: Make, choose: Choose) -> None:
    first, second = ([choose(three(make_candidate), s) for s in range(20)] for _ in range(2))
    assert first == second
    assert len({decision.chosen for decision in first}) > 1


def test_never_in_a_crisis(make_candidate: Make, choose: Choose) -> None:
    states = ("WAKE", "FOCUS", "REST", "DREAM", "CRISIS")
    modes = {
        state: {choose(three(make_candidate), s, state=state).mode for s in range(30)} for state in states
    }
    assert modes.pop("CRISIS") == {"permission"}
    assert all("explore" in seen for seen in modes.values())


@given(
    prices=st.lists(st.floats(0.1, 20.0), min_size=2, max_size=12),
    explore_atp=st.floats(0.0, 10.0),
    seed=st.integers(0, 1000),
)
def test_never_beyond_what_exploring_may_cost(
    prices: list[float], explore_atp: float, seed: int, make_candidate: Make, choose: Choose
) -> None:
    candidates = [make_candidate(f"m{i}", est_run_s=price) for i, price in enumerate(prices)]
    decision = choose(candidates, seed, explore_atp=explore_atp, dial=0.9)
    atp = {s.name: s.est_atp for s in decision.candidates}
    if decision.mode == "explore":
        assert atp[decision.chosen] <= atp[decision.instead_of] + explore_atp + 1e-9
    else:
        assert decision.chosen == choose(candidates, None, dial=0.9).chosen


def test_only_those_who_may_are_tried(
    make_candidate: Make, make_situation: Callable[..., Situation], choose: Choose
) -> None:
    candidates = [
        *three(make_candidate),
        make_candidate("long", context_length=1),
        make_candidate("dear", est_run_s=4.0),
    ]
    situation = make_situation(max_atp=2.0)
    chosen = {choose(candidates, seed, situation=situation).chosen for seed in range(60)}
    assert chosen == {"a", "b", "c"}


def test_nobody_else_means_nothing_to_try(make_candidate: Make, choose: Choose) -> None:
    assert {choose([make_candidate("a")], seed).mode for seed in range(10)} == {"permission"}


def test_who_is_tried_is_in_the_record_however_far_down(make_candidate: Make, choose: Choose) -> None:
    candidates = [make_candidate(f"m{i:03}", prior={"*": 0.6 - i * 1e-3}) for i in range(200)]
    ranks = []
    for seed in range(30):
        decision = choose(candidates, seed)
        names = [s.name for s in decision.candidates]
        assert decision.chosen in names
        assert len(names) == len(set(names)) == RECORDED
        assert decision.others == 192
        ranks.append(int(decision.chosen[1:]))
    assert max(ranks) > RECORDED


def test_it_tries_less_the_more_it_knows(
    make_candidate: Make,
    make_book: Callable[..., TrustBook],
    told: Callable[..., Outcome],
    place: Callable[..., Context],
    choose: Choose,
) -> None:
    trust = make_book(half_life=1e9)
    shares = []
    for number in range(3):
        tried = sum(choose(three(make_candidate), s, trust=trust).mode == "explore" for s in range(100))
        shares.append(tried)
        for turn in range(10 * 10**number):
            for who, right in (("a", 3), ("b", 2), ("c", 1)):
                trust.observe(told(float(turn % 4 < right), candidate=who), place())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 30 > 10 > shares[2]


def test_it_tries_more_among_specialists_than_among_equals(
    make_candidate: Make,
    make_book: Callable[..., TrustBook],
    told: Callable[..., Outcome],
    place: Callable[..., Context],
    choose: Choose,
) -> None:
    """As good overall, on as much evidence, and in a context where nobody has worked."""
    tried = []
    for gain in (0.0, 0.4):  # in the own topic; half of it is lost in the two others
        trust = make_book(half_life=1e9)
        for turn in range(300):
            for number, (who, level) in enumerate((("a", 0.6), ("b", 0.5), ("c", 0.5))):
                topic = turn % 3
                rate = level + (gain if topic == number else -gain / 2)
                trust.observe(
                    told(float(turn // 3 % 10 < 10 * rate), candidate=who), place(1 + topic, "chat")
                )
        seen = [choose(three(make_candidate), s, trust=trust).mode == "explore" for s in range(200)]
        tried.append(sum(seen))
    assert 2 * tried[0] < tried[1]


def test_it_tries_less_where_others_have_been_tried(
    make_candidate: Make,
    make_book: Callable[..., TrustBook],
    told: Callable[..., Outcome],
    place: Callable[..., Context],
    choose: Choose,
) -> None:
    """Nothing new is known of the two; but this is no new kind of work any more."""
    two = [make_candidate("a", prior={"*": 0.7}), make_candidate("b")]
    pool = [*two, make_candidate("never", prior={"*": 0.0})]
    trust = make_book(half_life=1e9, prior_strength=40.0)

    def tried() -> int:
        return sum(choose(pool, s, trust=trust).mode == "explore" for s in range(300))

    before = tried()
    for _ in range(200):
        trust.observe(told(0.0, candidate="never"), place())
    assert tried() < 0.75 * before


def test_who_has_done_little_of_anything_is_tried_before_who_is_known(
    make_candidate: Make,
    make_book: Callable[..., TrustBook],
    told: Callable[..., Outcome],
    place: Callable[..., Context],
    choose: Choose,
) -> None:
    """In a context that is no news, so that overall quality is all there is to find out."""
    trust = make_book(half_life=1e9)
    for number in range(300):
        for who, right in (("a", 6), ("known", 5)):
            trust.observe(told(float(number % 10 < right), candidate=who), place(7, "chat"))
        trust.observe(told(0.0, candidate="never"), place())
    pool = [make_candidate(who) for who in ("a", "known", "new")]
    pool.append(make_candidate("never", prior={"*": 0.0}))
    seen = Counter(choose(pool, seed, trust=trust).chosen for seed in range(200))
    assert seen["new"] > 50 > 10 > seen["known"]
