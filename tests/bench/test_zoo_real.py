"""The suite's parts with the two real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.bench.zoo.asking import open_worker
from sage.bench.zoo.measure import measure_answers, measure_speed
from sage.bench.zoo.questions import zoo_questions
from sage.config import Settings
from sage.zoo.catalog import load_catalog

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma-3-270m"])
def test_a_model_is_weighed_and_answers(name: str, real_home: Path, home: Path) -> None:
    card, settings = load_catalog(home)[name], Settings()
    row = measure_speed(home, card, settings, repeats=1)
    assert row["estimated_mb"] == pytest.approx(row["resident_mb"], rel=0.1)
    assert row["load_s"] > 0.0
    assert row["prompt_tok_s"] > row["generate_tok_s"] > 1
    questions = [q for q in zoo_questions(0, 2) if q.category == "JSON extraction"]
    with open_worker(home, card, settings) as worker:
        row, asked, scores = measure_answers(worker, name, "JSON extraction", questions)
        again, _, same = measure_answers(worker, name, "JSON extraction", questions)
    assert row["correct"] >= 1  # under a schema even the smallest extract
    assert scores == same  # greedy
    assert (row["tokens_read"], row["n"]) == (again["tokens_read"], 2)
    assert all(each.cpu_s > 0.0 for each in asked)
