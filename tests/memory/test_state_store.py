"""The state between processes, and clocks that jump."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sage.economy.metabolism import Thresholds
from sage.economy.strain import Readings
from sage.memory.db import Database
from sage.memory.state_store import FACT, StateStore

DAY = 86_400.0
CALM = Readings()
ASKED = Readings(queue=1)
HOT = Readings(temperature=1.0, queue=1)


class TwoClocks:
    """A wall clock that may jump beside a monotonic one that does not."""

    def __init__(self) -> None:
        self.wall, self.steady = 1e9, 50.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock() -> TwoClocks:
    return TwoClocks()


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


def process(db: Database, clock: TwoClocks, hold: str = "auto") -> StateStore:
    """What a new process would see."""
    return StateStore(db, clock, thresholds=Thresholds(), hold=hold)  # type: ignore[arg-type]


def written(db: Database) -> int:
    return len(db.execute("SELECT 1 FROM facts WHERE name = ?", (FACT,)))


def test_it_begins_awake_and_to_look_is_not_to_write(db: Database, clock: TwoClocks) -> None:
    store = process(db, clock)
    assert store.now().state == "WAKE"
    assert store.update(ASKED).state == "WAKE"
    assert written(db) == 0


def test_a_state_survives_the_process_with_its_reason_and_its_seconds(db: Database, clock: TwoClocks) -> None:
    process(db, clock).update(HOT)
    clock.advance(7.0)
    found = process(db, clock).now()
    assert (found.state, found.since, found.seconds) == ("CRISIS", 1e9, 7.0)
    assert found.why == "the temperature is at 100% of its limit"
    assert process(db, clock).update(ASKED).state == "CRISIS"
    clock.advance(3.0)
    assert process(db, clock).update(ASKED).state == "WAKE"  # by way of REST


def test_processes_side_by_side_share_it(db: Database, clock: TwoClocks) -> None:
    one, other = process(db, clock), process(db, clock)
    assert one.update(HOT).state == "CRISIS"
    assert other.now().state == "CRISIS"
    clock.advance(10.0)
    assert other.update(ASKED).state == "WAKE"
    assert one.now().state == "WAKE"


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_a_jump_of_the_wall_clock_within_a_process_changes_nothing(
    db: Database, clock: TwoClocks, jump: float
) -> None:
    store = process(db, clock)
    store.update(HOT)
    clock.wall += jump
    clock.advance(9.0)
    assert store.update(CALM).state == "CRISIS"
    clock.advance(1.0)
    assert store.update(CALM).state == "REST"
    assert store.now().seconds == 0.0


def test_a_clock_that_goes_back_between_processes_costs_one_dwell_time_at_most(
    db: Database, clock: TwoClocks
) -> None:
    process(db, clock).update(HOT)
    clock.wall -= DAY
    assert process(db, clock).update(CALM).state == "CRISIS"
    assert process(db, clock).now().since == clock.wall
    clock.advance(10.0)
    assert process(db, clock).update(CALM).state == "REST"


def test_a_clock_that_goes_forward_ends_no_need(db: Database, clock: TwoClocks) -> None:
    process(db, clock).update(HOT)
    clock.wall += DAY
    assert process(db, clock).update(replace(HOT, temperature=0.95)).state == "CRISIS"
    assert process(db, clock).update(CALM).state == "REST"


@pytest.mark.parametrize("raw", ["", "{", "[]", '{"state": "HIBERNATE", "why": "", "since": 0}', "null"])
def test_a_record_that_is_not_understood_counts_as_none(db: Database, clock: TwoClocks, raw: str) -> None:
    db.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (FACT, raw))
    store = process(db, clock)
    assert store.now().state == "WAKE"
    assert store.update(HOT).state == "CRISIS"


def test_a_state_that_is_held_stays_and_is_not_stored(db: Database, clock: TwoClocks) -> None:
    store = process(db, clock, hold="DREAM")
    clock.advance(3.0)
    found = store.update(HOT)
    assert (found.state, found.why, found.seconds) == ("DREAM", "held by metabolism.state", 3.0)
    assert written(db) == 0
