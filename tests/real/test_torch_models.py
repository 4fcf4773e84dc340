"""A real model through transformers: its memory is known before it is loaded, and it scores as it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sage.config import load_settings
from sage.kernel.session import memory_parts
from sage.types import GenerationRequest, Message
from sage.zoo.catalog import load_catalog
from sage.zoo.launch import worker_limits, worker_spec
from sage.zoo.process import Worker

pytest.importorskip("gguf")
pytest.importorskip("transformers")

pytestmark = pytest.mark.real


def test_a_gguf_file_in_torch(real_home: Path, home: Path, tmp_path: Path) -> None:
    card = replace(load_catalog(home)["smollm2-135m-instruct"], backend="transformers")
    settings = load_settings().models
    worker = Worker(worker_spec(home, card, settings), worker_limits(card, settings), log=tmp_path / "log")
    try:
        talk = (Message(role="user", content="What is the capital of France?"),)
        answer = worker.ask(GenerationRequest(messages=talk, max_tokens=24), lambda _: None)
        assert "Paris" in answer.text
        held = memory_parts(home, card, answer.prompt_tokens + answer.completion_tokens).held
        assert worker.resident_bytes() == pytest.approx(held, rel=0.1)
        right, wrong = worker.score("The capital of France is", [" Paris", " Berlin"])
        assert right.logprob > wrong.logprob + 1
    finally:
        worker.close()
