"""Workers that crash by the hundred, crowds of callers, sudden ends: nothing is lost, nothing is left."""

from __future__ import annotations

import contextlib
import gc
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.zoo.hosts import card

from sage.config import ModelSettings
from sage.errors import DeadlineExceeded, Interrupted, SageError, WorkerDied
from sage.events import Event, EventBus, LoadStarted
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.host import Host
from sage.zoo.process import Worker, WorkerLimits, WorkerSpec

MESSAGES = (Message(role="user", content="hello"),)


@lru_cache
def worker_bytes() -> int:
    """What the worker of a fake model really takes."""
    limits = WorkerLimits(load_s=60.0, answer_s=60.0, silence_s=60.0, stop_s=1.0)
    worker = Worker(WorkerSpec(name="x", backend="fake", path=Path(), context=512, threads=1), limits)
    try:
        return worker.resident_bytes()
    finally:
        worker.close()


class Zoo:
    """A host with room for ``slots`` models, and everything that it told."""

    def __init__(self, home: Path, slots: int = 2) -> None:
        self.events: list[Event] = []
        bus = EventBus()
        bus.subscribe(self.events.append)
        slot = int(1.3 * worker_bytes())  # what has settled is counted at 1.1 times what it takes
        settings = ModelSettings(
            load_timeout_s=60.0, answer_timeout_s=60.0, stop_timeout_s=1.0, silence_timeout_s=60.0
        )
        self.host = Host(
            home,
            settings,
            free_bytes=lambda: slots * slot - self.host.occupied_bytes(),
            estimate=lambda _card: slot,
            bus=bus,
        )

    def ask(self, card: ModelCard, deadline_s: float | None = None, **more: Any) -> str:
        request = GenerationRequest(messages=MESSAGES, deadline_s=deadline_s)
        return self.host.ask(card, request, lambda _text: None, **more).completion.text


class Census:
    """Counts the processes that really are, again and again."""

    def __init__(self) -> None:
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _count(self) -> None:
        while not self._over.wait(0.02):
            living = 0
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    living += child.status() != psutil.STATUS_ZOMBIE
            self.most = max(self.most, living)


@pytest.fixture
def zoo(home: Path) -> Iterator[Zoo]:
    zoo = Zoo(home)
    yield zoo
    zoo.host.close()
    assert psutil.Process().children() == []


def holdings() -> tuple[int, int, int]:
    """What this process holds: descriptors, threads, bytes."""
    deadline = time.monotonic() + 5.0
    while threading.active_count() > 2 and time.monotonic() < deadline:  # helpers close the last pipes
        time.sleep(0.01)
    gc.collect()
    me = psutil.Process()
    return me.num_fds(), threading.active_count(), me.memory_info().rss


def crash(zoo: Zoo, times: int) -> None:
    """A model that answers once and crashes at the second answer, as often."""
    crashing = card("c", answers=["fine", "two words"], crash_after=2)
    for _ in range(times):
        assert zoo.ask(crashing) == "fine"
        with pytest.raises(WorkerDied):
            zoo.ask(crashing)


