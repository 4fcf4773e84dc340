"""How a worker's process ends: with all that it started, and never later than it may."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sage.errors import DeadlineExceeded, StoreError, WorkerDied
from sage.zoo.process import Worker

from .workers import LONG, REQUEST, Start, ask, gone, starting, wait_until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as build:
        yield build


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), StoreError("full"), DeadlineExceeded("late")])
def test_a_listener_that_fails_stops_the_generation(start: Start, failure: BaseException) -> None:
    worker = start({"answer": LONG, "token_s": 0.01})
    calls: list[str] = []

    def on_text(text: str) -> None:
        calls.append(text)
        raise failure

    with pytest.raises(type(failure)):
        worker.ask(REQUEST, on_text)
    assert len(calls) == 1
    assert worker.alive
    began = time.monotonic()
    first: list[float] = []
    worker.ask(REQUEST, lambda _text: first.append(time.monotonic()), should_stop=lambda: bool(first))
    assert first[0] - began < 1.0  # the answer to nobody would have taken five seconds


GRANDPARENT = """#!/bin/sh
{python} -c 'import os, sys, time; {first}; time.sleep(60)' &
echo $! > "$(dirname "$0")/pid"
exec {python} "$@"
"""


def grandchild_of(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> tuple[Worker, int]:
    """A worker that started a process, which holds the worker's pipe, and that one's id."""
    python = folder / "python"
    python.write_text(GRANDPARENT.format(python=sys.executable, first=first))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    worker, pid = start({"answer": "fine"}), int((folder / "pid").read_text())
    assert not gone(pid)
    return worker, pid


@pytest.mark.parametrize("how", ["close", "kill", "death"])
def test_what_a_worker_started_ends_with_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    worker, grandchild = grandchild_of(start, tmp_path, monkeypatch, "pass")
    if how == "death":
        os.kill(worker.pid, signal.SIGKILL)
        assert wait_until(lambda: not worker.alive, 5.0)
    began = time.monotonic()
    worker.kill() if how == "kill" else worker.close()
    assert time.monotonic() - began < 0.9  # less than stop_s: the reader came to its end
    assert wait_until(lambda: gone(grandchild), 2.0)
    assert not worker._reader.is_alive()


def test_who_left_the_group_and_keeps_the_pipe_does_not_hold_up_the_end(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, stray = grandchild_of(start, tmp_path, monkeypatch, "os.setsid()")
    assert wait_until(lambda: os.getsid(stray) == stray, 5.0)
    try:
        closing = threading.Thread(target=worker.close, daemon=True)
        closing.start()
        closing.join(4.0)
        assert not closing.is_alive()
    finally:
        os.kill(stray, signal.SIGKILL)
    worker._reader.join(5.0)


def test_closing_twice_is_once(start: Start) -> None:
    worker = start()
    worker.close()
    worker.close()
    assert gone(worker.pid)
    with pytest.raises(WorkerDied):
        ask(worker)


def test_closing_ends_a_worker_that_is_stuck(start: Start) -> None:
    worker = start({"hang_after": 0})
    errors: list[BaseException] = []

    def stuck() -> None:
        try:
            ask(worker)
        except WorkerDied as error:
            errors.append(error)

    thread = threading.Thread(target=stuck)
    thread.start()
    time.sleep(0.2)
    worker.close()
    thread.join(5.0)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert gone(worker.pid)


PARENT = """
import sys, time
from pathlib import Path
from sage.types import GenerationRequest, Message
from sage.zoo.process import Worker, WorkerLimits, WorkerSpec
script = {"answer": "a b c", "hang_after": 1} if sys.argv[1] == "answering" else {}
spec = WorkerSpec(name="m", backend="fake", path=Path("x"), context=512, threads=1, extra=script)
worker = Worker(spec, WorkerLimits(load_s=9, answer_s=60, silence_s=60, stop_s=1))
print(worker.pid, flush=True)
if script:
    worker.ask(GenerationRequest(messages=(Message(role="user", content="q"),)), lambda text: None)
time.sleep(60)
"""


@pytest.mark.parametrize("doing", ["idle", "answering"])
def test_a_worker_does_not_outlive_its_parent(doing: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, doing], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert not gone(pid)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: gone(pid), 2.0)


def test_crashes_leak_neither_descriptors_nor_processes(start: Start) -> None:
    def cycle() -> None:
        worker = start({"crash_after": 0})
        with pytest.raises(WorkerDied):
            ask(worker)
        worker.close()

    cycle()
    gc.collect()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(30):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads
    assert psutil.Process().children() == []
