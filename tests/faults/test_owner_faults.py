"""The owner where the system denies it things, and memory that goes while nobody expects it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.zoo.hosts import GB, REQUEST, card, wait_until

from sage.config import ModelSettings
from sage.errors import DoesNotFit, SageError
from sage.events import Event, EventBus, LoadFinished
from sage.zoo import notes
from sage.zoo.card import ModelCard
from sage.zoo.gauge import Occupied
from sage.zoo.host import Host


class Machine:
    """10 GB for everybody: what is available follows from what all workers and ``others`` occupy."""

    def __init__(self, home: Path, stop_s: float) -> None:
        self.others = 0
        self.rss: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.bus = EventBus()
        self.host = Host(
            home,
            ModelSettings(load_timeout_s=20.0, answer_timeout_s=20.0, stop_timeout_s=stop_s),
            free_bytes=self.available,
            estimate=lambda card: self.sizes.get(card.name, GB),
            bus=self.bus,
        )

    def name(self, pid: int) -> str:
        return next(name for name, r in list(self.host._owner._residents.items()) if r.pid == pid)

    def occupied(self, pid: int) -> Occupied:
        return Occupied(self.rss.get(self.name(pid), 0))

    def available(self) -> int:
        running = [name for name, r in list(self.host._owner._residents.items()) if r.pid]
        return 10 * GB - self.others - sum(self.rss.get(name, 0) for name in running)

    def ask(self, card: ModelCard, **more: Any) -> str:
        return self.host.ask(card, REQUEST, lambda _text: None, **more).completion.text


@pytest.fixture
def stop_s() -> float:
    return 2.0


@pytest.fixture
def machine(home: Path, stop_s: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(home, stop_s)
    for place in ("owner", "process"):
        monkeypatch.setattr(f"sage.zoo.{place}.occupied", machine.occupied)
    monkeypatch.setattr("sage.zoo.process.peak_bytes", lambda pid: machine.occupied(pid).bytes)
    yield machine
    machine.host.close()
    assert psutil.Process().children() == []


def test_the_room_of_a_model_that_shrank_is_not_given_away_twice(machine: Machine) -> None:
    machine.rss["a"] = 6 * GB
    machine.ask(card("a"))
    machine.rss["a"] = 3 * GB
    machine.ask(card("a"))
    time.sleep(1.1)  # a tick
    machine.ask(card("a"))
    assert machine.host.picture.budget == 10 * GB
    machine.sizes["b"] = 7 * GB
    machine.ask(card("b"))
    assert set(machine.host.resident()) == {"b"}


def test_memory_that_goes_while_a_model_loads_is_seen(machine: Machine) -> None:
    machine.sizes = {"a": 6 * GB, "b": 4 * GB}
    errors: list[SageError] = []

    def load() -> None:
        try:
            machine.host.load(card("a", load_s=5.0))
        except SageError as error:
            errors.append(error)

    loading = threading.Thread(target=load)
    loading.start()
    wait_until(lambda: machine.host.picture.pids)
    machine.rss["a"] = 2 * GB
    machine.others = 5 * GB  # another program
    wait_until(lambda: machine.host.picture.budget == 5 * GB)
    machine.ask(card("b"))
    loading.join(10.0)
    assert [type(error) for error in errors] == [DoesNotFit]
    assert machine.host.picture.used == 4 * GB


def test_what_a_model_that_leaves_still_occupies_is_not_gone(machine: Machine) -> None:
    machine.rss["a"] = 6 * GB
    machine.ask(card("a"))
    (worker,) = psutil.Process().children()
    worker.suspend()  # it leaves by force only, after two seconds
    leaving = threading.Thread(target=machine.host.unload, args=("a",))
    leaving.start()
    machine.others = GB
    wait_until(lambda: machine.host.picture.budget == 9 * GB)
    assert machine.host.picture.models[0].phase == "leaving"
    leaving.join(10.0)


def test_a_measurement_that_fails_does_not_keep_a_model_busy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.ask(card("a"))

    def broken(_pid: int) -> int:
        raise OSError("no descriptors are left")

    with monkeypatch.context() as patched:
        patched.setattr("sage.zoo.process.peak_bytes", broken)
        with pytest.raises(OSError, match="descriptors"):
            machine.ask(card("a"))
        assert not any(model.busy for model in machine.host.picture.models)
        with pytest.raises(SageError):
            machine.ask(card("b"))
        assert len(psutil.Process().children()) == 1


class NoThreads:
    """``threading.Thread.start`` that fails for those of this name while ``on``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.on, start = True, threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if self.on and thread.name == name:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


def test_where_no_thread_can_be_started_it_is_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = NoThreads(monkeypatch, "sage-owner-helper")
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(machine.ask(card("a"))))
    caller.start()
    wait_until(lambda: machine.host.picture.models)
    threads.on = False
    caller.join(10.0)
    assert answers == ["You said: hello there"]


def test_the_end_comes_though_no_thread_can_be_started(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.ask(card("a"))
    NoThreads(monkeypatch, "sage-owner-helper")
    began = time.monotonic()
    machine.host.close()
    assert time.monotonic() - began < 3.0
    assert psutil.Process().children() == []


@pytest.mark.parametrize("stop_s", [0.2])
def test_the_end_waits_for_no_stop_for_ever(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.ask(card("a"))
    obeyed = threading.Event()
    monkeypatch.setattr("sage.zoo.process.Worker.close", lambda _worker: obeyed.wait(30.0))
    began = time.monotonic()
    machine.host.close()
    assert time.monotonic() - began < 10.0
    assert psutil.Process().children() == []
    obeyed.set()


def test_without_its_own_thread_the_owner_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = NoThreads(monkeypatch, "sage-owner")
    with pytest.raises(SageError, match="can't start new thread"):
        machine.ask(card("a"))
    threads.on = False
    assert machine.ask(card("a"))


def test_who_is_told_of_a_load_may_ask_for_a_change(machine: Machine) -> None:
    done: list[bool] = []

    def subscriber(event: Event) -> None:
        if isinstance(event, LoadFinished) and event.model == "a":
            machine.host.unload("other")
            done.append(True)

    machine.bus.subscribe(subscriber)
    asked = threading.Thread(target=machine.ask, args=(card("a"),), daemon=True)
    asked.start()
    asked.join(10.0)
    assert not asked.is_alive()
    assert done == [True]


def test_a_job_of_the_owner_may_have_jobs_of_its_own(machine: Machine) -> None:
    assert machine.host._owner.call(lambda: machine.host._owner.call(lambda: 7)) == 7


def test_the_log_of_the_workers_is_cut_while_they_run(
    machine: Machine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "LOG_BYTES", 1000)
    machine.ask(card("a"))
    log = home / "run" / "worker.log"
    log.write_bytes(b"x" * 2000)
    wait_until(lambda: log.stat().st_size == 0)
