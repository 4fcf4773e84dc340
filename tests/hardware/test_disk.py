"""The disk is measured once a week, and not knowing its speed stops nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sage.clock import FakeClock
from sage.hardware import disk
from sage.hardware.disk import FALLBACK_READ, cached_disk_read, measure_disk_read

if TYPE_CHECKING:
    from conftest import Lockable

DAY = 86_400.0


class Meter:
    """Stands in for the measurement: a new speed each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _folder: Path) -> float:
        self.calls += 1
        return self.calls * 1e8


def fail(_folder: Path) -> float:
    raise OSError(28, "No space left on device")


def test_measuring_leaves_nothing_behind(home: Path) -> None:
    speed = measure_disk_read(home)
    assert 1e5 < speed < 1e12
    assert list(home.iterdir()) == []


def test_measuring_reads_a_file_that_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SAMPLE_BYTES", 3 * 1024 * 1024)
    file = home / "weights"
    file.write_bytes(b"\1" * 5_000_000)
    assert measure_disk_read(home, file=file) > 0
    assert file.read_bytes() == b"\1" * 5_000_000
    assert list(home.iterdir()) == [file]


def test_a_failed_measurement_leaves_nothing_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        measure_disk_read(home)
    assert list(home.iterdir()) == []


def test_the_result_is_kept_for_a_week(tmp_path: Path) -> None:
    home, clock, meter = tmp_path / "not" / "there" / "yet", FakeClock(), Meter()
    assert cached_disk_read(home, clock=clock, measure=meter) == 1e8
    clock.advance(6.9 * DAY)
    assert cached_disk_read(home, clock=clock, measure=meter) == 1e8
    clock.advance(0.2 * DAY)
    assert cached_disk_read(home, clock=clock, measure=meter) == 2e8
    assert [path.name for path in home.iterdir()] == ["hardware.json"]


def test_a_record_from_the_future_is_not_believed(home: Path) -> None:
    clock, meter = FakeClock(), Meter()
    cached_disk_read(home, clock=clock, measure=meter)
    clock.advance(-DAY)
    assert cached_disk_read(home, clock=clock, measure=meter) == 2e8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\xff",
        '{"disk_read_bytes_per_s": "fast", "measured_at": 1000000}',
        '{"disk_read_bytes_per_s": 0, "measured_at": 1000000}',
        '{"disk_read_bytes_per_s": NaN, "measured_at": 1000000}',
        '{"disk_read_bytes_per_s": Infinity, "measured_at": 1000000}',
        '{"disk_read_bytes_per_s": 5}',
    ],
)
def test_a_bad_record_is_measured_again(home: Path, text: str) -> None:
    record = home / "hardware.json"
    record.write_bytes(text.encode("latin-1"))
    assert cached_disk_read(home, clock=FakeClock(), measure=Meter()) == 1e8
    assert json.loads(record.read_text()) == {"disk_read_bytes_per_s": 100_000_000, "measured_at": 1_000_000}


def test_a_full_disk_falls_back(home: Path) -> None:
    assert cached_disk_read(home, clock=FakeClock(), measure=fail) == FALLBACK_READ


def test_an_old_record_is_better_than_none(home: Path) -> None:
    clock = FakeClock()
    cached_disk_read(home, clock=clock, measure=Meter())
    clock.advance(30 * DAY)
    assert cached_disk_read(home, clock=clock, measure=fail) == 1e8


def test_a_read_only_folder_falls_back(lockable: Lockable) -> None:
    with lockable.locked() as folder:
        assert cached_disk_read(folder) == FALLBACK_READ
        assert cached_disk_read(folder / "below") == FALLBACK_READ
    assert list(lockable.folder.iterdir()) == []
