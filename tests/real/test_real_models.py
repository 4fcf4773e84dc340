"""The whole way with the two real models. Nothing here depends on what exactly they say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

from sage.config import load_settings
from sage.errors import ContextTooLong, UnsafeFile
from sage.events import Event, EventBus, Unloaded
from sage.kernel.sense import Request
from sage.kernel.session import memory_need, open_kernel
from sage.kernel.tick import Kernel
from sage.types import GenerationRequest, Message, Piece
from sage.zoo.catalog import load_catalog
from sage.zoo.launch import worker_limits, worker_spec
from sage.zoo.process import Worker

pytestmark = pytest.mark.real

CHAT, BASE = "smollm2-135m-instruct", "gemma-3-270m"

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 30}, "large": {"type": "boolean"}},
    "required": ["city", "large"],
    "additionalProperties": False,
}


def request(prompt: str, *, model: str | None = None, **more: Any) -> Request:
    return Request(messages=(Message(role="user", content=prompt),), session="real", model=model, **more)


def generation(prompt: str, **more: Any) -> GenerationRequest:
    return GenerationRequest(messages=(Message(role="user", content=prompt),), **more)


@contextmanager
def fresh_worker(home: Path, name: str) -> Iterator[Worker]:
    settings = load_settings().models
    card = load_catalog(home)[name]
    worker = Worker(worker_spec(home, card, settings), worker_limits(card, settings))
    try:
        yield worker
    finally:
        worker.close()


@pytest.fixture
def kernel(home: Path, real_home: Path) -> Iterator[Kernel]:
    # One draft: refinement has tests of its own, and takes time.
    with open_kernel(settings=load_settings(irp={"max_steps": 1})) as kernel:
        yield kernel
    assert psutil.Process().children() == []


def test_a_question_of_the_command_line(real_home: Path, run_sage: Any) -> None:
    done = run_sage("ask", "--json", "--max-tokens", "16", "What is the capital of France?")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert reply["answer"].strip()
    assert {c["name"] for c in reply["decision"]["candidates"]} == {CHAT, BASE}
    assert reply["model"] in (CHAT, BASE)
    assert reply["decision"]["kind"] == "fact"
    assert reply["usage"]["completion_tokens"] > 0
    assert reply["usage"]["load_s"] > 0.0
    assert reply["atp"]["spent"] > 0.0
    plain = run_sage("ask", "--max-tokens", "8", "What is the capital of France?")
    assert plain.returncode == 0
    assert plain.stdout.strip()
    assert f"sage trust explain {json.loads(run_sage('logs', '--json').stdout)[0]['id']}" in plain.stderr


@pytest.mark.parametrize("name", [CHAT, BASE])
def test_pieces_come_one_by_one(name: str, kernel: Kernel) -> None:
    pieces: list[tuple[float, Piece]] = []
    reply = kernel.tick(
        request("Name the months of the year.", model=name, max_tokens=24),
        on_piece=lambda piece: pieces.append((time.monotonic(), piece)),
    )
    kept = [(at, piece.text) for at, piece in pieces if piece.draft == reply.draft]
    assert "".join(text for _, text in kept).strip() == reply.answer
    assert len(kept) >= 3
    assert kept[-1][0] - kept[0][0] > 0.05


@pytest.mark.parametrize("name", [CHAT, BASE])
def test_a_stop_is_obeyed_at_once(name: str, home: Path, real_home: Path) -> None:
    with fresh_worker(home, name) as worker:
        pieces: list[str] = []
        stopped: list[float] = []

        def should_stop() -> bool:
            if len(pieces) >= 3 and not stopped:
                stopped.append(time.monotonic())
            return bool(stopped)

        story = generation("Write a long story about the sea.", max_tokens=400)
        completion = worker.ask(story, pieces.append, should_stop=should_stop)
        assert stopped, "the answer was over before it could be stopped"
        assert time.monotonic() - stopped[0] < 0.25
        assert completion.finish_reason == "cancelled"
        assert completion.text
        assert worker.ask(generation("Hi", max_tokens=4), pieces.append).completion_tokens > 0


@pytest.mark.parametrize("prompt", ["Which city is it? Oslo is large.", "Hello!"])
@pytest.mark.parametrize("name", [CHAT, BASE])
def test_a_schema_is_kept(name: str, prompt: str, kernel: Kernel) -> None:
    reply = kernel.tick(request(prompt, model=name, schema=SCHEMA, max_tokens=60))
    jsonschema.validate(json.loads(reply.answer), SCHEMA)


def test_when_a_worker_is_killed_the_other_model_answers(kernel: Kernel) -> None:
    killed: list[str] = []

    def kill_the_first(piece: Piece) -> None:
        if not killed:
            (worker,) = psutil.Process().children()
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(piece.model)

    reply = kernel.tick(request("What is the capital of Norway?", max_tokens=16), on_piece=kill_the_first)
    assert reply.answer
    assert reply.model in {CHAT, BASE} - set(killed)
    assert reply.decision.mode == "fallback"
    (failure,) = reply.decision.failures
    assert (failure.name, failure.error) == (killed[0], "WorkerDied")
    assert "SIGKILL" in failure.message
    assert set(kernel.host.resident()) == {reply.model}


def test_two_models_take_turns_in_the_memory_of_one(home: Path, real_home: Path) -> None:
    events: list[Event] = []
    bus = EventBus()
    bus.subscribe(events.append)
    larger = memory_need(home, load_catalog(home)[BASE], 1024)
    settings = load_settings(
        models={"memory_limit_gb": larger * 1.1 / 1e9, "context": 1024}, irp={"max_steps": 1}
    )
    with open_kernel(settings=settings, bus=bus) as kernel:
        for name in (CHAT, BASE, CHAT):
            reply = kernel.tick(request("What is 2 + 2?", model=name, max_tokens=4))
            assert reply.model == name
            assert set(kernel.host.resident()) == {name}
    made_room = [event.model for event in events if isinstance(event, Unloaded) and "room" in event.reason]
    assert made_room == [CHAT, BASE]


def test_the_second_run_needs_no_network(real_home: Path, run_sage: Any) -> None:
    nowhere = "http://127.0.0.1:9/simple"
    done = run_sage(
        "demo",
        env={"PIP_INDEX_URL": nowhere, "HTTPS_PROXY": nowhere, "SAGE_MODELS__OFFLINE": "true"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("why: ") == 5
    rows = json.loads(run_sage("logs", "--json").stdout)
    assert [row["status"] for row in rows] == ["done"] * 5


@pytest.mark.parametrize("name", [CHAT, BASE])
def test_greedy_answers_repeat_and_memory_is_as_estimated(name: str, home: Path, real_home: Path) -> None:
    texts = []
    for _ in range(2):
        with fresh_worker(home, name) as worker:
            prompt = generation("Why is the sky blue? " * 20, max_tokens=32, seed=7)
            texts.append(worker.ask(prompt, lambda _text: None).text)
            measured = worker.resident_bytes()
    assert texts[0] == texts[1] != ""
    estimated = memory_need(home, load_catalog(home)[name], load_settings().models.context)
    assert abs(estimated - measured) / measured < 0.15, (estimated, measured)


@pytest.mark.parametrize("name", [CHAT, BASE])
def test_the_tokenizer_has_the_last_word_on_length(name: str, home: Path, real_home: Path) -> None:
    with fresh_worker(home, name) as worker:
        with pytest.raises(ContextTooLong, match="the context holds 4096"):
            worker.ask(generation("1 2 3 4 5 6 7 8 9 " * 700), lambda _text: None)
        assert worker.alive


@pytest.fixture
def damaged_home(home: Path, real_home: Path) -> Path:
    """A home of its own for a copy of the smaller model, to be damaged."""
    (home / "models").unlink()
    (home / "models").mkdir()
    shutil.copy(real_home / "models" / f"{CHAT}.gguf", home / "models")
    return home / "models" / f"{CHAT}.gguf"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1_000_000)


def flip_header_bits(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8)  # the number of tensors
        eight = file.read(8)
        file.seek(8)
        file.write(bytes(byte ^ 0xFF for byte in eight))


@pytest.mark.parametrize("damage", [truncate, flip_header_bits])
def test_a_damaged_file_is_refused(damage: Any, damaged_home: Path, run_sage: Any, home: Path) -> None:
    damage(damaged_home)
    for args in (("ask", "hi"), ("ask", "-m", CHAT, "hi")):
        done = run_sage(*args)
        assert done.returncode == 5, done.stderr
        assert CHAT in done.stderr
        assert "Traceback" not in done.stderr
    events = [json.loads(line)["event"] for line in (home / "events.jsonl").read_text().splitlines()]
    assert "LoadStarted" not in events


def test_a_damaged_file_leaves_the_work_to_the_other(damaged_home: Path, real_home: Path) -> None:
    (damaged_home.parent / f"{BASE}.gguf").symlink_to(real_home / "models" / f"{BASE}.gguf")
    flip_header_bits(damaged_home)
    with ExitStack() as stack:
        kernel = stack.enter_context(open_kernel())
        reply = kernel.tick(request("What is the capital of Peru?", max_tokens=8))
        assert reply.model == BASE
        assert CHAT in reply.decision.excluded
        with pytest.raises(UnsafeFile):
            kernel.tick(request("Hi", model=CHAT))
