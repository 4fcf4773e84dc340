"""Rates and ATP, as they are kept between processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.config import AtpSettings
from sage.errors import BudgetSpent
from sage.memory.books import RATE_WEIGHT, Books
from sage.memory.db import Database
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Situation

DAY = 86_400.0
ATP = AtpSettings(capacity=100.0, recovery_per_s=0.5, grant=30.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


@pytest.fixture
def books(db: Database, clock: FakeClock) -> Books:
    return open_again(db, clock)


def open_again(db: Database, clock: FakeClock, atp: AtpSettings = ATP) -> Books:
    return Books(db, VerbatimStore(db, clock), clock, atp)


def balances(db: Database) -> dict[str, int]:
    found = dict(db.execute("SELECT name, balance FROM accounts"))
    entries: dict[str, int] = {}
    for debit, credit, amount in db.execute("SELECT debit, credit, amount FROM entries"):
        entries[debit] = entries.get(debit, 0) - amount
        entries[credit] = entries.get(credit, 0) + amount
    assert {name: balance for name, balance in entries.items() if balance} == {
        name: balance for name, balance in found.items() if balance
    }
    assert sum(found.values()) == 0
    return found


def turn(db: Database, clock: FakeClock, name: str = "turn-1") -> None:
    situation = Situation(
        messages=(Message(role="user", content="Why?"),),
        kind="fact",
        prompt_tokens=3,
        max_tokens=16,
        session="s",
    )
    VerbatimStore(db, clock).begin(name, situation)


# --- ATP ---


def test_the_first_day_is_full(books: Books, db: Database) -> None:
    assert books.balance() == 100.0
    assert balances(db) == {}  # to look is not to write
    books.settle("turn-none", spent=0.0)
    assert balances(db) == {"world": -100_000_000, "budget": 100_000_000}


def test_atp_recover_with_time_up_to_the_capacity(books: Books, clock: FakeClock, db: Database) -> None:
    books.grant("turn-1", want=30, need=0)
    books.settle("turn-1", spent=30)
    assert books.balance() == 70.0
    clock.advance(10)
    assert books.balance() == 75.0
    assert books.balance() == 75.0  # the same seconds count once
    clock.advance(1e6)
    assert books.balance() == 100.0
    assert balances(db)["spent"] == 30_000_000


def test_many_small_waits_bring_what_one_long_wait_does(books: Books, clock: FakeClock) -> None:
    books.grant("turn-1", want=30, need=0)
    books.settle("turn-1", spent=30)
    for _ in range(25):
        clock.advance(0.4)
        books.balance()
    assert books.balance() == pytest.approx(75.0, abs=1e-3)


def test_a_clock_that_goes_back_brings_nothing(books: Books, clock: FakeClock) -> None:
    books.grant("turn-1", want=30, need=0)
    books.settle("turn-1", spent=30)
    clock.advance(-500 * DAY)
    assert books.balance() == 70.0
    clock.advance(2)
    assert books.balance() == 71.0  # and time goes on from there


def test_a_refund_does_not_lift_the_balance_above_the_capacity(
    books: Books, clock: FakeClock, db: Database
) -> None:
    books.grant("turn-1", want=30, need=0)
    clock.advance(40)
    assert books.balance() == 90.0
    books.settle("turn-1", spent=1)
    assert books.balance() == 100.0
    balances(db)


def test_a_lower_capacity_holds_at_once(db: Database, clock: FakeClock) -> None:
    assert open_again(db, clock).balance() == 100.0
    small = AtpSettings(capacity=10.0, recovery_per_s=0.5, grant=5.0)
    assert open_again(db, clock, small).balance() == 10.0
    balances(db)


def test_an_empty_budget_is_not_a_first_day(books: Books, db: Database, clock: FakeClock) -> None:
    books.grant("turn-1", want=1000, need=0)
    books.settle("turn-1", spent=1000)
    assert open_again(db, clock).balance() == 0.0
    with pytest.raises(BudgetSpent):
        books.grant("turn-2", want=30, need=0)


def test_a_grant_is_held_settled_once_and_leaves_no_account(books: Books, db: Database) -> None:
    assert books.grant("turn-1", want=30, need=5) == 30.0
    assert balances(db)["held:turn-1"] == 30_000_000
    assert books.settle("turn-1", spent=12.5) == 12.5
    assert books.settle("turn-1", spent=12.5) == 0.0
    assert books.balance() == 87.5
    assert set(balances(db)) == {"world", "budget", "spent"}
    reasons = [row[0] for row in db.execute("SELECT reason FROM entries WHERE turn_id = 'turn-1'")]
    assert reasons == ["grant", "spend", "refund"]


def test_a_grant_that_is_refused_changes_nothing(books: Books, db: Database) -> None:
    books.balance()
    before = balances(db)
    with pytest.raises(BudgetSpent):
        books.grant("turn-1", want=200, need=150)
    assert balances(db) == before


def test_the_books_are_there_when_opened_again(books: Books, db: Database, clock: FakeClock) -> None:
    books.grant("turn-1", want=30, need=0)
    again = open_again(db, clock)
    assert again.balance() == 70.0
    assert again.settle("turn-1", spent=10) == 10.0


# --- rates ---


def test_the_first_measurement_stands_and_the_next_are_folded_in(
    books: Books, db: Database, clock: FakeClock
) -> None:
    assert books.rates() == {}
    books.measure("a", [("generate_tok_s", 100.0), ("load_s", 2.0)])
    assert books.rates() == {"a": {"generate_tok_s": 100.0, "load_s": 2.0}}
    clock.advance(5)
    books.measure("a", [("generate_tok_s", 50.0), ("load_s", None)])
    assert RATE_WEIGHT == 0.3
    assert books.rates()["a"] == {"generate_tok_s": pytest.approx(85.0), "load_s": 2.0}
    books.measure("a", [("generate_tok_s", 50.0)])
    assert books.rates()["a"]["generate_tok_s"] == pytest.approx(74.5)
    rows = db.execute("SELECT name, samples, updated_at FROM rates ORDER BY name")
    assert rows == [("generate_tok_s", 3, clock.time()), ("load_s", 1, clock.time() - 5)]


def test_rates_are_kept_by_model(books: Books) -> None:
    books.measure("a", [("load_s", 2.0)])
    books.measure("b", [("load_s", 4.0)])
    assert books.rates() == {"a": {"load_s": 2.0}, "b": {"load_s": 4.0}}


def test_rates_follow_a_machine_that_has_changed(books: Books) -> None:
    books.measure("a", [("generate_tok_s", 100.0)])
    for _ in range(20):
        books.measure("a", [("generate_tok_s", 10.0)])
    assert books.rates()["a"]["generate_tok_s"] == pytest.approx(10.0, abs=0.1)


def test_grants_of_turns_that_run_no_more_come_back(books: Books, db: Database, clock: FakeClock) -> None:
    for name in ("turn-running", "turn-ended"):
        turn(db, clock, name)
        books.grant(name, want=10.0, need=0.0)
    db.execute("UPDATE turns SET status = 'abandoned' WHERE id = 'turn-ended'")
    books.release_ended()
    books.release_ended()
    assert balances(db).get("held:turn-ended", 0) == 0
    assert balances(db)["held:turn-running"] == 10_000_000
    assert books.balance() == pytest.approx(90.0)


# --- recovery, folding ---


def test_what_comes_back_follows_the_factor_from_when_it_changed(
    books: Books, db: Database, clock: FakeClock
) -> None:
    books.grant("turn-1", want=80, need=0)
    books.settle("turn-1", spent=80)
    clock.advance(10)  # at 0.5 a second
    books.recover_at(0.2)
    assert books.recovery_per_s() == pytest.approx(0.1)
    clock.advance(10)
    assert open_again(db, clock).balance() == pytest.approx(26.0)
    books.recover_at(2.0)
    clock.advance(10)
    assert books.balance() == pytest.approx(36.0)
    balances(db)


def test_a_factor_that_hardly_changes_is_not_written(books: Books, db: Database) -> None:
    books.recover_at(1.02)
    assert db.execute("SELECT count(*) FROM facts") == [(0,)]
    books.recover_at(0.5)
    assert books.recovery_per_s() == 0.25


def test_folded_books_are_smaller_and_as_exact(
    books: Books, db: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sage.memory.books.FOLDED_AT_ONCE", 7)
    for number in range(20):
        books.grant(f"turn-{number}", want=5, need=0)
        if number != 4:  # this one is held beyond the fold
            books.settle(f"turn-{number}", spent=2)
        clock.advance(1)
    cutoff = clock.time()
    clock.advance(1)
    books.grant("turn-new", want=3, need=0)
    before, written = balances(db), db.execute("SELECT count(*) FROM entries")[0][0]
    gone = sum(books.fold(cutoff))
    left = db.execute("SELECT count(*) FROM entries")[0][0]
    assert gone == written - left > 40
    assert balances(db) == before
    assert books.audit() == {}
    opening = dict(db.execute("SELECT credit, amount FROM entries WHERE reason = 'opening'"))
    assert set(opening) == {"budget", "spent", "held:turn-4"}
    assert sum(books.fold(cutoff)) == 0
    assert books.settle("turn-4", spent=1) == 1.0
    clock.advance(1)
    assert sum(books.fold(clock.time())) > 0
    assert set(balances(db)) == {"world", "budget", "spent", "held:turn-new"}


def test_an_audit_tells_what_is_off(books: Books, db: Database) -> None:
    books.grant("turn-1", want=5, need=0)
    assert books.audit() == {}
    db.execute("UPDATE accounts SET balance = balance + 7 WHERE name = 'budget'")
    assert books.audit() == {"budget": 7, "sum": 7}


def test_a_balance_can_be_read_where_nothing_can_be_written(
    books: Books, home: Path, clock: FakeClock
) -> None:
    books.grant("turn-1", want=30, need=0)
    clock.advance(-DAY)
    with Database(home / "sage.db", read_only=True) as db:
        assert open_again(db, clock).balance() == 70.0


def test_a_process_that_is_killed_leaves_exact_books(home: Path, clock: FakeClock) -> None:
    told, spender = 0, Path(__file__).with_name("spender.py")
    for seed in range(4):
        process = subprocess.Popen(
            [sys.executable, str(spender), str(home / "sage.db"), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        told += sum(int(process.stdout.readline()) for _ in range(5 + seed * 7))
        process.kill()
        with process.stdout:
            rest = process.stdout.read().splitlines()
        process.wait()
        told += sum(int(line) for line in rest)
        with Database(home / "sage.db") as db:
            books = open_again(db, clock)
            books.release_ended()
            assert books.audit() == {}
            found = balances(db)
            assert set(found) <= {"world", "budget", "spent"}
            assert found["spent"] >= told > 0
            assert found["budget"] >= 0
