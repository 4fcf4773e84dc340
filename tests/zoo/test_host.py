"""The host: one load for many answers, room by unloading, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from sage.config import ModelSettings
from sage.errors import DeadlineExceeded, DoesNotFit, Interrupted, LoadFailed, WeightsMissing, WorkerDied
from sage.events import Event, EventBus, LoadFinished, LoadStarted, Unloaded
from sage.zoo import launch, notes
from sage.zoo.card import ModelCard
from sage.zoo.host import Host
from sage.zoo.launch import worker_spec
from sage.zoo.notes import resident_models

from .hosts import GB, REQUEST, Zoo, card, wait_until

REQUEST_OF_TWO = replace(REQUEST, max_tokens=2)


def test_the_second_question_loads_nothing(zoo: Zoo) -> None:
    first, second = zoo.ask(card("a", load_s=0.1), turn_id="t1"), zoo.ask(card("a", load_s=0.1))
    assert (first.completion.text, second.completion.text) == ("You said: hello there",) * 2
    assert first.load_s >= 0.1
    assert first.load_bytes == 1000
    assert (second.load_s, second.load_bytes) == (0.0, 0)
    assert zoo.told() == ["start a", "loaded a"]
    started, loaded = zoo.events
    assert isinstance(started, LoadStarted)
    assert (started.turn_id, started.bytes) == ("t1", 1000)
    assert isinstance(loaded, LoadFinished)
    assert loaded.seconds == first.load_s
    assert loaded.resident_bytes == pytest.approx(zoo.host.resident()["a"], rel=0.01)  # a page more or less
    assert loaded.resident_bytes > 1_000_000


def test_the_least_recently_used_makes_room(zoo: Zoo) -> None:
    zoo.budget = 2 * GB
    for name in ("a", "b", "a", "c"):
        zoo.ask(card(name))
    assert set(zoo.host.resident()) == {"a", "c"}
    assert zoo.told()[-3:] == ["gone b", "start c", "loaded c"]
    assert zoo.events[-3] == Unloaded(model="b", reason="made room for c")


def test_a_busy_model_is_never_unloaded_but_waited_for(zoo: Zoo) -> None:
    zoo.budget = GB
    busy = asking(zoo, card("a", answer="one two three", token_s=0.3))
    wait_until(lambda: "loaded a" in zoo.told())
    over = time.monotonic() + 0.2
    with pytest.raises(Interrupted):
        zoo.ask(card("b"), should_stop=lambda: time.monotonic() > over)
    assert zoo.ask(card("b")).completion.text  # waits until the other is idle, then makes room
    assert busy.result(20.0).completion.text == "one two three"
    assert zoo.told() == ["start a", "loaded a", "gone a", "start b", "loaded b"]


def test_what_can_never_fit_is_refused_at_once(zoo: Zoo) -> None:
    zoo.budget = 0
    started = time.monotonic()
    with pytest.raises(DoesNotFit):
        zoo.ask(card("b"))
    assert time.monotonic() - started < 5.0


def test_a_request_whose_time_is_over_unloads_nobody(zoo: Zoo) -> None:
    zoo.budget = GB
    zoo.ask(card("hot"))
    with pytest.raises(Interrupted):
        zoo.ask(card("b"), should_stop=lambda: True)
    assert set(zoo.host.resident()) == {"hot"}


def test_what_does_not_fit_is_refused_before_anything_starts(home: Path) -> None:
    events: list[Event] = []
    bus = EventBus()
    bus.subscribe(events.append)
    host = Host(
        home, ModelSettings(), free_bytes=lambda: 300_000_000, estimate=lambda _c: 7_000_000_000, bus=bus
    )
    with pytest.raises(DoesNotFit, match="big needs 7000 MB of memory; 300 MB can be made free"):
        host.ask(card("big"), REQUEST, print)
    assert events == []
    assert not (home / "run").exists()
    assert psutil.Process().children() == []


def test_weights_that_are_not_here(zoo: Zoo) -> None:
    missing = ModelCard(name="far", source="package", sha256="", bytes=1, license="MIT", context_length=512)
    with pytest.raises(WeightsMissing) as caught:
        zoo.ask(missing)
    assert caught.value.mend == "sage models pull far"
    assert zoo.events == []


def test_a_crash_is_forgotten_and_the_next_question_loads_anew(zoo: Zoo) -> None:
    crashing = card("a", answers=["fine", "two words"], crash_after=2)
    assert zoo.ask(crashing).completion.text == "fine"
    with pytest.raises(WorkerDied):
        zoo.ask(crashing)
    assert zoo.host.resident() == {}
    assert zoo.events[-1] == Unloaded(model="a", reason="died")
    assert zoo.ask(crashing).load_s > 0.0


def test_a_worker_killed_while_idle_is_noticed(zoo: Zoo, home: Path) -> None:
    zoo.ask(card("a"))
    (child,) = psutil.Process().children()
    child.kill()
    deadline = time.monotonic() + 5.0
    while zoo.host.resident() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert zoo.host.resident() == {}
    assert resident_models(home) == set()
    assert zoo.ask(card("a")).completion.text == "You said: hello there"


def test_a_failed_load_leaves_nothing(zoo: Zoo) -> None:
    with pytest.raises(LoadFailed, match="strange file"):
        zoo.ask(card("a", load_error="strange file"))
    assert zoo.host.resident() == {}
    assert psutil.Process().children() == []


def test_a_load_that_is_stopped_leaves_nothing(zoo: Zoo) -> None:
    began = time.monotonic()
    with pytest.raises(Interrupted):
        zoo.ask(card("a", load_s=30), should_stop=lambda: time.monotonic() > began + 0.3)
    assert time.monotonic() - began < 2.0
    assert zoo.host.resident() == {}
    wait_until(lambda: psutil.Process().children() == [])
    assert zoo.told() == ["start a"]


def test_unload(zoo: Zoo, home: Path) -> None:
    zoo.ask(card("a"))
    zoo.ask(card("b"))
    zoo.host.unload("a")
    zoo.host.unload("a")
    zoo.host.unload("never loaded")
    assert set(zoo.host.resident()) == {"b"}
    assert zoo.events[-1] == Unloaded(model="a", reason="asked")
    assert resident_models(home) == {"b"}


def test_close_ends_every_process(zoo: Zoo, home: Path) -> None:
    for name in ("a", "b"):
        zoo.ask(card(name))
    assert len(psutil.Process().children()) == 2
    zoo.host.close()
    assert psutil.Process().children() == []
    assert sorted(zoo.told()[-2:]) == ["gone a", "gone b"]
    assert list((home / "run").glob("*.json")) == []


def test_an_impatient_close_ends_hung_processes_too(zoo: Zoo) -> None:
    for name in ("a", "b"):
        zoo.ask(card(name))
    for child in psutil.Process().children():
        child.suspend()
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        zoo.host.close()
    interrupt.join()
    assert psutil.Process().children() == []


def test_threads_share_one_load(zoo: Zoo) -> None:
    answers: list[str] = []
    same = card("a", load_s=0.3, token_s=0.02)

    def work() -> None:
        answers.append(zoo.ask(same).completion.text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert answers == ["You said: hello there"] * 4
    assert zoo.told() == ["start a", "loaded a"]


def test_different_models_answer_at_the_same_time(zoo: Zoo) -> None:
    """Each waits, in the middle of its answer, for the other one's first word."""
    meet = threading.Barrier(2, timeout=20.0)
    answers: list[str] = []

    def work(name: str) -> None:
        first: list[str] = []

        def on_text(text: str) -> None:
            if not first:
                meet.wait()
            first.append(text)

        answers.append(zoo.ask(card(name, answer="one two"), on_text).completion.text)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert answers == ["one two", "one two"]


