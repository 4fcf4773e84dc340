"""Pressure: cached, and an alarm needs two readings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import pytest

from sage.clock import FakeClock
from sage.hardware.pressure import FRESH_S, PressureGauge
from sage.hardware.probe import Memory
from sage.hardware.sensors import Battery, Heat

GIB = 2**30
PLENTY = Memory(8 * GIB, 4 * GIB)


class Machine:
    """Sensors that say what they are told to; the last value stays."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.memory = PLENTY
        self.stalled = 0.0
        self.celsius: list[float] = [50.0]
        self.charge: list[Battery | None] = [None]
        self.asked = 0
        self.takes_s = 0.0

    def heat(self) -> Mapping[str, Heat]:
        self.asked += 1
        self.clock.advance(self.takes_s)
        return {"cpu/0": Heat(self._next(self.celsius), 100.0)}

    def gauge(self, **options: float) -> PressureGauge:
        return PressureGauge(
            clock=self.clock,
            read_memory=lambda: self.memory,
            read_stalled=lambda: self.stalled,
            read_heat=self.heat,
            read_battery=lambda: self._next(self.charge),
            **options,
        )

    @staticmethod
    def _next(values: list) -> object:  # type: ignore[type-arg]
        return values.pop(0) if len(values) > 1 else values[0]


@pytest.fixture
def machine() -> Machine:
    return Machine()


def temperatures(machine: Machine, celsius: Iterable[float]) -> list[float]:
    machine.celsius = list(celsius)
    gauge, found = machine.gauge(), []
    for _ in range(len(machine.celsius) - 1):  # the first look takes two
        found.append(gauge.read().temperature)
        machine.clock.advance(FRESH_S)
    return found


def test_a_spike_is_passed_over_and_heat_that_stays_is_told(machine: Machine) -> None:
    assert temperatures(machine, [50, 50, 120, 50, 99, 98, 60]) == [0.5, 0.5, 0.5, 0.5, 0.98, 0.6]
    assert temperatures(machine, [120, 50, 50]) == [0.5, 0.5]


def test_a_new_process_sees_heat_at_once(machine: Machine) -> None:
    assert temperatures(machine, [99, 99]) == [0.99]


def test_a_part_that_comes_and_goes(machine: Machine) -> None:
    gauge = PressureGauge(clock=machine.clock, read_heat=dict, read_memory=lambda: PLENTY)
    assert gauge.read().temperature == 0.0


def test_a_battery_that_seems_empty_for_one_reading(machine: Machine) -> None:
    full, empty = Battery(0.8, False), Battery(0.0, False)
    machine.charge = [full, full, empty, full, empty, empty]
    gauge, found = machine.gauge(), []
    for _ in range(5):
        found.append(gauge.read().battery)
        machine.clock.advance(FRESH_S)
    assert found == [0.8, 0.8, 0.8, 0.8, 0.0]
    assert gauge.read().on_mains is False


def test_no_battery_is_on_the_mains(machine: Machine) -> None:
    found = machine.gauge().read()
    assert (found.battery, found.on_mains) == (None, True)


@pytest.mark.parametrize(
    ("available", "pressure"), [(4 * GIB, 0.0), (GIB, 0.0), (GIB // 2, 0.5), (0, 1.0), (-GIB, 1.0)]
)
def test_memory_is_the_share_of_the_reserve_that_is_gone(
    machine: Machine, available: int, pressure: float
) -> None:
    """Models may fill memory down to the reserve; that alone is no pressure."""
    machine.memory = Memory(8 * GIB, available)
    assert machine.gauge().read().memory == pressure


@pytest.mark.parametrize(("stalled", "pressure"), [(0.1, 0.25), (0.4, 1.0), (1.0, 1.0)])
def test_stalls_are_pressure_whatever_is_free(machine: Machine, stalled: float, pressure: float) -> None:
    machine.stalled = stalled
    assert machine.gauge().read().memory == pressure


def test_a_limit_of_the_users_own(machine: Machine) -> None:
    machine.celsius = [60.0]
    assert machine.gauge(limit_c=80.0).read().temperature == 0.75


def test_sensors_are_asked_every_few_seconds_and_slow_ones_less_often(machine: Machine) -> None:
    gauge = machine.gauge()
    for _ in range(50):
        gauge.read()
    assert machine.asked == 2
    machine.clock.advance(FRESH_S)
    gauge.read()
    assert machine.asked == 3
    machine.takes_s = 0.1  # a bus that is in no hurry
    machine.clock.advance(FRESH_S)
    gauge.read()
    machine.clock.advance(9.0)
    gauge.read()
    assert machine.asked == 4
    machine.clock.advance(1.5)
    gauge.read()
    assert machine.asked == 5


def test_reading_this_machine_costs_nothing_to_speak_of() -> None:
    gauge = PressureGauge()
    first = gauge.read()
    assert 0.0 <= first.memory <= 1.0
    began = time.perf_counter()
    for _ in range(100):
        gauge.read()
    assert (time.perf_counter() - began) / 100 < 1e-3
