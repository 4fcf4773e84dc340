"""Scoring through a real worker process: the figures, and every way it can end otherwise."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sage.errors import DeadlineExceeded, Interrupted, UsageError, WorkerDied
from sage.types import GenerationRequest, Message
from sage.zoo.backends import Engine, Score, Scorer
from sage.zoo.backends.fake import FakeEngine
from sage.zoo.process import Worker, WorkerGone, WorkerLimits, WorkerSpec
from sage.zoo.worker import _score

Start = Callable[..., Worker]

MANY = [f"text {i}" for i in range(500)]
"""With ``token_s`` = 0.02, ten seconds of scoring."""


@pytest.fixture
def start() -> Iterator[Start]:
    workers: list[Worker] = []

    def build(silence_s: float = 5.0, **script: Any) -> Worker:
        limits = WorkerLimits(load_s=10.0, answer_s=10.0, silence_s=silence_s, stop_s=1.0)
        spec = WorkerSpec(name="m", backend="fake", path=Path("none"), context=4096, threads=1, extra=script)
        workers.append(Worker(spec, limits))
        return workers[-1]

    yield build
    for worker in workers:
        worker.close()


def test_scores_come_in_the_order_of_the_texts(start: Start) -> None:
    worker = start(scores={" Paris": -0.5})
    expected = (Score(logprob=-0.5, tokens=1), Score(logprob=-2.0, tokens=2))
    assert worker.score("The capital of France is", [" Paris", " New York"]) == expected
    assert worker.score("x", []) == ()


def test_asking_and_scoring_take_turns(start: Start) -> None:
    worker = start()
    request = GenerationRequest(messages=(Message(role="user", content="hi"),))
    assert worker.score("a", ["b"])[0].tokens == 1
    assert worker.ask(request, lambda _text: None).text == "You said: hi"
    assert worker.score("a", ["b c"])[0].tokens == 2


def test_an_engine_that_cannot_score_says_so() -> None:
    class Mute:
        def generate(self, request: object, on_text: object) -> Any:
            raise AssertionError

    engine: Engine = Mute()
    assert not isinstance(engine, Scorer)
    with pytest.raises(UsageError, match="cannot score"):
        _score(None, engine, {"id": "a", "prompt": "p", "continuations": ["c"]})  # type: ignore[arg-type]


def test_a_refusal_of_the_engine_arrives_typed(start: Start) -> None:
    worker = start(error="not like this")
    with pytest.raises(UsageError, match="not like this"):
        worker.score("a", ["b"])
    assert worker.alive


def test_scoring_is_stopped_between_two_texts_and_the_worker_stays(start: Start) -> None:
    worker = start(token_s=0.02)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted, match="while m was scoring"):
        worker.score("a", MANY, should_stop=stop.is_set)
    assert time.monotonic() - began < 2
    assert worker.alive
    assert worker.score("a", ["b"])[0].tokens == 1


def test_the_deadline_ends_it_and_the_worker_stays(start: Start) -> None:
    worker = start(token_s=0.02)
    with pytest.raises(DeadlineExceeded, match="m did not finish"):
        worker.score("a", MANY, deadline_s=0.3)
    assert worker.score("a", ["b"])[0].tokens == 1


def test_silence_kills(start: Start) -> None:
    worker = start(silence_s=0.3, hang_after=1)
    with pytest.raises(DeadlineExceeded):
        worker.score("a", ["b", "c"])
    assert not worker.alive
    with pytest.raises(WorkerGone):
        worker.score("a", ["b"])


def test_a_crash_is_a_typed_error(start: Start) -> None:
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        start(crash_after=1).score("a", ["b", "c"])


def test_a_stopped_worker_is_killed_when_it_does_not_obey(start: Start) -> None:
    worker = start()
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded):
        worker.score("a", ["b"], deadline_s=0.2)
    assert not worker.alive


def test_the_fake_engine_is_a_scorer() -> None:
    assert issubclass(FakeEngine, Scorer)
