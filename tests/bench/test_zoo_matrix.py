"""The matrix of outcomes: read back as it was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.bench.zoo import matrix as module
from sage.bench.zoo.matrix import main, matrix_from, matrix_json, read_matrix, shipped_matrix
from sage.bench.zoo.questions import zoo_questions
from sage.errors import NotFound, UsageError


def matrix(rows: int = 3, columns: int = 2, **replaced: Any) -> dict[str, Any]:
    table = [[round((q + m) % 3 / 2, 6) for m in range(columns)] for q in range(rows)]
    value: dict[str, Any] = {
        "machine": "2 cores",
        "platform": "linux x86_64",
        "date": "2026-01-02",
        "models": [{"name": f"m{m}", "bytes": m + 1, "load_s": None} for m in range(columns)],
        "questions": [{"id": f"q{q}", "text": f"{q}?", "category": "c"} for q in range(rows)],
        "scores": table,
        "tokens": table,
        "cpu_s": table,
    }
    return {**value, **replaced}


@given(questions=st.integers(1, 5), models=st.integers(1, 4))
def test_what_is_written_is_read_back(questions: int, models: int) -> None:
    found = matrix_from(matrix(questions, models), "here")
    again = matrix_from(json.loads(json.dumps(matrix_json(found))), "there")
    assert again.models == found.models
    assert again.questions == found.questions
    assert np.array_equal(again.scores, found.scores)
    assert found.rows_of("c").tolist() == list(range(questions))
    assert found.rows_of("d").size == 0


@pytest.mark.parametrize(
    ("replaced", "told"),
    [
        ({"scores": [[1, 0]]}, "scores is (1, 2), not (3, 2)"),
        ({"scores": [[0, 2], [0, 0], [0, 0]]}, "outside 0 to 1"),
        ({"cpu_s": [[0, float("nan")], [0, 0], [0, 0]]}, "cpu_s holds"),
        ({"tokens": [["a", 1], [1, 1], [1, 1]]}, "not a matrix"),
        ({"models": []}, "not a matrix"),
        ({"models": [{"name": "m", "bytes": 1}, {"name": "m", "bytes": 1}]}, "names of their own"),
        ({"models": [{"name": "m", "bytes": -1}, {"name": "n", "bytes": 1}]}, "bytes is -1"),
        ({"models": 3}, "not a matrix"),
    ],
)
def test_what_is_no_matrix_is_refused(replaced: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        matrix_from(matrix(**replaced), "here")
    assert told in caught.value.message


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "matrix.json"
    with pytest.raises(NotFound):
        read_matrix(path)
    for broken in ("{", "[]", "{}", "\udcff"):
        path.write_text(broken, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(UsageError):
            read_matrix(path)
    for whole in (matrix(), {"suite": "zoo", "rows": [], "matrix": matrix()}):
        path.write_text(json.dumps(whole), encoding="utf-8")
        assert read_matrix(path).names == ("m0", "m1")


def test_what_ships_is_of_the_questions_that_are_asked() -> None:
    shipped = shipped_matrix()
    assert {(q.id, q.text, q.category) for q in shipped.questions} == {
        (q.id, q.prompt, q.category) for q in zoo_questions(0, 16)
    }
    assert len(shipped.models) >= 2
    assert all(model.load_s and model.prompt_tok_s and model.rss_bytes for model in shipped.models)
    assert shipped.cpu_s.min() > 0.0
    assert 0.1 < shipped.scores.mean() < 0.9


def test_a_result_can_be_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = tmp_path / "zoo.json"
    result.write_text(json.dumps({"suite": "zoo", "matrix": matrix()}))
    monkeypatch.setattr(module, "__file__", str(tmp_path / "matrix.py"))
    monkeypatch.setattr("sys.argv", ["matrix", str(result)])
    main()
    assert matrix_json(read_matrix(tmp_path / "matrix.json")) == matrix_json(read_matrix(result))
