"""ATP neither appear nor vanish, and nobody pays more than was spent."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sage.economy.ledger import BUDGET, MICRO, SPENT, WORLD, Entry, Ledger, held, price
from sage.errors import BudgetSpent

CAPACITY = 100.0

amounts = st.floats(min_value=0.0, max_value=250.0)
turns = st.sampled_from([f"turn-{i}" for i in range(5)])


def replayed(entries: tuple[Entry, ...]) -> dict[str, int]:
    """What the entries alone make of empty accounts."""
    balances: dict[str, int] = {}
    for entry in entries:
        balances[entry.debit] = balances.get(entry.debit, 0) - entry.amount
        balances[entry.credit] = balances.get(entry.credit, 0) + entry.amount
    return balances


def assert_sound(balances: Mapping[str, int]) -> None:
    assert sum(balances.values()) == 0
    assert [name for name, balance in balances.items() if balance < 0 and name != WORLD] == []


class AnyOrder(RuleBasedStateMachine):
    """Every method, in any order, with any amounts."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()

    @rule(atp=amounts, capacity=st.sampled_from([CAPACITY, 10.0]))
    def recover(self, atp: float, capacity: float) -> None:
        came = self.ledger.recover(atp, capacity=capacity)
        assert 0.0 <= came <= atp + 1 / MICRO
        assert self.ledger.balance() <= capacity

    @rule(turn=turns, want=amounts, need=amounts)
    def grant(self, turn: str, want: float, need: float) -> None:
        before = self.ledger.balance()
        entries = len(self.ledger.entries)
        try:
            granted = self.ledger.grant(turn, want=want, need=need)
        except BudgetSpent:
            assert len(self.ledger.entries) == entries  # nothing half done
            assert before < need + 1 / MICRO or want < need + 1 / MICRO or round(want * MICRO) == 0
        else:
            assert granted <= min(want, before) + 1 / MICRO
            assert granted >= need - 1 / MICRO

    @rule(turn=turns, spent=amounts)
    def settle_twice(self, turn: str, spent: float) -> None:
        had = self.ledger.balance(held(turn))
        reach = had + self.ledger.balance()
        charged = self.ledger.settle(turn, spent=spent)
        if had == 0:
            assert charged == 0
        else:
            assert charged == pytest.approx(min(spent, reach), abs=1 / MICRO)
        assert charged <= spent + 0.5 / MICRO
        assert self.ledger.balance(held(turn)) == 0
        assert self.ledger.settle(turn, spent=spent) == 0

    @invariant()
    def is_sound(self) -> None:
        assert_sound(self.ledger.balances)
        assert all(entry.amount > 0 for entry in self.ledger.entries)

    @invariant()
    def entries_tell_everything(self) -> None:
        assert replayed(self.ledger.entries) == dict(self.ledger.balances)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_200_000_events_stay_exact() -> None:
    rng = random.Random(7)  # noqa: S311
    ledger = Ledger()
    charged = 0.0
    for number in range(50_000):
        turn = f"turn-{number % 40}"
        ledger.recover(rng.random() * 3, capacity=CAPACITY)
        with contextlib.suppress(BudgetSpent):
            ledger.grant(turn, want=rng.random() * 9)
        ledger.balance(held(turn))
        late = f"turn-{(number - 20) % 40}"
        charged += ledger.settle(late, spent=rng.random() * 6)
        assert ledger.settle(late, spent=1.0) == 0
    assert_sound(ledger.balances)
    assert len(ledger.entries) > 150_000
    assert replayed(ledger.entries) == dict(ledger.balances)
    assert ledger.balance(SPENT) == pytest.approx(charged)


def test_a_refund_above_the_capacity_goes_back_to_the_world() -> None:
    ledger = Ledger()
    ledger.recover(CAPACITY, capacity=CAPACITY)
    ledger.grant("turn-a", want=30)
    ledger.recover(20, capacity=CAPACITY)  # time passes while the turn runs
    ledger.settle("turn-a", spent=1)
    assert ledger.recover(0, capacity=CAPACITY) == 0
    assert ledger.balance() == CAPACITY
    assert_sound(ledger.balances)


