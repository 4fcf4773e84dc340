"""The loop between requests: states follow, idle time becomes sleep, requests come first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.config import Settings
from sage.errors import HomeInUse, StoreError
from sage.kernel.alive import RETRY_S, Alive, only_one
from sage.kernel.session import open_kernel
from sage.kernel.sleeping import COUNTED, Report, backlog
from sage.kernel.tick import Kernel
from sage.memory.passages import Said
from sage.types import Message, Situation


class Body:
    """A kernel on a clock that stands still, and its loop."""

    def __init__(self, kernel: Kernel, clock: FakeClock) -> None:
        self.kernel = kernel
        self.clock = clock
        self.states: list[str] = []
        self.reports: list[Report] = []
        self.stop = threading.Event()
        self.alive = Alive(
            kernel,
            on_state=lambda condition: self.states.append(condition.standing.state),
            on_sleep=self.reports.append,
        )

    def live(self, seconds: float, *, step: float = 10.0) -> None:
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
            self.alive.look(self.stop)

    def say(self, count: int) -> None:
        self.kernel.stores.passages.add_many(
            Said(
                namespace="me",
                session="s",
                speaker="user",
                at=1.0,
                text=f"This is message {number}, said so.",
            )
            for number in range(count)
        )

    def begin(self, ident: str) -> None:
        self.kernel.store.begin(
            ident,
            Situation(
                messages=(Message(role="user", content="What?"),),
                kind="fact",
                prompt_tokens=1,
                max_tokens=8,
                session="s",
            ),
        )


@pytest.fixture
def body(home: Path) -> Iterator[Body]:
    clock = FakeClock()
    with open_kernel(home=home, settings=Settings.model_construct(), catalog={}, clock=clock) as kernel:
        yield Body(kernel, clock)


def test_idle_time_becomes_rest_then_sleep_then_rest(body: Body) -> None:
    body.say(30)
    body.live(1800)
    assert body.states == ["WAKE", "REST", "DREAM", "REST"]
    assert backlog(body.kernel.stores.db) == 0
    assert [part.count for part in body.reports[0].parts if part.name == "salience"] == [30]
    body.live(7200)
    assert len(body.reports) == 1, "nothing was said since"


def test_nothing_to_do_is_no_reason_to_dream(body: Body) -> None:
    body.live(7200)
    assert body.states == ["WAKE", "REST"]


def test_a_request_of_another_process_wakes_it(body: Body) -> None:
    body.live(300)
    assert body.states[-1] == "REST"
    body.begin("turn-1")
    body.live(60)
    assert body.states[-1] == "WAKE"


def test_sleep_ends_for_a_request(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    body.say(3000)
    hear: Callable[..., object] = body.kernel.stores.salient.hear
    asked: list[float] = []

    def heard(ids: list[int]) -> object:
        found = hear(ids)
        if not asked:
            body.begin("turn-1")
            asked.append(time.perf_counter())
        return found

    monkeypatch.setattr(body.kernel.stores.salient, "hear", heard)
    while not asked:
        body.live(10)
    assert time.perf_counter() - asked[0] < 0.25
    assert not body.reports[-1].ended
    assert backlog(body.kernel.stores.db) == COUNTED


def test_after_a_failure_it_waits_before_it_sleeps_again(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    body.say(3)
    tries: list[int] = []

    def fail(*_: object, **__: object) -> int:
        tries.append(1)
        raise StoreError("No room left.")

    monkeypatch.setattr(body.kernel.stores.trust, "compact", fail)
    body.live(RETRY_S)
    assert len(tries) == 1
    assert body.states[-1] == "REST", "DREAM is left"
    body.live(2 * RETRY_S)
    assert len(tries) > 1


def test_a_turn_whose_process_was_killed_keeps_nobody_awake(body: Body) -> None:
    body.begin("turn-1")
    body.kernel.stores.db.execute("UPDATE turns SET pid = 4194304")  # above every process id
    body.say(3)
    body.live(1800)
    assert body.states[-2:] == ["DREAM", "REST"]
    assert body.kernel.store.turn("turn-1").status == "abandoned"


def test_a_failing_database_is_waited_for(
    body: Body, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sage.kernel.alive.FAILED_S", 0.01)
    monkeypatch.setattr("sage.kernel.alive.POLL_S", 0.01)
    looks: list[int] = []

    def look(stop: threading.Event) -> None:
        looks.append(1)
        if len(looks) == 1:
            raise StoreError("It is locked.")
        stop.set()

    monkeypatch.setattr(body.alive, "look", look)
    body.alive.run(body.stop)
    assert len(looks) == 2
    assert "It is locked." in caplog.text


def test_one_loop_for_a_home(home: Path) -> None:
    with only_one(home), pytest.raises(HomeInUse, match="kept alive already"), only_one(home):
        pass
    with only_one(home):
        pass


def test_the_loop_ends_when_it_is_told_to(body: Body) -> None:
    thread = threading.Thread(target=body.alive.run, args=(body.stop,))
    thread.start()
    body.stop.set()
    thread.join(5)
    assert not thread.is_alive()
