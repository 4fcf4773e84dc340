"""A real llama.cpp server, asked as any server of models is. Nothing here depends on what exactly it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.errors import ContextTooLong, RemoteFailed
from sage.types import GenerationRequest, Message
from sage.zoo.backends import EngineOptions
from sage.zoo.backends.openai_http import OpenAIHttpEngine, served_models

pytestmark = pytest.mark.real

KEY = "0123456789abcdef"
CONTEXT = 512

SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup = sys.argv[1], int(sys.argv[2]), 1, False
params.api_keys = [sys.argv[3]]
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def url(real_home: Path) -> Iterator[str]:
    model = real_home / "models" / "smollm2-135m-instruct.gguf"
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(model), str(CONTEXT), KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield f"{process.stdout.readline().strip()}/v1"
        process.kill()


@pytest.fixture
def engine(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIHttpEngine]:
    monkeypatch.setenv("LLAMA_KEY", KEY)
    (found,) = served_models(url, "LLAMA_KEY", ["127.0.0.1"], 10.0)
    assert found.context == CONTEXT
    extra = {"url": url, "model": found.name, "key_env": "LLAMA_KEY", "hosts": ["127.0.0.1"]}
    extra |= {"connect_s": 10.0, "silence_s": 60.0}
    made = OpenAIHttpEngine(EngineOptions(path=Path(), context=CONTEXT, threads=1, extra=extra))
    yield made
    made._connection.close()


def question(text: str, **changes: object) -> GenerationRequest:
    return GenerationRequest(messages=(Message(role="user", content=text),), **changes)  # type: ignore[arg-type]


def test_it_answers_with_its_counts_and_probabilities(engine: OpenAIHttpEngine) -> None:
    pieces: list[str] = []
    completion = engine.generate(
        question("Name three colours.", max_tokens=8), lambda text: bool(pieces.append(text))
    )
    assert "".join(pieces).strip() == completion.text != ""
    assert completion.finish_reason in ("stop", "length")
    assert completion.prompt_tokens > 3
    assert 0 < completion.completion_tokens <= 8
    assert len(completion.logprobs) >= completion.completion_tokens - 1


def test_it_keeps_a_schema(engine: OpenAIHttpEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["yes", "no"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    asked = question("Is Paris in France?", max_tokens=60, schema=schema)
    completion = engine.generate(asked, lambda _text: False)
    assert json.loads(completion.text)["a"] in ("yes", "no")


def test_stopping_leaves_it_free_for_the_next(engine: OpenAIHttpEngine) -> None:
    stopped = engine.generate(question("Write a long story.", max_tokens=400), lambda _text: True)
    assert stopped.finish_reason == "cancelled"
    assert engine.generate(question("Say hello.", max_tokens=4), lambda _text: False).text


def test_it_says_when_a_prompt_is_too_long(engine: OpenAIHttpEngine) -> None:
    with pytest.raises(ContextTooLong, match=str(CONTEXT)):
        engine.generate(question("word " * 2000), lambda _text: False)


def test_a_wrong_key_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_KEY", "wrong")
    with pytest.raises(RemoteFailed, match="refused the key") as caught:
        served_models(url, "LLAMA_KEY", ["127.0.0.1"], 10.0)
    assert caught.value.mend == "Check the key in LLAMA_KEY"
