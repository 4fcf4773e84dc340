"""Sensors that are absent, break or lie."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sage.hardware.sensors import Battery, Heat, battery, heat, stalled

NAN = float("nan")


def temperature(current: Any, high: Any = None, critical: Any = None) -> SimpleNamespace:
    return SimpleNamespace(label="", current=current, high=high, critical=critical)


def machine(**chips: list[SimpleNamespace]) -> SimpleNamespace:
    return SimpleNamespace(sensors_temperatures=lambda: chips)


def fails() -> None:
    raise OSError("no such device")


def test_heat_is_read_with_its_limit() -> None:
    found = heat(
        machine(coretemp=[temperature(60.0, 80.0, 100.0), temperature(55.0, 90.0)], k10temp=[temperature(50)])
    )
    assert found == {
        "coretemp/0": Heat(60.0, 100.0),
        "coretemp/1": Heat(55.0, 90.0),
        "k10temp/0": Heat(50.0, 100.0),
    }


@pytest.mark.parametrize("celsius", [NAN, float("inf"), -273.15, -1.0, 200.0, 65261.85, None, "hot"])
def test_heat_that_cannot_be_is_left_out(celsius: Any) -> None:
    assert heat(machine(coretemp=[temperature(celsius, 90.0, 100.0)])) == {}


@pytest.mark.parametrize("limit", [NAN, 0.0, -273.15, 20.8, 65261.85, None])
def test_a_limit_that_cannot_be_is_the_usual_one(limit: Any) -> None:
    assert heat(machine(cpu_thermal=[temperature(70.0, limit, limit)])) == {
        "cpu_thermal/0": Heat(70.0, 100.0)
    }


def test_disks_and_boards_say_nothing_about_the_processor() -> None:
    assert (
        heat(machine(nvme=[temperature(81.8)], nct6798=[temperature(125.0)], iwlwifi_1=[temperature(99.0)]))
        == {}
    )


@pytest.mark.parametrize(
    "source", [SimpleNamespace(), SimpleNamespace(sensors_temperatures=fails, sensors_battery=fails)]
)
def test_no_sensors_is_no_failure(source: Any) -> None:
    assert heat(source) == {}
    assert battery(source) is None


@pytest.mark.parametrize(
    ("percent", "plugged", "expected"),
    [
        (80.0, False, Battery(0.8, False)),
        (80, True, Battery(0.8, True)),
        (80, None, Battery(0.8, True)),  # who cannot say is no reason for alarm
        (104.0, True, Battery(1.0, True)),
        (0, False, Battery(0.0, False)),
        (NAN, False, None),
        (-1, False, None),
        (65535, False, None),
        (None, None, None),
    ],
)
def test_batteries(percent: Any, plugged: bool | None, expected: Battery | None) -> None:
    found = SimpleNamespace(percent=percent, power_plugged=plugged, secsleft=1)
    assert battery(SimpleNamespace(sensors_battery=lambda: found)) == expected
    assert battery(SimpleNamespace(sensors_battery=lambda: None)) is None


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (
            "some avg10=40.00 avg60=1.0 avg300=0.0 total=1\nfull avg10=12.50 avg60=0.0 avg300=0.0 total=1\n",
            0.125,
        ),
        ("some avg10=40.00 avg60=1.0 avg300=0.0 total=1\n", 0.0),
        ("full avg10=nan avg60=0 avg300=0 total=1", 0.0),
        ("full avg10=-4 avg60=0 avg300=0 total=1", 0.0),
        ("full avg10= ", 0.0),
        ("full of surprises", 0.0),
        ("", 0.0),
    ],
)
def test_stalls(tmp_path: Path, text: str, share: float) -> None:
    folder = tmp_path / "proc" / "pressure"
    folder.mkdir(parents=True)
    (folder / "memory").write_text(text)
    assert stalled(tmp_path) == share


def test_a_kernel_that_does_not_count_stalls(tmp_path: Path) -> None:
    assert stalled(tmp_path) == 0.0


def test_this_machine_can_be_asked() -> None:
    assert 0.0 <= stalled() <= 1.0
    assert all(part.limit >= 60.0 for part in heat().values())
    charge = battery()
    assert charge is None or 0.0 <= charge.share <= 1.0