def test_a_request_whose_worker_dies_before_it_hears_of_it_is_asked_anew(zoo: Zoo) -> None:
    zoo.ask(card("a"))
    (worker,) = psutil.Process().children()
    looks: list[int] = []

    def should_stop() -> bool:
        looks.append(1)
        if (
            len(looks) == 2
        ):  # the first look is before the model is granted, the second just before it is told
            worker.kill()
            worker.wait(5.0)
        return False

    assert zoo.ask(card("a"), should_stop=should_stop).completion.text == "You said: hello there"
    assert set(zoo.host.resident()) == {"a"}
    assert zoo.told() == ["start a", "loaded a", "gone a", "start a", "loaded a"]
    assert zoo.ask(card("a")).load_s == 0.0


def test_a_request_behind_one_that_loses_the_worker_is_answered(zoo: Zoo) -> None:
    crashing = card("a", answers=["a b c d e", "fine"], token_s=0.2, crash_after=3)
    first = asking(zoo, crashing)
    wait_until(lambda: zoo.host.resident())
    second = asking(zoo, crashing, request=REQUEST_OF_TWO)
    with pytest.raises(WorkerDied):
        first.result(20.0)
    assert second.result(20.0).completion.text == "a b"
    assert set(zoo.host.resident()) == {"a"}


