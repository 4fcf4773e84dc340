"""`sage trust`: what was learned, why a model was chosen, and teaching by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sage.cli.trust_view import left_out


@pytest.fixture
def asked(run_sage: Any, fakes: Any) -> dict[str, Any]:
    """One question that `good` answered, while `broken` failed."""
    fakes(broken={"prior": 0.95, "crash_after": 0}, good={"prior": 0.6}, poor={"prior": 0.2})
    reply: dict[str, Any] = json.loads(run_sage("ask", "--json", "hi").stdout)
    return reply


def quality(rows: list[dict[str, Any]], model: str, kind: str) -> tuple[float, float]:
    (row,) = [row for row in rows if (row["model"], row["kind"]) == (model, kind)]
    return row["quality"], row["evidence"]


def test_without_outcomes_the_card_is_believed(run_sage: Any, fakes: Any) -> None:
    fakes(good={"prior": 0.8})
    rows = json.loads(run_sage("trust", "show", "--json", "good").stdout)
    assert {row["model"] for row in rows} == {"good"}
    assert {row["kind"] for row in rows} == {"json", "code", "math", "classify", "rewrite", "fact", "chat"}
    for row in rows:
        assert row["quality"] == pytest.approx(0.8, abs=0.01)
        assert row["evidence"] == 0.0
    table = run_sage("trust", "show")
    assert table.returncode == 0
    assert "good" in table.stdout
    assert "\x1b" not in table.stdout


def test_six_models_fit_80_columns(run_sage: Any, fakes: Any) -> None:
    names = ["smollm2-135m-instruct-q8", *(f"model-{number}" for number in range(5))]
    fakes(**{name: {"prior": 0.5} for name in names})
    lines = run_sage("trust", "show", env={"COLUMNS": "80"}).stdout.splitlines()
    assert lines[0].split() == ["model", "json", "code", "math", "classify", "rewrite", "fact", "chat"]
    assert [line.split() for line in lines[1:7]] == [[name, *["0.50"] * 7] for name in names]
    assert all(len(line) <= 80 for line in lines)
    assert "sage trust show MODEL" in lines[7]
    assert "±" in run_sage("trust", "show", "model-1").stdout


def test_an_unknown_model(run_sage: Any, fakes: Any) -> None:
    fakes(parrot={})
    done = run_sage("trust", "show", "parot")
    assert done.returncode == 3
    assert "Did you mean 'parrot'?" in done.stderr


def test_explain(run_sage: Any, asked: dict[str, Any]) -> None:
    decision = json.loads(run_sage("trust", "explain", asked["turn_id"], "--json").stdout)
    assert decision["turn_id"] == asked["turn_id"]
    assert decision["chosen"] == "good"
    for key in ("mode", "reason", "candidates", "failures", "excluded"):
        assert decision[key] == asked["decision"][key], key
    text = run_sage("trust", "explain", asked["turn_id"].removeprefix("turn-")[:6])
    assert text.returncode == 0
    assert "▸good" in text.stdout
    assert "failed: broken: The worker of broken died" in text.stdout
    assert "left out: smollm2-135m-instruct, gemma-3-270m: its weights are not here" in text.stdout


def test_rating_teaches_once(run_sage: Any, asked: dict[str, Any]) -> None:
    def believed() -> tuple[float, float]:
        return quality(json.loads(run_sage("trust", "show", "--json").stdout), "good", "chat")

    before, none = believed()
    assert none == 0.0
    assert run_sage("trust", "rate", asked["turn_id"], "0.0").stdout == "Learned.\n"
    after, some = believed()
    assert after < before - 0.05
    assert some == pytest.approx(1.0, abs=0.01)
    again = run_sage("trust", "rate", asked["turn_id"], "1.0")
    assert again.returncode == 0
    assert "nothing changed" in again.stdout
    assert believed() == (after, pytest.approx(some, abs=0.01))


@pytest.mark.parametrize("command", [("explain", "turn-none"), ("rate", "turn-none", "1")])
def test_an_unknown_turn(command: tuple[str, ...], run_sage: Any) -> None:
    done = run_sage("trust", *command)
    assert done.returncode == 3
    assert "No turn 'turn-none'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_rated(run_sage: Any, fakes: Any) -> None:
    fakes(broken={"crash_after": 0})
    assert run_sage("ask", "hi").returncode == 4
    (row,) = json.loads(run_sage("logs", "--json").stdout)
    done = run_sage("trust", "rate", row["id"], "1")
    assert done.returncode == 2
    assert "has no answer to rate" in done.stderr
    assert run_sage("trust", "rate", row["id"], "1.5").returncode == 2
    explained = run_sage("trust", "explain", row["id"])
    assert explained.returncode == 0
    assert "SIGSEGV" in explained.stdout


def test_a_turn_without_a_decision(run_sage: Any) -> None:
    assert run_sage("ask", "hi").returncode == 3
    (row,) = json.loads(run_sage("logs", "--json").stdout)
    done = run_sage("trust", "explain", row["id"])
    assert done.returncode == 0
    assert "No decision was made" in done.stdout


def test_those_left_out_for_one_reason_share_a_line() -> None:
    excluded = {f"m{i}": "its weights are not here" for i in range(8)} | {"big": "it does not fit"}
    assert left_out(excluded) == [
        ("m0, m1, m2, m3, m4 and 3 more", "its weights are not here"),
        ("big", "it does not fit"),
    ]
