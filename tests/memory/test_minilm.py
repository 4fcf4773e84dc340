"""The sentence model: it says what is missing, loads nothing early, and the real one knows what is alike."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sage.errors import BackendMissing, UnsafeFile, WeightsMissing
from sage.memory import minilm
from sage.memory.minilm import MiniLM, minilm_path, why_no_minilm
from sage.zoo.catalog import every_card
from sage.zoo.sources import model_path, pull


class Encoding:
    def __init__(self, text: str) -> None:
        self.ids = [101, *(len(word) for word in text.split()), 102]


class Tokenizer:
    encode = Encoding


class Session:
    """Each token's vector is one-hot at its id; a little slow, so that threads meet."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, _outputs: None, inputs: dict[str, Any]) -> list[Any]:
        self.runs += 1
        time.sleep(0.01)
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (1, inputs["input_ids"].size)
        return [np.eye(384, dtype=np.float32)[inputs["input_ids"]]]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """A model made of the fakes above; how often it was loaded."""
    made: list[Session] = []

    def load(_whole: bytes) -> tuple[Any, Any, frozenset[str]]:
        made.append(Session())
        return Tokenizer(), made[-1], frozenset({"input_ids", "attention_mask"})

    monkeypatch.setattr(minilm, "_read", lambda _home: b"")
    monkeypatch.setattr(minilm, "_load", load)
    return made


def put(home: Path, content: bytes) -> None:
    minilm_path(home).parent.mkdir(parents=True, exist_ok=True)
    minilm_path(home).write_bytes(content)


def test_the_card_and_the_reader_agree(home: Path) -> None:
    card = every_card(home)["minilm"]
    assert model_path(card, home) == minilm_path(home)
    assert (card.sha256, card.members[0].bytes) == (minilm.SHA256, minilm.ONNX_BYTES)
    assert card.context_length == minilm.MAX_TOKENS


def test_what_is_missing_is_said_with_the_mend(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not on this machine: sage models pull minilm" in why_no_minilm(home)
    with pytest.raises(WeightsMissing):
        MiniLM(home).embed(["a"])
    put(home, b"other")
    assert "damaged: sage models pull minilm" in why_no_minilm(home)
    with pytest.raises(UnsafeFile):
        MiniLM(home).embed(["a"])
    minilm_path(home).unlink()
    minilm_path(home).mkdir()
    assert "cannot be read" in why_no_minilm(home)
    monkeypatch.setattr(minilm, "find_spec", lambda name: None if name == "tokenizers" else object())
    assert "tokenizers is not installed: pip install" in why_no_minilm(home)
    with pytest.raises(BackendMissing):
        MiniLM(home).embed(["a"])


def test_it_is_loaded_once_by_the_first_text(home: Path, loads: list[Session]) -> None:
    model = MiniLM(home, threads=4)
    assert loads == []
    threads = [threading.Thread(target=model.embed, args=(["one text"],)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [session.runs for session in loads] == [5]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_mean_of_the_tokens_as_a_unit_row(threads: int, home: Path, loads: list[Session]) -> None:
    rows = MiniLM(home, threads=threads).embed(["", "aa aa", " \n", "b", "\ud800"])["minilm"]
    assert rows.shape == (5, 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [0, 1, 0, 1, 1], atol=1e-6)
    assert rows[1][2] == pytest.approx(2 * rows[1][101])
    assert MiniLM(home).embed([])["minilm"].shape == (0, 384)


@pytest.mark.real
def test_the_real_model(real_home: Path) -> None:
    pull(every_card(real_home)["minilm"], real_home)
    assert why_no_minilm(real_home) == ""
    model = MiniLM(real_home)
    texts = ["How do I cook rice?", "recipe for boiled rice", "orbital mechanics of moons", "word " * 5000]
    rows = model.embed(texts)["minilm"]
    near = rows @ rows.T
    assert near[0, 1] > near[0, 2] + 0.3
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(model.embed([text])["minilm"][0], row)
