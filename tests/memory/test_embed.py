"""Which embedder is opened, and what it promises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sage.memory import embed
from sage.memory.embed import Embedder, open_embedder
from sage.memory.hashing import HASHED_VIEWS
from sage.memory.minilm import MINILM_VIEWS


def test_hashing_alone_where_the_sentence_model_is_missing(home: Path) -> None:
    embedder: Embedder = open_embedder(home)
    assert embedder.name == "hashing"
    assert set(embedder.embed(["a"])) == set(embedder.views) == {"word", "char"}


def test_both_where_it_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ones:
        name, views = "minilm", MINILM_VIEWS

        def __init__(self, _home: Path) -> None: ...

        def embed(self, texts: Sequence[str]) -> dict[str, Any]:
            return {"minilm": np.ones((len(texts), 384), np.float32)}

    monkeypatch.setattr(embed, "why_no_minilm", lambda _home: "")
    monkeypatch.setattr(embed, "MiniLM", Ones)
    embedder = open_embedder(home)
    assert embedder.name == "hashing+minilm"
    assert dict(embedder.views) == dict(HASHED_VIEWS) | dict(MINILM_VIEWS)
    found = embedder.embed(["a", "b"])
    assert {view: rows.shape for view, rows in found.items()} == {
        view: (2, width) for view, width in embedder.views.items()
    }
