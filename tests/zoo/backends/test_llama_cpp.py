"""The llama.cpp backend: what it asks of the library (a stub here), and what it makes of the answers."""

from __future__ import annotations

import json
import os
import pydoc
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
import xllamacpp

from sage.errors import ContextTooLong, LoadFailed, UnsafeFile, UsageError, WeightsMissing
from sage.types import Completion, GenerationRequest, Message
from sage.zoo.backends import EngineOptions, open_engine
from sage.zoo.backends.base_model import QA_EXAMPLES, qa_prompt
from sage.zoo.backends.llama_cpp import LlamaCppEngine

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "old": {"type": "boolean"}},
    "required": ["city", "old"],
    "additionalProperties": False,
}

USER = (Message(role="user", content="Why?"),)

Chunk = dict[str, Any]


def text(piece: str, logprob: float = -0.5, *, finish: str | None = None, chat: bool = True) -> Chunk:
    choice: Chunk = {"delta": {"content": piece}} if chat else {"text": piece}
    choice["logprobs"] = {"content": [{"logprob": logprob}]}
    return {"choices": [choice | {"finish_reason": finish}]}


class StubServer:
    """Stands for ``xllamacpp.Server``: notes what it is asked and plays ``chunks``."""

    chunks: ClassVar[list[Chunk]] = []
    asked: ClassVar[list[tuple[str, Chunk]]] = []
    sent: ClassVar[int] = 0
    refuse: ClassVar[Exception | None] = None

    def __init__(self, params: Any) -> None:
        type(self).params = params

    def _play(self, kind: str, body: Chunk, take: Callable[[Chunk], bool]) -> None:
        type(self).asked.append((kind, body))
        if self.refuse:
            raise self.refuse
        for chunk in self.chunks:
            type(self).sent += 1
            if take(chunk):
                return

    def handle_chat_completions(self, body: Chunk, take: Callable[[Chunk], bool]) -> None:
        self._play("chat", body, take)

    def handle_completions(self, body: Chunk, take: Callable[[Chunk], bool]) -> None:
        self._play("text", body, take)


