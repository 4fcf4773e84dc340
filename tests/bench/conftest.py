"""Small made-up data sets in the format of `sage bench route`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

TOPICS = {
    "sums": "add the numbers {} and {} then multiply by {}",
    "letters": "write a friendly letter to {} about the weather in {} and {}",
    "code": "def function_{}(x): return x + {}  # fix the bug number {}",
}


class MakeOutcomes(Protocol):
    def __call__(self, folder: str, *, count: int = 90, seed: int = 0, **replaced: Any) -> Path: ...


def maker(root: Path) -> MakeOutcomes:
    """A folder of three topics and four models: one expert for each topic, and ``plain``, decent at all and
    cheap. Keywords replace a file: an array, or text (None leaves the file out)."""

    def make(folder: str, *, count: int = 90, seed: int = 0, **replaced: Any) -> Path:
        random = np.random.default_rng(seed)
        topics = [list(TOPICS)[i % 3] for i in range(count)]
        rows = [
            {"id": f"{folder}-{i}", "text": TOPICS[t].format(*random.integers(0, 999, 3)), "category": t}
            for i, t in enumerate(topics)
        ]
        models = [
            {"name": name, "params_b": size}
            for name, size in (("sums-7b", 7.0), ("letters-8b", 8.0), ("code-9b", 9.0), ("plain", 1.0))
        ]
        skill = np.full((count, 4), 0.2)
        skill[:, 3] = 0.6
        for i, topic in enumerate(topics):
            skill[i, list(TOPICS).index(topic)] = 0.95
        scores = (random.random((count, 4)) < skill).astype(np.float32)
        right = random.integers(0, 4, (count, 1))
        wrong = (right + random.integers(1, 4, (count, 4))) % 4
        files: dict[str, Any] = {
            "queries": "\n".join(map(json.dumps, rows)),
            "models": json.dumps(models),
            "scores": scores,
            "tokens": np.full((count, 4), 100.0, np.float32),
            "cost": np.tile(np.array([0.007, 0.008, 0.009, 0.001], np.float32), (count, 1)),
            "answers": np.where(scores > 0, right, wrong).astype(np.int8),
        }
        files.update(replaced)
        path = root / folder
        path.mkdir()
        for name, content in files.items():
            if isinstance(content, np.ndarray):
                np.save(path / f"{name}.npy", content)
            elif content is not None:
                ending = {"queries": "jsonl", "models": "json"}.get(name, "npy")
                (path / f"{name}.{ending}").write_text(content, encoding="utf-8")
        return path

    return make


@pytest.fixture
def make_outcomes(tmp_path: Path) -> MakeOutcomes:
    """See :func:`maker`."""
    return maker(tmp_path)


@pytest.fixture
def residency_data(tmp_path: Path) -> Path:
    """Two topics, two specialists of 3.3 GB and a small one that knows a third of each."""
    folder = tmp_path / "residency"
    folder.mkdir()
    random = np.random.default_rng(0)
    asked = {"sums": "What is {} plus {}?", "capitals": "Which city is the capital of country {} or {}?"}
    rows, scores = [], []
    for number, (topic, text) in itertools.product(range(150), asked.items()):
        rows.append({"id": f"{topic}-{number}", "text": text.format(number, number), "category": topic})
        scores.append([topic == "sums", topic == "capitals", random.random() < 0.3])
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = [("adder", 6.0), ("traveller", 6.0), ("small", 3.0)]
    entries = [{"name": name, "params_b": size, "memory_gb": 2 * size} for name, size in names]
    (folder / "models.json").write_text(json.dumps(entries))
    np.save(folder / "scores.npy", np.array(scores, np.float32))
    return folder