def asking(zoo: Zoo, card: ModelCard, **more: Any) -> Future[Any]:
    """Ask on a thread of its own."""
    answer: Future[Any] = Future()

    def work() -> None:
        try:
            answer.set_result(zoo.ask(card, **more))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer


def test_a_hot_model_answers_while_another_loads(zoo: Zoo) -> None:
    zoo.ask(card("hot"))
    over = threading.Event()
    slow = asking(zoo, card("slow", load_s=30.0), should_stop=over.is_set)
    wait_until(lambda: zoo.told()[-1] == "start slow")
    assert zoo.ask(card("hot")).completion.text
    assert set(zoo.host.resident()) == {"hot"}
    zoo.host.unload("hot")
    assert not slow.done()
    over.set()
    with pytest.raises(Interrupted):
        slow.result(20.0)


def test_those_who_wait_for_a_load_can_stop_and_have_deadlines(zoo: Zoo) -> None:
    slow = card("slow", load_s=30.0)
    over = threading.Event()
    loader = asking(zoo, slow, should_stop=over.is_set)
    wait_until(lambda: zoo.told() == ["start slow"])
    with pytest.raises(Interrupted):
        zoo.ask(slow, should_stop=lambda: True)
    late = asking(zoo, slow, request=replace(REQUEST, deadline_s=5.0))
    time.sleep(0.2)
    assert not late.done()
    zoo.clock.advance(5.0)
    with pytest.raises(DeadlineExceeded, match="slow was not loaded in time"):
        late.result(10.0)
    assert not loader.done()
    over.set()
    with pytest.raises(Interrupted):
        loader.result(10.0)


def test_the_deadline_of_the_one_who_loads_counts_too(zoo: Zoo) -> None:
    late = asking(zoo, card("slow", load_s=30.0), request=replace(REQUEST, deadline_s=5.0))
    wait_until(lambda: zoo.told() == ["start slow"])
    zoo.clock.advance(5.0)
    with pytest.raises(DeadlineExceeded, match="slow was not loaded in time"):
        late.result(10.0)
    assert zoo.host.resident() == {}


def test_a_load_goes_on_for_those_who_still_wait(zoo: Zoo) -> None:
    over = threading.Event()
    slow = card("slow", load_s=1.0)
    loader = asking(zoo, slow, should_stop=over.is_set)
    wait_until(lambda: zoo.told() == ["start slow"])
    others = [asking(zoo, slow) for _ in range(3)]
    time.sleep(0.1)
    over.set()
    with pytest.raises(Interrupted):
        loader.result(10.0)
    assert sorted(other.result(20.0).load_s > 0 for other in others) == [False, False, True]
    assert zoo.told() == ["start slow", "loaded slow"]


def test_a_load_that_fails_fails_for_everyone_who_waits(zoo: Zoo) -> None:
    broken = card("a", load_s=0.5, load_error="strange file")
    loader = asking(zoo, broken)
    wait_until(lambda: zoo.told() == ["start a"])
    other = asking(zoo, broken)
    for asked in (loader, other):
        with pytest.raises(LoadFailed, match="strange file"):
            asked.result(20.0)


def test_what_does_not_fit_beside_a_load_waits_for_it(zoo: Zoo) -> None:
    zoo.budget = GB
    first = asking(zoo, card("a", load_s=0.7, load_error="strange file"))
    wait_until(lambda: zoo.told() == ["start a"])
    second = asking(zoo, card("b"))
    with pytest.raises(LoadFailed):
        first.result(20.0)
    assert second.result(20.0).completion.text
    assert zoo.told() == ["start a", "start b", "loaded b"]