def test_what_was_not_spent_comes_back() -> None:
    ledger = Ledger({BUDGET: 50 * MICRO, WORLD: -50 * MICRO})
    assert ledger.grant("turn-a", want=30) == 30
    assert ledger.balance() == 20
    assert ledger.settle("turn-a", spent=12.5) == 12.5
    assert ledger.balance() == 37.5
    assert ledger.balance(SPENT) == 12.5
    assert [entry.reason for entry in ledger.entries] == ["grant", "spend", "refund"]
    assert {entry.turn_id for entry in ledger.entries} == {"turn-a"}


def test_an_overrun_takes_what_the_budget_has_and_no_more() -> None:
    ledger = Ledger({BUDGET: 50 * MICRO, WORLD: -50 * MICRO})
    ledger.grant("turn-a", want=30)
    assert ledger.settle("turn-a", spent=35) == 35
    assert ledger.balance() == 15
    ledger.grant("turn-b", want=10)
    assert ledger.settle("turn-b", spent=1000) == 15
    assert ledger.balance() == 0
    assert_sound(ledger.balances)


def test_a_grant_takes_what_there_is_where_that_is_enough() -> None:
    ledger = Ledger({BUDGET: 5 * MICRO, WORLD: -5 * MICRO})
    assert ledger.grant("turn-a", want=30, need=5) == 5


@pytest.mark.parametrize(("balance", "need"), [(0, 0.0), (0, 1.0), (5, 5.1)])
def test_a_grant_that_would_not_do_is_refused(balance: int, need: float) -> None:
    ledger = Ledger({BUDGET: balance * MICRO, WORLD: -balance * MICRO})
    with pytest.raises(BudgetSpent, match=rf"holds {balance}\.0 ATP") as caught:
        ledger.grant("turn-a", want=30, need=need)
    assert caught.value.mend
    assert ledger.entries == ()
    assert ledger.balance(held("turn-a")) == 0


def test_a_turn_nobody_granted_is_charged_nothing() -> None:
    ledger = Ledger({BUDGET: 5 * MICRO, WORLD: -5 * MICRO})
    assert ledger.settle("turn-unknown", spent=3) == 0
    assert ledger.entries == ()


def test_opening_does_not_touch_the_mapping_it_was_given() -> None:
    given_balances = {BUDGET: 5 * MICRO, WORLD: -5 * MICRO}
    Ledger(given_balances).grant("turn-a", want=1)
    assert given_balances == {BUDGET: 5 * MICRO, WORLD: -5 * MICRO}


@pytest.mark.parametrize(
    ("effort", "atp"),
    [
        ({"seconds": 3.0}, 3.0),
        ({"bytes_moved": 2.0**31}, 2.0),
        ({"joules": 40.0}, 4.0),
        ({"seconds": 3.0, "bytes_moved": 2.0**31, "joules": 40.0}, 4.0),
        ({"seconds": 3.0, "bytes_moved": 2.0**33}, 8.0),
        ({}, 0.0),
        ({"seconds": -1.0}, 0.0),
    ],
)
def test_an_effort_costs_its_largest_unit(effort: dict[str, float], atp: float) -> None:
    assert price(**effort) == atp


@given(seconds=amounts, bytes_moved=st.floats(0, 1e12), joules=amounts)
def test_more_effort_never_costs_less(seconds: float, bytes_moved: float, joules: float) -> None:
    base = price(seconds=seconds, bytes_moved=bytes_moved, joules=joules)
    assert price(seconds=seconds + 1, bytes_moved=bytes_moved, joules=joules) >= base
    assert price(seconds=seconds, bytes_moved=bytes_moved * 2, joules=joules) >= base
    assert base == max(price(seconds=seconds), price(bytes_moved=bytes_moved), price(joules=joules))
