"""Events reach who listens, in order, and a file that takes little harm from crashes and full disks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sage.clock import FakeClock
from sage.events import (
    Event,
    EventBus,
    JsonlLog,
    LoadFinished,
    LoadStarted,
    PullProgress,
    TurnEnded,
    Unloaded,
)

if TYPE_CHECKING:
    from conftest import Lockable


def started(model: str = "tiny") -> LoadStarted:
    return LoadStarted(model=model, bytes=5)


def test_subscribers_are_called_in_order_with_the_event_itself() -> None:
    bus, calls = EventBus(), list[tuple[str, Event]]()
    for name in ("first", "second", "third"):
        bus.subscribe(lambda event, name=name: calls.append((name, event)))
    event = started()
    bus.emit(event)
    assert calls == [("first", event), ("second", event), ("third", event)]


def test_a_subscriber_can_leave_even_while_it_is_called() -> None:
    bus, calls = EventBus(), list[str]()

    def once(_: Event) -> None:
        calls.append("once")
        leave()

    leave = bus.subscribe(once)
    bus.subscribe(lambda _: calls.append("always"))
    bus.emit(started())
    bus.emit(started())
    assert calls == ["once", "always", "always"]


def test_the_log_is_one_json_object_a_line(home: Path) -> None:
    log = JsonlLog(home / "deep" / "events.jsonl", max_bytes=10_000, clock=FakeClock(start=12.3456))
    log(TurnEnded(turn_id="turn-a", status="done", model="größe 🦉", seconds=1.5))
    log(Unloaded(model="tiny", reason="line\nbreak"))
    lines = log.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "at": 12.346,
            "event": "TurnEnded",
            "turn_id": "turn-a",
            "status": "done",
            "model": "größe 🦉",
            "seconds": 1.5,
        },
        {"at": 12.346, "event": "Unloaded", "turn_id": "", "model": "tiny", "reason": "line\nbreak"},
    ]
    assert list(log.read()) == [json.loads(line) for line in lines]


def test_progress_is_never_written(home: Path) -> None:
    log = JsonlLog(home / "events.jsonl", max_bytes=10_000)
    log(PullProgress(model="tiny", done=1, total=2))
    assert not log.path.exists()
    assert list(log.read()) == []


def test_the_log_rotates_and_keeps_one_old_file(home: Path) -> None:
    log = JsonlLog(home / "events.jsonl", max_bytes=1000)
    for number in range(100):
        log(started(f"model-{number}"))
    assert sorted(path.name for path in home.iterdir()) == ["events.jsonl", "events.old.jsonl"]
    assert all(path.stat().st_size <= 1000 for path in home.iterdir())
    models = [record["model"] for record in log.read()]
    assert models == [f"model-{number}" for number in range(100 - len(models), 100)]
    assert len(models) > 10


def test_a_line_cut_off_by_a_crash_is_passed_over(home: Path) -> None:
    log = JsonlLog(home / "events.jsonl", max_bytes=10_000)
    log(started("first"))
    with log.path.open("ab") as file:
        file.write(b'{"at": 1, "event": "LoadSt')
    assert [record["model"] for record in log.read()] == ["first"]


def test_a_line_that_is_noise_is_passed_over(home: Path) -> None:
    log = JsonlLog(home / "events.jsonl", max_bytes=10_000)
    log(started("first"))
    with log.path.open("ab") as file:
        file.write(b"\xff\xfe\x00\n\n{]\n")
    log(started("second"))
    assert [record["model"] for record in log.read()] == ["first", "second"]


def test_a_full_disk_silences_the_log_and_nothing_else(home: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full, a disk that is always full, is Linux's")
    (home / "events.jsonl").symlink_to("/dev/full")
    heard: list[Event] = []
    bus = EventBus()
    bus.subscribe(JsonlLog(home / "events.jsonl", max_bytes=10_000))
    bus.subscribe(heard.append)
    bus.emit(started())
    assert heard == [started()]


def test_a_read_only_folder_silences_the_log(lockable: Lockable) -> None:
    log = JsonlLog(lockable.folder / "events.jsonl", max_bytes=10_000)
    with lockable.locked():
        log(started())
        log(LoadFinished(model="tiny", seconds=1.0, resident_bytes=1))
    assert list(lockable.folder.iterdir()) == []
