"""Result files, the tables made from them, and the suites on small inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage.bench.answers import area_under_curve
from sage.bench.questions import QUESTIONS
from sage.bench.report import insert_tables, markdown, spread, spread_columns, write_result
from sage.bench.select import measure_select
from sage.kernel.sense import kind_of

ROWS = [{"model": "a", "s": 0.123456, "n": 3}, {"model": "b", "s": 12.0, "n": 40}]


def result(folder: Path) -> Path:
    path = folder / "bench" / "zoo.json"
    write_result(path, suite="zoo", command="sage bench zoo", settings={"repeats": 3}, rows=ROWS)
    return path


def test_a_result_says_what_where_and_how(tmp_path: Path) -> None:
    written = json.loads(result(tmp_path).read_text())
    assert written["rows"] == ROWS
    assert (written["suite"], written["command"]) == ("zoo", "sage bench zoo")
    assert written["settings"] == {"repeats": 3}
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["memory_gb"] > 0


def test_a_table_may_show_some_rows_and_columns(tmp_path: Path) -> None:
    folder = result(tmp_path).parent
    shown = insert_tables("<!-- bench zoo model=b|c columns=n|model -->\nold\n<!-- end -->", folder)
    assert shown.splitlines()[:4] == [
        "<!-- bench zoo model=b|c columns=n|model -->",
        "| n | model |",
        "|---|---|",
        "| 40 | b |",
    ]
    with pytest.raises(ValueError, match="no row"):
        insert_tables("<!-- bench zoo model=c -->\nold\n<!-- end -->", folder)


def test_a_table_stands_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    folder = result(tmp_path).parent
    text = "before\n<!-- bench zoo -->\nold\n<!-- end -->\nafter\n"
    made = insert_tables(text, folder)
    assert made.startswith("before\n<!-- bench zoo -->\n| model | s | n |\n|---|---|---|\n| a | 0.123 | 3 |")
    assert "| b | 12 | 40 |" in made
    assert "`sage bench zoo`" in made
    assert made.endswith("\n<!-- end -->\nafter\n")
    assert insert_tables(made, folder) == made
    assert markdown(json.loads((folder / "zoo.json").read_text())) in made


def test_spread() -> None:
    measured = spread([3.0, 1.0, 2.0, 10.0])
    assert (measured.median, measured.low, measured.high) == (2.5, 1.0, 10.0)


def test_what_never_happened_is_null_and_what_did_not_apply_is_left_out() -> None:
    assert spread_columns("s", [1.0, None, 3.25, float("inf")], digits=1) == {
        "s": 3.2,
        "s_low": 1.0,
        "s_high": None,
    }
    assert spread_columns("s", [None], digits=1) == {"s": None, "s_low": None, "s_high": None}


def test_the_area_under_the_curve_counts_pairs() -> None:
    assert area_under_curve([(True, 0.1), (True, 0.3), (False, 0.2), (False, 0.9)]) == 0.75
    assert area_under_curve([(True, 0.5), (False, 0.5)]) == 0.5
    assert area_under_curve([(True, 0.5)]) == 0.5


def test_a_decision_is_measured_for_each_number_of_candidates() -> None:
    rows = measure_select(candidates=(3, 30), outcomes=100, progress=lambda _text: None)
    assert [row["candidates"] for row in rows] == [3, 30]
    for row in rows:
        assert 1.0 < row["choose us"] <= row["p95"]
        assert row["pool us"] > 1.0
        assert row["learn us, 10 nodes"] > 1.0
    assert rows[1]["pool us"] > rows[0]["pool us"]


def test_questions_know_right_from_wrong() -> None:
    assert len(QUESTIONS) == len({question.prompt for question in QUESTIONS}) == 50
    capital = next(question for question in QUESTIONS if "Italy" in question.prompt)
    assert [capital.verify(text) for text in ("Rome.", "It is ROME", "Romeo", "")] == [1.0, 1.0, 0.0, 0.0]
    judged = next(question for question in QUESTIONS if "love this film" in question.prompt)
    assert judged.verify("Positive.") == 1.0
    assert judged.verify("Positive, not negative.") == 0.0  # both labels: no answer
    move = next(question for question in QUESTIONS if question.value)
    assert move.verify(json.dumps(move.value)) == 1.0
    assert move.verify(json.dumps({**(move.value or {}), "year": 1})) == 0.0
    assert move.verify("Maria") == 0.0


def test_the_questions_are_of_the_kinds_they_mean_to_be() -> None:
    kinds = [kind_of(question.prompt) for question in QUESTIONS if question.schema is None]
    assert kinds == ["fact"] * 18 + ["rewrite"] * 10 + ["classify"] * 10 + ["math"] * 6