def test_two_loads_do_not_count_on_the_same_bytes(zoo: Zoo) -> None:
    zoo.budget = 2 * GB
    for name in ("a", "b"):
        zoo.ask(card(name))
    asked = [asking(zoo, card(name, load_s=0.5)) for name in ("c", "d")]
    for one in asked:
        assert one.result(20.0).completion.text
    assert set(zoo.host.resident()) == {"c", "d"}
    loaded = 2
    for what in zoo.told()[4:]:
        loaded += what.startswith("start") - what.startswith("gone")
        assert loaded <= 2


def test_only_idle_models_can_make_room(zoo: Zoo) -> None:
    zoo.ask(card("idle"))
    idle = zoo.host.resident()["idle"]
    assert zoo.host.reclaimable() == idle
    seen: list[int] = []
    zoo.ask(card("busy"), lambda _text: seen.append(zoo.host.reclaimable()))
    assert seen == [pytest.approx(idle, rel=0.01)] * len(seen) != []  # a page more or less
    assert zoo.host.reclaimable() == sum(zoo.host.resident().values())
    assert 0 < zoo.host.mapped_bytes() < zoo.host.reclaimable()


def test_closing_stops_a_load(zoo: Zoo) -> None:
    loader = asking(zoo, card("slow", load_s=30.0))
    wait_until(lambda: zoo.told() == ["start slow"])
    began = time.monotonic()
    zoo.host.close()
    assert time.monotonic() - began < 2.0
    for one in (loader, asking(zoo, card("slow"))):
        with pytest.raises(Interrupted):
            one.result(10.0)


def test_a_long_log_is_started_anew(zoo: Zoo, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "LOG_BYTES", 30)
    zoo.ask(card("a", noise="a line of twenty chars\n"))
    zoo.ask(card("b", noise="another line\n"))
    log = home / "run" / "worker.log"
    assert log.read_text() == "a line of twenty chars\nanother line\n"
    zoo.ask(card("c", noise="new\n"))
    assert log.read_text() == "new\n"


def test_threads_go_by_the_cores_that_may_be_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for cores, threads in ((1, 1), (2, 1), (6, 5)):
        monkeypatch.setattr(launch, "usable_cores", lambda cores=cores: cores)
        assert worker_spec(home, card("a"), ModelSettings()).threads == threads
    assert worker_spec(home, card("a"), ModelSettings(threads=9)).threads == 9


OTHER = """
import sys, time
from pathlib import Path
from sage.config import ModelSettings
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.host import Host
home = Path(sys.argv[1])
host = Host(home, ModelSettings(), free_bytes=lambda: 1 << 40, estimate=lambda card: 1)
card = ModelCard(name="theirs", source="fake", backend="fake", sha256="", bytes=1, license="MIT",
                 context_length=512)
host.ask(card, GenerationRequest(messages=(Message(role="user", content="q"),)), lambda text: None)
print("loaded", flush=True)
time.sleep(60)
"""


def test_models_of_other_processes_are_seen_while_they_live(zoo: Zoo, home: Path) -> None:
    zoo.ask(card("mine"))
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(home)], stdout=subprocess.PIPE, text=True)
    assert other.stdout
    with other.stdout:
        assert other.stdout.readline() == "loaded\n"
        assert resident_models(home) == {"mine", "theirs"}
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    deadline = time.monotonic() + 2.0
    while resident_models(home) != {"mine"} and time.monotonic() < deadline:
        time.sleep(0.02)
    assert resident_models(home) == {"mine"}


def test_notes_that_cannot_be_right_are_passed_over(home: Path) -> None:
    run = home / "run"
    run.mkdir()
    (run / "1-cut.json").write_text('{"model": "cu')
    (run / "2-foreign.json").write_text("[]")
    (run / "3-reused.json").write_text(json.dumps({"model": "reused", "pid": os.getpid()}))
    (run / "4-text.json").write_text(json.dumps({"model": "text", "pid": "x"}))
    assert resident_models(home) == set()