@pytest.mark.parametrize(
    "times", [50, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_crashes_leave_nothing_behind(zoo: Zoo, times: int) -> None:
    crash(zoo, 10)
    descriptors, threads, rss = holdings()
    crash(zoo, times)
    zoo.events.clear()
    after = holdings()
    assert psutil.Process().children() == []
    assert after[0] <= descriptors
    assert after[1] <= threads
    assert after[2] <= 1.05 * rss
    assert zoo.host.resident() == {}
    assert zoo.ask(card("c")) == "You said: hello"


def test_a_model_that_only_crashes_is_left_alone_for_a_while(zoo: Zoo) -> None:
    crashing = card("c", answer="two words", crash_after=2)
    for _ in range(3):
        with pytest.raises(WorkerDied):
            zoo.ask(crashing)
    began = time.monotonic()
    with pytest.raises(SageError, match="rests for") as caught:
        zoo.ask(crashing)
    assert caught.value.name == "LoadFailed"
    assert time.monotonic() - began < 1.0
    assert 0 < zoo.host.resting()["c"] <= 2.0
    time.sleep(zoo.host.resting()["c"])
    assert zoo.host.resting() == {}
    assert zoo.ask(card("c")) == "You said: hello"


def test_nobody_is_forgotten_in_a_crowd(zoo: Zoo) -> None:
    """Sixteen callers, five models, room for two; some stop, some have little time, some models crash."""
    ends: Counter[str] = Counter()

    def caller(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        for _ in range(8):
            name = chance.choice("abcde")
            script = {"answers": ["fine", "two words"], "crash_after": 2} if name == "e" else {}
            stop_at = time.monotonic() + chance.choice((0.05, 1000.0, 1000.0))
            deadline = chance.choice((None, None, 0.2))
            try:
                zoo.ask(card(name, **script), deadline, should_stop=lambda at=stop_at: time.monotonic() > at)
                ends["answered"] += 1
            except (DeadlineExceeded, Interrupted, WorkerDied) as error:
                ends[error.name] += 1
            except SageError as error:
                ends[error.name] += "rests for" in error.message or 1000

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(16)]
    with Census() as census:
        for one in callers:
            one.start()
        for one in callers:
            one.join(120.0)
            assert not one.is_alive(), "a caller waits for ever"
    assert sum(ends.values()) == 16 * 8, ends
    assert ends["answered"] >= 30, ends
    assert census.most == 2
    assert zoo.host.picture.used == sum(model.bytes for model in zoo.host.picture.models)
    assert not any(model.busy or model.waiting for model in zoo.host.picture.models)


def test_two_big_models_share_the_time_and_do_not_spend_it_on_loading(home: Path) -> None:
    zoo = Zoo(home, slots=1)
    answers: Counter[str] = Counter()
    over = time.monotonic() + 6.0

    def client(name: str) -> None:
        while time.monotonic() < over:
            zoo.ask(card(name, load_s=0.4, token_s=0.01))
            answers[name] += 1

    clients = [threading.Thread(target=client, args=(name,)) for name in "ab" for _ in range(4)]
    with Census() as census:
        for one in clients:
            one.start()
        for one in clients:
            one.join(60.0)
            assert not one.is_alive()
    zoo.host.close()
    loads = sum(isinstance(event, LoadStarted) for event in zoo.events)
    assert census.most == 1
    assert sum(answers.values()) >= 3 * loads
    assert min(answers.values()) >= 0.25 * sum(answers.values()), answers


@pytest.mark.parametrize("seed", range(6))
def test_the_end_comes_while_models_load_and_answer(home: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    zoo = Zoo(home, slots=2)
    ends: list[str] = []

    def caller(name: str, load_s: float) -> None:
        try:
            zoo.ask(card(name, load_s=load_s, answer="a b c d e f", token_s=0.05))
            ends.append("answered")
        except SageError as error:
            ends.append(error.name)

    callers = [
        threading.Thread(target=caller, args=(chance.choice("abc"), chance.random())) for _ in range(6)
    ]
    for one in callers:
        one.start()
    time.sleep(chance.random())
    began = time.monotonic()
    zoo.host.close()
    assert time.monotonic() - began < 4.0
    assert psutil.Process().children() == []
    for one in callers:
        one.join(5.0)
        assert not one.is_alive()
    assert set(ends) <= {"answered", "Interrupted", "WorkerDied", "WorkerGone"}
    with pytest.raises(Interrupted):
        zoo.ask(card("late"))


def test_a_worker_that_does_not_obey_is_killed(zoo: Zoo) -> None:
    zoo.ask(card("a"))
    (worker,) = psutil.Process().children()
    worker.suspend()
    began = time.monotonic()
    zoo.host.unload("a")
    assert 1.0 <= time.monotonic() - began < 3.0  # the patience of stop_timeout_s, then force
    assert psutil.Process().children() == []
