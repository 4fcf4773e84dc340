"""Readings put together; the state and the recovery that follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.config import AtpSettings, MetabolismSettings, Settings
from sage.economy.metabolism import Thresholds
from sage.hardware.pressure import FRESH_S, PressureGauge
from sage.hardware.probe import Memory
from sage.hardware.sensors import Battery, Heat
from sage.kernel.vitals import Vitals, open_vitals
from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.state_store import StateStore
from sage.memory.verbatim import VerbatimStore

ATP = AtpSettings(capacity=100.0, recovery_per_s=1.0)


class Body:
    """Vitals on a machine whose sensors say what the test says."""

    def __init__(self, db: Database) -> None:
        self.clock = FakeClock()
        self.celsius = 50.0
        self.battery: Battery | None = None
        self.books = Books(db, VerbatimStore(db, self.clock), self.clock, ATP)
        gauge = PressureGauge(
            clock=self.clock,
            read_memory=lambda: Memory(8 * 2**30, 4 * 2**30),
            read_stalled=lambda: 0.0,
            read_heat=lambda: {"cpu": Heat(self.celsius, 100.0)},
            read_battery=lambda: self.battery,
        )
        states = StateStore(db, self.clock, thresholds=Thresholds())
        self.vitals = Vitals(
            books=self.books, states=states, gauge=gauge, clock=self.clock, capacity=ATP.capacity
        )

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


@pytest.fixture
def body(db: Database) -> Body:
    return Body(db)


def test_a_day_of_a_kernel(body: Body) -> None:
    asked = body.vitals.update(salience=0.4, queue=1)
    assert (asked.standing.state, asked.regime.explore, asked.readings.balance) == ("WAKE", True, 1.0)
    assert body.vitals.update(salience=0.9, queue=1).standing.state == "FOCUS"
    assert body.books.recovery_per_s() == 0.5
    body.wait(11)
    assert body.vitals.update(salience=0.1, queue=1).standing.state == "FOCUS"  # 0.9 was a moment ago
    body.wait(61)
    assert body.vitals.update(salience=0.1, queue=1).standing.state == "WAKE"
    body.wait(60)
    assert body.vitals.update(backlog=2).standing.state == "REST"
    assert body.books.recovery_per_s() == 1.5
    body.wait(300)
    assert body.vitals.update(backlog=2).standing.state == "DREAM"
    assert body.vitals.update(queue=1, backlog=2).standing.state == "WAKE"
    assert body.vitals.update(queue=1, backlog=2).readings.idle_s == 0.0


def test_heat_and_battery_reach_the_state_and_the_recovery(body: Body) -> None:
    body.vitals.update(queue=1)
    body.battery, body.celsius = Battery(0.8, False), 94.0
    for _ in range(2):
        body.wait(FRESH_S)
        found = body.vitals.update(queue=1)
    assert found.readings.temperature == 0.94
    assert body.books.recovery_per_s() == pytest.approx(0.3125, abs=0.05)
    body.celsius = 99.0
    for _ in range(2):
        body.wait(FRESH_S)
        found = body.vitals.update(queue=1)
    assert (found.standing.state, found.standing.why) == ("CRISIS", "the temperature is at 99% of its limit")
    assert found.regime.candidates == 2


def test_an_empty_budget_is_a_crisis_that_ends_as_atp_come_back(body: Body) -> None:
    body.books.grant("turn-1", want=95, need=0)
    body.books.settle("turn-1", spent=95)
    assert body.vitals.update(queue=1).standing.state == "CRISIS"
    body.wait(16)
    assert body.vitals.update(queue=1).standing.state == "REST"
    body.wait(20)
    assert body.vitals.update(queue=1).standing.state == "WAKE"


def test_to_look_changes_nothing(body: Body, db: Database) -> None:
    body.celsius = 120.0
    found = body.vitals.look(queue=1, idle_s=5.0)
    assert (found.standing.state, found.readings.temperature, found.readings.idle_s) == ("WAKE", 1.2, 5.0)
    assert db.execute("SELECT count(*) FROM facts") == [(0,)]


def test_the_settings_reach_it(db: Database) -> None:
    clock = FakeClock()
    books = Books(db, VerbatimStore(db, clock), clock, ATP)
    settings = Settings(atp=ATP, metabolism=MetabolismSettings(state="CRISIS"))
    vitals = open_vitals(db, books, settings, clock)
    assert vitals.update(queue=1).standing.state == "CRISIS"
    eager = Settings(atp=ATP, metabolism=MetabolismSettings(focus_salience=0.2))
    assert open_vitals(db, books, eager, clock).update(salience=0.2, queue=1).standing.state in (
        "FOCUS",
        "CRISIS",
    )
