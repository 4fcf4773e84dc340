"""A candidate that becomes worse loses its work, is tried now and then, and gets it back when it is well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sage.economy.context import Context
from sage.economy.drift import TRIAL
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook
from sage.types import Candidate, Decision, Outcome, Situation

MakeBook = Callable[..., TrustBook]
Tell = Callable[..., Outcome]
Place = Callable[..., Context]
Chooser = Callable[..., Decision]

FOREVER = 1e9


@pytest.fixture(scope="session")
def choose(
    make_candidate: Callable[..., Candidate], make_situation: Callable[..., Situation], place: Place
) -> Chooser:
    """Choose between ``a`` and ``b``, which cost the same."""
    pool = Pool([make_candidate("a"), make_candidate("b")])
    limits = Limits(atp=1e6, capacity=1e6, memory_bytes=10**9, explore_atp=1.0)

    def choose(trust: TrustBook, random: np.random.Generator | None) -> Decision:
        return Selector(hot_bonus=1.2, price_scale=10.0).choose(
            make_situation(), place(), pool, trust, limits=limits, now=0.0, random=random
        )

    return choose


def known(make_book: MakeBook, told: Tell, place: Place, origin: str = "here") -> TrustBook:
    """A book that knows ``a`` as good and ``b`` as middling."""
    trust = make_book(origin, half_life=FOREVER)
    for number in range(120):
        trust.observe(told(float(number % 10 > 0), candidate="a"), place(number % 4))
        trust.observe(told(float(number % 10 > 4), candidate="b"), place(number % 4))
    return trust


def mean(trust: TrustBook, context: Context) -> list[float]:
    half = np.full(2, 0.5)
    return trust.beliefs(("a", "b"), context, priors=half, shifts=0.0 * half, now=0.0).mean.tolist()


def ruined(make_book: MakeBook, told: Tell, place: Place) -> TrustBook:
    """The same after ``a`` broke."""
    trust = known(make_book, told, place)
    for _ in range(30):
        trust.observe(told(0.0, candidate="a"), place(0))
    return trust


def test_a_fall_is_seen_in_every_context_after_few_outcomes_in_one(
    make_book: MakeBook, told: Tell, place: Place
) -> None:
    before, after = known(make_book, told, place), ruined(make_book, told, place)
    assert not before.drift("a").disgraced
    assert after.drift("a").disgraced
    assert not after.drift("b").disgraced
    for topic in range(4):
        old, new = mean(before, place(topic)), mean(after, place(topic))
        assert old[0] > old[1] + 0.2
        assert new[0] < new[1] - 0.1  # 30 failures among 150 outcomes would not do that
        assert new[1] == pytest.approx(old[1], abs=0.1)


def test_what_does_not_change_is_never_in_disgrace(make_book: MakeBook, told: Tell, place: Place) -> None:
    trust = make_book(half_life=FOREVER)
    random = np.random.default_rng(0)
    for _ in range(1500):
        for who, skill in (("a", 0.9), ("b", 0.3)):
            topic = int(random.integers(4))
            trust.observe(told(float(random.random() < skill), candidate=who), place(topic))
    assert trust.drift("a").alarms == trust.drift("b").alarms == 0


def test_it_is_tried_again_now_and_then_and_only_when_exploring(
    make_book: MakeBook, told: Tell, place: Place, choose: Chooser
) -> None:
    quiet = ruined(make_book, told, place)
    assert {choose(quiet, None).chosen for _ in range(4 * TRIAL)} == {"b"}
    trust = ruined(make_book, told, place)
    random = np.random.default_rng(0)
    chosen = []
    for number in range(400):
        chosen.append(choose(trust, random).chosen)
        right = chosen[-1] == "b" and number % 10 > 4
        trust.observe(told(float(right), candidate=chosen[-1]), place(number % 4))
    assert 400 / (6 * TRIAL) <= chosen.count("a") <= 400 / TRIAL + 10  # beside those by chance


def test_one_that_may_not_be_chosen_is_not_tried(make_book: MakeBook, told: Tell, place: Place) -> None:
    trust = ruined(make_book, told, place)
    for number in range(10 * TRIAL):
        trust.observe(told(float(number % 2), candidate="b"), place(number % 4))
    assert trust.due_for_trial({"a": 0, "b": 1}, np.array([0.1, 0.5])) == 0
    assert trust.due_for_trial({"a": 0, "b": 1}, np.array([-np.inf, 0.5])) is None
    assert trust.due_for_trial({"b": 0}, np.array([0.5])) is None


def test_it_is_trusted_again_when_it_is_well(
    make_book: MakeBook, told: Tell, place: Place, choose: Chooser
) -> None:
    trust = ruined(make_book, told, place)
    random = np.random.default_rng(1)
    chosen = []
    for number in range(600):
        decision = choose(trust, random)
        chosen.append(decision.chosen)
        right = number % 10 > (0 if decision.chosen == "a" else 4)
        trust.observe(told(float(right), candidate=decision.chosen), place(number % 4))
    assert chosen[:20].count("a") < 5
    assert chosen[-100:].count("a") > 80
    assert not trust.drift("a").disgraced


def test_disgrace_is_kept_with_the_row_and_forgotten_by_a_reset(
    make_book: MakeBook, told: Tell, place: Place
) -> None:
    trust = ruined(make_book, told, place)
    again = make_book(half_life=FOREVER, rows=trust.rows())
    assert again.drift("a") == trust.drift("a")
    assert mean(again, place()) == pytest.approx(mean(trust, place()), abs=0.02)
    trust.reset("a", 1.0)
    assert not trust.drift("a").disgraced
    assert not make_book(half_life=FOREVER, rows=again.rows(), resets=trust.resets).drift("a").disgraced


def test_self_praise_neither_hides_a_fall_nor_ends_a_disgrace(
    make_book: MakeBook, told: Tell, place: Place
) -> None:
    trust = ruined(make_book, told, place)
    for _ in range(200):
        trust.observe(told(1.0, candidate="a", source="self"), place(0))
    assert trust.drift("a") == ruined(make_book, told, place).drift("a")