@pytest.fixture
def weights(gguf: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound ``x.gguf`` in the current folder."""
    path: Path = gguf.write("x.gguf")
    os.utime(path, (1.0, 1.0))  # or what is written within the same tick of the clock would not show
    monkeypatch.chdir(path.parent)
    return path


@pytest.fixture
def stub(weights: Path, monkeypatch: pytest.MonkeyPatch) -> type[StubServer]:
    fresh = type("Stub", (StubServer,), {"chunks": [], "asked": [], "sent": 0, "refuse": None})
    monkeypatch.setattr(xllamacpp, "Server", fresh)
    return fresh


def options(style: str = "chat", path: Path = Path("x.gguf")) -> EngineOptions:
    return EngineOptions(path=path, context=2048, threads=1, prompt_style=style)  # type: ignore[arg-type]


def generate(
    request: GenerationRequest, style: str = "chat", stop_after: int = 99
) -> tuple[Completion, list[str]]:
    pieces: list[str] = []

    def on_text(piece: str) -> bool:
        pieces.append(piece)
        return len(pieces) >= stop_after

    return LlamaCppEngine(options(style)).generate(request, on_text), pieces


def test_a_question_ends_where_the_answer_begins() -> None:
    prompt = qa_prompt(USER)
    assert prompt.endswith("\n\nQ: Why?\nA:")
    assert prompt.startswith(f"Q: {QA_EXAMPLES[0][0]}\nA: {QA_EXAMPLES[0][1]}\n\n")
    assert prompt.count("Q: ") == len(QA_EXAMPLES) + 1


def test_the_system_text_comes_first_wherever_it_stood() -> None:
    prompt = qa_prompt((*USER, Message(role="system", content="Be brief.")))
    assert prompt.startswith("Be brief.\n\nQ: ")
    assert prompt.endswith("Q: Why?\nA:")


def test_several_turns_become_questions_with_their_answers() -> None:
    conversation = (
        Message(role="user", content="One?"),
        Message(role="assistant", content="1."),
        Message(role="user", content="Two?"),
    )
    assert qa_prompt(conversation).endswith("\n\nQ: One?\nA: 1.\n\nQ: Two?\nA:")


def test_an_answer_is_put_together(stub: type[StubServer]) -> None:
    stub.chunks = [
        text(" Be"),
        text("cause ", -0.25, finish="stop"),
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}},
    ]
    completion, pieces = generate(GenerationRequest(messages=USER))
    assert pieces == [" Be", "cause "]
    assert completion.text == "Because"
    assert (completion.prompt_tokens, completion.completion_tokens) == (7, 2)
    assert completion.logprobs == (-0.5, -0.25)
    assert completion.finish_reason == "stop"


def test_a_cancel_ends_the_stream_and_keeps_the_text(stub: type[StubServer]) -> None:
    stub.chunks = [text("one"), text(" two"), text(" three")]
    completion, _ = generate(GenerationRequest(messages=USER), stop_after=2)
    assert completion.text == "one two"
    assert completion.finish_reason == "cancelled"
    assert completion.completion_tokens == 2
    assert stub.sent == 2


def test_a_chat_model_is_asked_with_messages(stub: type[StubServer]) -> None:
    request = GenerationRequest(
        messages=USER, max_tokens=9, temperature=0.5, seed=11, stop=("END",), schema=SCHEMA
    )
    generate(request)
    kind, body = stub.asked[0]
    assert kind == "chat"
    assert body["messages"] == [{"role": "user", "content": "Why?"}]
    assert (body["max_tokens"], body["temperature"], body["seed"], body["stop"]) == (9, 0.5, 11, ["END"])
    assert '"city"' in body["grammar"]
    assert '"whitespace_flexible":false' in body["grammar"].replace(" ", "")


def test_a_base_model_is_asked_with_text(stub: type[StubServer]) -> None:
    stub.chunks = [text(" So.", chat=False)]
    completion, _ = generate(GenerationRequest(messages=USER, stop=("END",)), style="qa")
    kind, body = stub.asked[0]
    assert kind == "text"
    assert body["prompt"] == qa_prompt(USER)
    assert body["stop"] == ["END", "\nQ:", "\n\n"]
    assert "seed" not in body
    assert completion.text == "So."


def test_a_schema_ends_its_answer_itself(stub: type[StubServer]) -> None:
    generate(GenerationRequest(messages=USER, stop=("END",), schema=SCHEMA), style="qa")
    _, body = stub.asked[0]
    assert '"city"' in body["grammar"]
    assert body["stop"] == ["END"]


def test_a_prompt_too_long_is_typed(stub: type[StubServer]) -> None:
    error = {"type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 2048, "message": "m"}
    stub.chunks = [{"error": error}]
    with pytest.raises(ContextTooLong, match="5000 tokens, the context holds 2048"):
        generate(GenerationRequest(messages=USER))


def test_other_refusals_are_usage_errors(stub: type[StubServer]) -> None:
    stub.chunks = [{"error": {"type": "invalid_request_error", "message": "no such grammar"}}]
    with pytest.raises(UsageError, match="no such grammar"):
        generate(GenerationRequest(messages=USER))
    stub.refuse = ValueError("bad schema")
    with pytest.raises(UsageError, match="bad schema"):
        generate(GenerationRequest(messages=USER))


@pytest.mark.usefixtures("weights")
def test_a_failing_load_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_params: Any) -> None:
        raise RuntimeError("bad magic")

    monkeypatch.setattr(xllamacpp, "Server", refuse)
    with pytest.raises(LoadFailed, match=r"could not load x\.gguf: bad magic"):
        open_engine("llama_cpp", options())


def test_what_became_unsound_never_gets_to_the_library(stub: type[StubServer], weights: Path) -> None:
    weights.write_bytes(b"GGUF" + b"\xff" * 100)
    with pytest.raises(UnsafeFile, match=r"x\.gguf"):
        LlamaCppEngine(options())
    weights.unlink()
    with pytest.raises(WeightsMissing, match=r"x\.gguf"):
        LlamaCppEngine(options())
    assert not hasattr(stub, "params")


@pytest.mark.parametrize("when", ["after it was vetted", "while it was loaded"])
@pytest.mark.parametrize("how", ["replaced", "written over"])
@pytest.mark.usefixtures("stub")
def test_what_is_loaded_is_what_was_vetted(
    when: str, how: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "sage.zoo.backends.llama_cpp.vet_gguf" if when.startswith("after") else "xllamacpp.Server"
    whole, step = weights.read_bytes(), pydoc.locate(name)
    assert callable(step)

    def and_then_others(given: Any) -> Any:
        found = step(given)
        if how == "replaced":
            weights.with_suffix(".new").write_bytes(whole)
            weights.with_suffix(".new").replace(weights)
        else:
            weights.write_bytes(whole[:-1] + b"!")
        return found

    monkeypatch.setattr(name, and_then_others)
    with pytest.raises(UnsafeFile, match="changed while it was loaded"):
        LlamaCppEngine(options())


def test_how_the_library_is_set_up(stub: type[StubServer]) -> None:
    LlamaCppEngine(options())
    params = stub.params  # type: ignore[attr-defined]
    assert (params.n_ctx, params.n_parallel) == (2048, 1)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (1, 2)
    assert (params.cache_ram_mib, params.n_ctx_checkpoints) == (0, 0)  # memory outside the estimate
    assert len(params.api_keys[0]) == 32  # the loopback port is closed to strangers


@pytest.mark.real
@pytest.mark.parametrize(("name", "style"), [("smollm2-135m-instruct", "chat"), ("gemma-3-270m", "qa")])
def test_the_real_library(name: str, style: str, real_home: Path) -> None:
    engine = LlamaCppEngine(options(style, real_home / "models" / f"{name}.gguf"))
    pieces: list[str] = []

    def on_text(piece: str) -> bool:
        pieces.append(piece)
        return False

    question = (Message(role="user", content="What is the capital of France?"),)
    completion = engine.generate(GenerationRequest(messages=question, max_tokens=16), on_text)
    assert completion.text
    assert "".join(pieces).strip() == completion.text
    assert completion.prompt_tokens > 5
    assert 0 < completion.completion_tokens <= 16
    assert len(completion.logprobs) >= len(pieces)
    assert all(logprob <= 0.0 for logprob in completion.logprobs)

    shaped = engine.generate(GenerationRequest(messages=question, max_tokens=64, schema=SCHEMA), on_text)
    jsonschema.validate(json.loads(shaped.text), SCHEMA)

    with pytest.raises(ContextTooLong, match="context holds 2048"):
        engine.generate(GenerationRequest(messages=(Message(role="user", content="word " * 4000),)), on_text)
    stopped = engine.generate(GenerationRequest(messages=question, max_tokens=64), lambda _piece: True)
    assert stopped.finish_reason == "cancelled"
