"""Real worker processes around the fake engine: what they do right, and every way they can go wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from sage.errors import (
    BackendMissing,
    ContextTooLong,
    DeadlineExceeded,
    Interrupted,
    LoadFailed,
    UsageError,
    WorkerDied,
)
from sage.types import GenerationRequest, Message
from sage.zoo.process import Worker, WorkerGone, _typed
from sage.zoo.worker import request_from_json

from .workers import LONG, REQUEST, Start, ask, gone, starting, wait_until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as build:
        yield build


def test_weights_on_their_way_to_a_gpu_are_counted_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sage.zoo.process.peak_bytes", lambda _pid: 10**12)
    there, here = start({"device_mb": 400}), start()
    assert 400_000_000 < there.peak_bytes() < 1_000_000_000
    assert here.peak_bytes() == 10**12


def test_an_answer_comes_in_order_and_measured(start: Start) -> None:
    worker = start({"answer": "one two three", "token_s": 0.02, "load_s": 0.1})
    completion, pieces = ask(worker)
    assert pieces == ["one", " two", " three"]
    assert completion.text == "one two three"
    assert completion.finish_reason == "stop"
    assert (completion.prompt_tokens, completion.completion_tokens) == (2, 3)
    assert completion.logprobs == (-0.1, -0.1, -0.1)
    assert 0.06 <= completion.run_s < 1.0
    assert 0.02 <= completion.first_text_s < completion.run_s
    assert worker.load_s >= 0.1
    assert worker.resident_bytes() > 1_000_000


def test_the_process_is_known_before_the_model_is_loaded(start: Start) -> None:
    alive: list[bool] = []
    stop = threading.Event()

    def on_started(pid: int) -> None:
        alive.append(psutil.pid_exists(pid))
        stop.set()

    with pytest.raises(Interrupted):
        start({"load_s": 60}, on_started=on_started, should_stop=stop.is_set)
    assert alive == [True]


def test_where_no_thread_can_be_started_no_process_is_left(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        start()
    assert not psutil.Process().children()


def test_memory_that_cannot_be_read_is_no_error(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = start()

    def no_descriptors(_pid: int) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil, "Process", no_descriptors)
    assert (worker.resident_bytes(), worker.cpu_seconds()) == (0, 0.0)


def test_one_worker_answers_many_requests(start: Start) -> None:
    worker = start({"answers": ["first", "second"]})
    assert [ask(worker)[0].text for _ in range(3)] == ["first", "second", "second"]


def test_a_request_arrives_whole() -> None:
    request = GenerationRequest(
        messages=(Message(role="system", content="s\n"), Message(role="user", content="é 中 \U0001f600 \0")),
        max_tokens=7,
        temperature=0.5,
        seed=12345,
        stop=("a", "b"),
        schema={"type": "object"},
        deadline_s=3.0,
    )
    assert request_from_json(json.loads(json.dumps(asdict(request)))) == request


def test_every_script_of_the_world_and_large_prompts(start: Start) -> None:
    worker = start(context=1 << 20)
    text = "中文 العربية ไทย 😀 \0 line\nbreak " + "x" * 1_000_000
    completion = worker.ask(
        GenerationRequest(messages=(Message(role="user", content=text),)), lambda _text: None
    )
    assert completion.text == f"You said: {text}"


def test_a_stop_is_quick_and_keeps_the_text_and_the_worker(start: Start) -> None:
    worker = start({"answer": LONG, "token_s": 0.01})
    pieces: list[str] = []
    asked_to_stop: list[float] = []

    def should_stop() -> bool:
        if len(pieces) >= 5 and not asked_to_stop:
            asked_to_stop.append(time.monotonic())
        return bool(asked_to_stop)

    completion = worker.ask(REQUEST, pieces.append, should_stop=should_stop)
    assert time.monotonic() - asked_to_stop[0] < 0.25
    assert completion.finish_reason == "cancelled"
    assert completion.text.startswith("".join(pieces))
    assert 5 <= completion.completion_tokens < 60
    assert worker.alive
    assert ask(worker, should_stop=lambda: True)[0].finish_reason == "cancelled"


def test_a_worker_that_ignores_a_stop_is_killed(start: Start) -> None:
    worker = start({"answer": "a b c d", "hang_after": 2}, stop_s=0.3)
    pieces: list[str] = []
    began = time.monotonic()
    completion = worker.ask(REQUEST, pieces.append, should_stop=lambda: len(pieces) == 2)
    assert time.monotonic() - began < 1.0
    assert completion.text == "a b"
    assert completion.finish_reason == "cancelled"
    assert not worker.alive


def test_a_crash_names_its_signal(start: Start) -> None:
    worker = start({"answer": "a b c", "crash_after": 2})
    pieces: list[str] = []
    with pytest.raises(WorkerDied, match=r"worker of m died \(killed by SIGSEGV\)"):
        worker.ask(REQUEST, pieces.append)
    assert pieces == ["a", " b"]
    assert not worker.alive
    assert worker.resident_bytes() == 0
    with pytest.raises(WorkerDied):  # and again, without waiting
        ask(worker)


def test_a_kill_from_outside_hints_at_memory(start: Start) -> None:
    worker = start({"answer": LONG, "token_s": 0.01})

    def on_text(_text: str) -> None:
        os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(WorkerDied, match="SIGKILL") as caught:
        worker.ask(REQUEST, on_text)
    assert "where memory is short" in caught.value.mend


def test_silence_ends_the_worker(start: Start) -> None:
    worker = start({"answer": "a b c", "hang_after": 1}, silence_s=0.4)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="m did not finish"):
        ask(worker)
    assert 0.4 <= time.monotonic() - began < 2.0
    assert gone(worker.pid)


def test_a_long_prompt_may_be_read_in_silence(start: Start) -> None:
    worker = start({"answer": "a", "token_s": 0.6}, silence_s=0.1)
    prompt = "x" * 60  # 20 tokens, 2 seconds
    assert worker.ask(GenerationRequest(messages=(Message(role="user", content=prompt),)), print).text == "a"


def with_deadline(seconds: float, content: str = "hello there") -> GenerationRequest:
    return GenerationRequest(messages=(Message(role="user", content=content),), deadline_s=seconds)


def test_a_deadline_keeps_the_text_and_the_worker(start: Start) -> None:
    worker = start({"answer": LONG, "token_s": 0.01})
    pieces: list[str] = []
    began = time.monotonic()
    completion = worker.ask(with_deadline(0.5), pieces.append)
    assert time.monotonic() - began < 1.4
    assert completion.finish_reason == "deadline"
    assert completion.text.startswith("".join(pieces))
    assert pieces
    assert worker.alive
    assert ask(worker, should_stop=lambda: True)[0].finish_reason == "cancelled"


def test_a_deadline_before_the_first_word_leaves_the_worker(start: Start) -> None:
    worker = start({"answer": "", "token_s": 0.6})
    with pytest.raises(DeadlineExceeded, match="m did not finish"):
        worker.ask(with_deadline(0.2), print)
    assert worker.alive


def test_a_worker_that_ignores_its_deadline_is_killed(start: Start) -> None:
    worker = start({"answer": "a b c d", "hang_after": 2}, stop_s=0.3)
    with pytest.raises(DeadlineExceeded):
        worker.ask(with_deadline(0.3), lambda _text: None)
    assert gone(worker.pid)


def test_waiting_for_a_turn_has_a_deadline_and_can_be_stopped(start: Start) -> None:
    worker = start({"answer": "fine"})
    with worker._lock:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="m was busy"):
            worker.ask(with_deadline(0.2), print)
        end = time.monotonic() + 0.2
        completion, pieces = ask(worker, should_stop=lambda: time.monotonic() > end)
        assert (completion.text, completion.finish_reason, pieces) == ("", "cancelled", [])
        assert time.monotonic() - began < 2.0
    assert ask(worker)[0].text == "fine"


@pytest.fixture
def stopped(start: Start) -> Iterator[Worker]:
    """A worker that reads nothing, as one that hangs in native code or swaps itself to death."""
    worker = start({"answer": "fine"}, stop_s=0.3, silence_s=60.0)
    os.kill(worker.pid, signal.SIGSTOP)
    yield worker
    assert gone(worker.pid)


BIG = "x" * 300_000
"""More than a pipe holds."""


def test_a_large_prompt_to_a_worker_that_reads_nothing_can_be_stopped(stopped: Worker) -> None:
    began = time.monotonic()
    completion = stopped.ask(
        GenerationRequest(messages=(Message(role="user", content=BIG),)),
        print,
        should_stop=lambda: time.monotonic() > began + 0.3,
    )
    assert completion.finish_reason == "cancelled"
    assert time.monotonic() - began < 1.6


def test_a_large_prompt_to_a_worker_that_reads_nothing_has_a_deadline(stopped: Worker) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        stopped.ask(with_deadline(0.3, BIG), print)
    assert time.monotonic() - began < 1.6


def test_closing_does_not_wait_for_a_worker_that_reads_nothing(stopped: Worker) -> None:
    errors: list[BaseException] = []

    def stuck() -> None:
        try:
            stopped.ask(with_deadline(60.0, BIG), print)
        except WorkerDied as error:
            errors.append(error)

    thread = threading.Thread(target=stuck)
    thread.start()
    assert wait_until(stopped._lock.locked, 5.0)
    time.sleep(0.2)
    began = time.monotonic()
    stopped.close()
    thread.join(5.0)
    assert time.monotonic() - began < 1.3
    assert len(errors) == 1


def test_an_order_that_was_broken_off_does_not_spoil_the_next(start: Start) -> None:
    worker = start({"answers": ["first", "second"]}, context=1 << 20, stop_s=5.0)
    os.kill(worker.pid, signal.SIGSTOP)
    began = time.monotonic()
    resume = threading.Timer(0.6, os.kill, (worker.pid, signal.SIGCONT))
    resume.start()
    completion = worker.ask(
        GenerationRequest(messages=(Message(role="user", content=BIG),)),
        print,
        should_stop=lambda: time.monotonic() > began + 0.2,
    )
    resume.join()
    assert completion.finish_reason in ("cancelled", "stop")
    assert worker.alive
    assert ask(worker)[0].text == "second"


def test_a_dead_worker_says_that_it_was_never_asked(start: Start) -> None:
    worker = start()
    worker.kill()
    with pytest.raises(WorkerGone, match="killed by SIGKILL"):
        ask(worker)


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[1]\n", b'{"ev": "do'])
def test_words_that_make_no_sense_end_the_worker(start: Start, line: bytes) -> None:
    worker = start({"hang_after": 0}, stop_s=0.3)
    reading, writing = os.pipe()
    os.write(writing, line)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        stdout, worker._process.stdout = worker._process.stdout, said
        worker._read()
        worker._process.stdout = stdout
    with pytest.raises(WorkerDied):
        ask(worker)
    assert gone(worker.pid)


def test_an_error_is_only_ever_one_of_ours() -> None:
    assert type(_typed({"error": "UsageError", "message": "m"})) is UsageError
    for name in ("did_you_mean", "Iterable", "annotations", "KeyboardInterrupt", None):
        assert type(_typed({"error": name})) is LoadFailed


def test_a_refused_load_says_why(start: Start) -> None:
    with pytest.raises(LoadFailed, match="the file is strange"):
        start({"load_error": "the file is strange"})
    with pytest.raises(BackendMissing, match="Did you mean 'fake'"):
        start(backend="fakk")
    assert not psutil.Process().children()


def test_a_slow_load_is_given_up(start: Start) -> None:
    began = time.monotonic()
    with pytest.raises(LoadFailed, match="m did not load within 1 s"):
        start({"load_s": 60}, load_s=0.6)
    assert time.monotonic() - began < 2.0
    assert not psutil.Process().children()


def test_a_load_can_be_stopped(start: Start) -> None:
    end = time.monotonic() + 0.4
    with pytest.raises(Interrupted, match="while m was loading"):
        start({"load_s": 60}, should_stop=lambda: time.monotonic() > end)
    assert time.monotonic() < end + 1.0
    assert not psutil.Process().children()


def test_a_request_error_leaves_the_worker_alive(start: Start) -> None:
    worker = start({"error": "no such grammar"})
    for _ in range(2):
        with pytest.raises(UsageError, match="no such grammar"):
            ask(worker)
    assert worker.alive
    small = start(context=2)
    with pytest.raises(ContextTooLong):
        ask(small)
    assert small.alive


def test_what_libraries_print_does_not_disturb(start: Start) -> None:
    worker = start({"answer": "fine", "noise": '\n{"ev": "done"}\nllama_init: junk \x1b[31m\n{"id'})
    for _ in range(2):
        completion, pieces = ask(worker)
        assert completion.text == "fine"
        assert pieces == ["fine"]


def test_what_libraries_print_is_in_the_log(start: Start, tmp_path: Path) -> None:
    ask(start({"noise": "ggml: a warning\n"}))
    assert "ggml: a warning" in (tmp_path / "log").read_text()


def test_nothing_is_imported_from_where_the_user_stands(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "sage").mkdir()
    (tmp_path / "sage" / "__init__.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert ask(start({"answer": "fine"}))[0].text == "fine"


def test_a_request_that_is_over_is_never_sent(start: Start) -> None:
    worker = start({"answer": LONG, "token_s": 0.05})
    assert ask(worker, should_stop=lambda: True)[0].text == ""
    assert worker.alive
