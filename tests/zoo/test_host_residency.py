"""What the host does about memory: loading ahead, pressure, corrected sizes, letting go, telling."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import psutil
import pytest

from sage.clock import FakeClock
from sage.config import ModelSettings
from sage.errors import DoesNotFit, Interrupted, SageError, WeightsMissing
from sage.events import LoadProgress, RoomAwaited, Unloaded
from sage.hardware.budget import budget_bytes
from sage.hardware.probe import Memory
from sage.zoo.footprint import SETTLED
from sage.zoo.host import Host

from .hosts import GB, LONG, REQUEST, Zoo, card, wait_until


def test_a_model_can_be_loaded_without_a_question(zoo: Zoo) -> None:
    took = zoo.host.load(card("a", load_s=0.1))
    assert took.load_s >= 0.1
    assert took.load_bytes == 1000
    assert took.resident_bytes == zoo.host.resident()["a"]
    again = zoo.host.load(card("a"))
    assert (again.load_s, again.load_bytes) == (0.0, 0)
    assert zoo.host.ask(card("a"), REQUEST, print).load_s == 0.0
    assert zoo.host.picture.pids == {"a": psutil.Process().children()[0].pid}


def test_loading_waits_for_nobody_who_is_being_answered(zoo: Zoo) -> None:
    seen: list[float] = []
    zoo.host.ask(card("a", token_s=0.1), REQUEST, lambda _t: seen.append(zoo.host.load(card("a")).load_s))
    assert seen
    assert set(seen) == {0.0}


def test_what_may_be_wanted_soon_is_loaded_ahead(zoo: Zoo) -> None:
    zoo.host.prefetch(card("b"))  # with nothing loaded the home may be another process's
    zoo.ask(card("a"))
    assert zoo.told() == ["start a", "loaded a"]
    zoo.host.prefetch(card("b"))
    wait_until(lambda: zoo.settled("a", "b"))
    assert all(math.isfinite(model.last_used) for model in zoo.host.picture.models)
    answer = zoo.host.ask(card("b"), REQUEST, print)
    assert (answer.load_s, answer.load_bytes) == (0.0, 0)  # nobody waited for it


def test_loading_ahead_takes_the_place_of_what_is_worth_less_only(zoo: Zoo) -> None:
    zoo.budget = 2 * GB
    for name in ("a", "b"):
        zoo.ask(card(name))
    zoo.host.prefetch(card("c"))
    zoo.host.appraise({"a": 0.2, "b": 0.1, "c": 0.15})
    assert zoo.host.load(card("a")).load_s == 0.0  # whatever was posted before has been decided
    assert zoo.settled("a", "b")
    zoo.host.prefetch(card("c"))
    wait_until(lambda: zoo.settled("a", "c"))
    zoo.host._owner.flush()
    assert zoo.events[-3] == Unloaded(model="b", reason="made room for c")


def test_a_request_stops_a_load_ahead_and_waits_no_longer_for_it(zoo: Zoo) -> None:
    zoo.budget = 2 * GB
    zoo.ask(card("a"))
    zoo.host.prefetch(card("slow", load_s=30.0))
    wait_until(lambda: zoo.told()[-1] == "start slow")
    began = time.monotonic()
    assert zoo.ask(card("b"))
    assert time.monotonic() - began < 5.0
    assert set(zoo.host.resident()) == {"a", "b"}


def test_a_load_ahead_of_what_is_missing_or_too_big_is_not_begun(zoo: Zoo) -> None:
    zoo.ask(card("a"))
    zoo.sizes = {"gone": WeightsMissing("its weights are not here"), "big": 11 * GB}
    for name in zoo.sizes:
        zoo.host.prefetch(card(name))
    zoo.host.load(card("a"))
    assert zoo.settled("a")


def test_a_model_whose_file_was_deleted_serves_until_it_leaves(zoo: Zoo) -> None:
    zoo.ask(card("a"))
    zoo.sizes["a"] = WeightsMissing("its weights are not here", mend="sage models pull a")
    assert zoo.ask(card("a")).completion.text == "You said: hello there"
    zoo.host.unload("a")
    with pytest.raises(WeightsMissing) as caught:
        zoo.ask(card("a"))
    assert caught.value.mend == "sage models pull a"


def test_an_estimate_that_was_far_too_high_gives_its_room_back(zoo: Zoo) -> None:
    zoo.budget = int(1.5 * GB)
    for _ in range(3):
        zoo.ask(card("a"))
    assert zoo.host.picture.used == GB  # short prompts do not show what a long one takes
    for _ in range(3):
        zoo.ask(card("a"), request=LONG)
    zoo.ask(card("b"))
    assert set(zoo.host.resident()) == {"a", "b"}
    assert zoo.host.picture.used < zoo.budget


def test_a_card_that_lies_is_found_out_when_it_is_loaded(zoo: Zoo) -> None:
    zoo.sizes["liar"] = 1
    zoo.budget = 5_000_000  # less than any process takes
    with pytest.raises(DoesNotFit):
        zoo.ask(card("liar"))
    wait_until(lambda: psutil.Process().children() == [])
    with pytest.raises(DoesNotFit):
        zoo.ask(card("liar"))
    assert zoo.told() == ["start liar", "loaded liar", "gone liar"]  # the second time it is known


def test_when_memory_gets_short_what_is_idle_leaves(zoo: Zoo) -> None:
    for name in ("a", "b"):
        zoo.ask(card(name))
    zoo.budget = GB
    zoo.clock.advance(2.0)
    wait_until(lambda: zoo.settled("b"))
    zoo.host._owner.flush()
    assert zoo.events[-1] == Unloaded(model="a", reason="memory is short")


def test_letting_go_of_everything_or_of_nothing(zoo: Zoo) -> None:
    assert zoo.host.release_if_idle()  # nothing is loaded
    zoo.ask(card("a"))
    zoo.ask(card("b"))
    seen: list[bool] = []
    zoo.host.ask(card("a"), REQUEST, lambda _text: seen.append(zoo.host.release_if_idle()))
    assert not any(seen)
    assert zoo.host.release_if_idle()
    assert psutil.Process().children() == []
    assert zoo.ask(card("a"))


def test_unloading_waits_for_the_answer_that_is_being_given(zoo: Zoo) -> None:
    answers: list[str] = []
    busy = card("a", answer="one two three", token_s=0.2)
    caller = threading.Thread(target=lambda: answers.append(zoo.ask(busy).completion.text))
    caller.start()
    wait_until(lambda: any(model.busy for model in zoo.host.picture.models))
    zoo.host.unload("a")
    caller.join(10.0)
    assert answers == ["one two three"]
    assert zoo.host.resident() == {}


def test_waiting_and_loading_are_told(zoo: Zoo) -> None:
    zoo.budget = GB
    zoo.ask(card("a"))
    callers = [
        threading.Thread(target=zoo.ask, args=(card("a", answer="one two three", token_s=0.3),)),
        threading.Thread(target=zoo.ask, args=(card("b", load_s=1.5),), kwargs={"turn_id": "t2"}),
    ]
    for caller in callers:
        caller.start()
        time.sleep(0.1)
    for _ in range(60):  # the clock stands still unless it is moved
        zoo.clock.advance(0.1)
        time.sleep(0.05)
    for caller in callers:
        caller.join(10.0)
    (waited,) = [event for event in zoo.events if isinstance(event, RoomAwaited)]
    assert waited == RoomAwaited(turn_id="t2", model="b", behind=("a",))
    progress = [event for event in zoo.events if isinstance(event, LoadProgress) and event.model == "b"]
    assert progress
    assert all(event.turn_id == "t2" and event.seconds >= 1.0 for event in progress)


def test_a_worker_that_dies_in_its_sleep_is_noticed_without_being_asked(zoo: Zoo) -> None:
    zoo.ask(card("a"))
    psutil.Process().children()[0].kill()
    wait_until(lambda: zoo.events[-1] == Unloaded(model="a", reason="died"))
    wait_until(lambda: zoo.host.picture.used == 0)


def test_a_worker_that_hangs_counts_as_failing(zoo: Zoo, home: Path) -> None:
    settings = ModelSettings(silence_timeout_s=0.2, stop_timeout_s=0.2)
    host = Host(home, settings, free_bytes=lambda: GB, estimate=lambda _card: 1, clock=FakeClock())
    hanging = card("h", hang_after=0)
    names = []
    for _ in range(4):
        with pytest.raises(SageError) as caught:
            host.ask(hanging, REQUEST, print)
        names.append(caught.value.name)
    assert names == ["DeadlineExceeded"] * 3 + ["LoadFailed"]
    assert set(host.resting()) == {"h"}
    host.close()


def test_a_disk_that_takes_nothing_does_not_keep_models_out(zoo: Zoo, home: Path) -> None:
    (home / "run").write_text("where the folder of notes and logs should be")
    assert zoo.ask(card("a", noise="chatter")).completion.text == "You said: hello there"


def test_memory_that_cannot_be_read_loses_nobody(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    zoo.ask(card("a"))

    def broken() -> int:
        raise OSError("no descriptors are left")

    monkeypatch.setattr(zoo.host._owner, "_free_bytes", broken)
    assert zoo.ask(card("b"))
    assert "free memory cannot be read" in caplog.text


def test_after_the_end_nothing_is_loaded(home: Path) -> None:
    zoo = Zoo(home)
    zoo.host.close()
    zoo.host.close()
    zoo.host.appraise({"a": 1.0})
    zoo.host.unload("a")
    with pytest.raises(Interrupted):
        zoo.ask(card("a"))
    assert zoo.events == []


def test_what_lies_on_a_gpu_is_part_of_what_a_model_takes(zoo: Zoo) -> None:
    gpu = card("g", device_mb=400)
    zoo.host.load(gpu)
    assert 0.4 * GB < zoo.host.resident()["g"] < GB
    for _ in range(SETTLED):
        zoo.ask(gpu, request=LONG)
    assert 1.6 * GB < zoo.host.picture.used < 1.9 * GB
    zoo.host.unload("g")
    assert zoo.host.occupied_bytes() == 0


def test_what_lies_on_a_gpu_takes_no_memory_of_the_machine(home: Path) -> None:
    def room(limit_gb: float) -> int:
        host = Host(
            home,
            ModelSettings(stop_timeout_s=1.0),
            free_bytes=lambda: budget_bytes(
                Memory(20 * GB, 12 * GB), limit_gb, loaded=host.occupied_bytes(), mapped=host.mapped_bytes()
            ),
            estimate=lambda _card: 8 * GB,
        )
        try:
            host.load(card("g", device_mb=8000))
            return host.picture.budget - host.picture.used
        finally:
            host.close()

    assert 9.5 * GB < room(0.0) <= 10 * GB
    assert room(10.0) <= 2 * GB
