"""`sage trust frontier`, `reset`, `export`, `import`, `rebuild`, and the dial of `sage ask`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sage.clock import SystemClock
from sage.config import load_settings
from sage.kernel.session import open_stores
from sage.types import Outcome


@pytest.fixture
def taught(run_sage: Any, fakes: Any) -> Any:
    """A home where `good` was told three times that it was wrong."""
    fakes(good={"prior": 0.8}, poor={"prior": 0.2})
    for _ in range(3):
        turn = json.loads(run_sage("ask", "--json", "--model", "good", "hi there").stdout)["turn_id"]
        assert run_sage("trust", "rate", turn, "0").returncode == 0
    return run_sage


def evidence(run_sage: Any, **options: Any) -> float:
    rows = json.loads(run_sage("trust", "show", "good", "--json", **options).stdout)
    return max(row["evidence"] for row in rows)


def test_a_reset_gives_the_card_its_word_back(taught: Any) -> None:
    assert evidence(taught) == pytest.approx(3.0, abs=0.01)
    assert "forgotten" in taught("trust", "reset", "good").stdout
    rows = json.loads(taught("trust", "show", "good", "--json").stdout)
    assert [(row["quality"], row["evidence"]) for row in rows] == [(0.8, 0.0)] * 7
    assert taught("trust", "reset", "nobody").returncode == 3


def test_a_model_that_has_become_worse_is_named(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(good={"prior": 0.8})
    turn = json.loads(run_sage("ask", "--json", "hi there").stdout)["turn_id"]
    assert "the text: " in run_sage("trust", "explain", turn).stdout
    with open_stores(home, load_settings(), SystemClock()) as stores:
        for number in range(120):
            told = Outcome(
                event_id=f"e{number}",
                turn_id=turn,
                candidate="good",
                kind="chat",
                quality=float(number < 60),
                source="verifier",
                at=time.time(),
            )
            stores.trust.learn(told)
    shown = run_sage("trust", "show").stdout
    assert "good has become worse by 0." in shown


def test_trust_moves_to_another_home(taught: Any, tmp_path: Path, home: Path) -> None:
    file, other = tmp_path / "trust.json", tmp_path / "other"
    assert taught("trust", "export", str(file)).returncode == 0
    other.mkdir()
    (other / "catalog.toml").write_text((home / "catalog.toml").read_text())
    there = {"env": {"SAGE_HOME": str(other)}}
    for said in ("Merged 1 records of 1 machines", "Merged 0 records of 0 machines"):
        done = taught("trust", "import", str(file), **there)
        assert (done.returncode, done.stdout) == (0, f"{said}, took over 0 resets.\n")
        assert evidence(taught, **there) == pytest.approx(3.0, abs=0.01)
    assert json.loads(taught("trust", "export", "-").stdout)["format"] == "sage-trust-1"


def test_what_a_file_says_of_this_machine_is_left_out_and_its_resets_are_told(
    taught: Any, tmp_path: Path
) -> None:
    file = tmp_path / "trust.json"
    assert taught("trust", "export", str(file)).returncode == 0
    book = json.loads(file.read_text())
    for row in book["rows"]:
        row.update(events=1000, total=1000.0)
    file.write_text(json.dumps(book))
    done = taught("trust", "import", str(file))
    assert done.stdout == "Merged 0 records of 0 machines, took over 0 resets.\n"
    assert evidence(taught) == pytest.approx(3.0, abs=0.01)
    book["resets"]["good"] = book["rows"][0]["at"] + 1.0
    file.write_text(json.dumps(book))
    done = taught("trust", "import", str(file))
    assert done.stdout == "Merged 0 records of 0 machines, took over 1 resets.\n"
    assert evidence(taught) == 0.0


@pytest.mark.parametrize(("content", "code"), [("{}", 5), ("no json", 5), (None, 3)])
def test_what_cannot_be_imported(content: str | None, code: int, taught: Any, tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    if content is not None:
        file.write_text(content)
    done = taught("trust", "import", str(file))
    assert done.returncode == code
    assert "fix:" in done.stderr
    assert evidence(taught) == pytest.approx(3.0, abs=0.01)


def test_an_export_that_cannot_be_written(taught: Any, tmp_path: Path) -> None:
    done = taught("trust", "export", str(tmp_path / "no" / "folder"))
    assert done.returncode == 4
    assert "cannot be written" in done.stderr


def test_all_is_learned_again(taught: Any) -> None:
    before = taught("trust", "show", "good", "--json").stdout
    assert taught("trust", "rebuild").stdout.endswith("Learned 3 outcomes again.\n")
    after = json.loads(taught("trust", "show", "good", "--json").stdout)
    for row, old in zip(after, json.loads(before), strict=True):
        assert row["quality"] == pytest.approx(old["quality"], abs=0.01)
        assert row["evidence"] == pytest.approx(old["evidence"], abs=0.01)


def test_the_frontier_goes_from_cheap_to_good(run_sage: Any, home: Path, fakes: Any) -> None:
    fakes(good={"prior": 0.9}, poor={"prior": 0.6})
    text = (home / "catalog.toml").read_text()
    dear = 'name = "good"\nrates = { load_s = { value = 30.0 } }'
    (home / "catalog.toml").write_text(text.replace('name = "good"', dear))
    points = json.loads(run_sage("trust", "frontier", "hi", "--json").stdout)
    assert [point["name"] for point in points] == ["poor", "good"]
    assert points[0]["price"] < points[1]["price"]
    assert "selector.dial" in run_sage("trust", "frontier", "hi").stdout

    def model(*options: str) -> str:
        answer = run_sage("ask", "--json", *options, "hi")
        return str(json.loads(answer.stdout)["decision"]["candidates"][0]["name"])

    assert model("--dial", "fast") == model("--dial", "0") == model("--model", "sage:fast") == "poor"
    assert model("--dial", "deep", "--max-atp", "10") == "poor"
    assert model("--dial", "deep") == model("--dial", "1") == model("--model", "sage:deep") == "good"


@pytest.mark.parametrize("options", [("--dial", "fats"), ("--dial", "1.5"), ("--model", "sage:slow")])
def test_a_setting_the_dial_does_not_have(options: tuple[str, str], run_sage: Any, fakes: Any) -> None:
    fakes(good={})
    done = run_sage("ask", *options, "hi")
    assert done.returncode == 2
    assert "fast, balanced, deep or a number" in done.stderr


def test_a_model_that_bills_is_left_out_above_its_ceiling(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(good={"prior": 0.9}, poor={"prior": 0.2})
    text = (home / "catalog.toml").read_text()
    billed = 'name = "good"\nrates = { generate_usd_mtok = { value = 100.0 } }'
    (home / "catalog.toml").write_text(text.replace('name = "good"', billed))
    assert "a million tokens written cost 100.00 USD" in run_sage("models", "show", "good").stdout
    decision = json.loads(run_sage("ask", "--json", "--max-usd", "0.001", "hi").stdout)["decision"]
    assert [score["name"] for score in decision["candidates"]] == ["poor"]
    assert "$0.0064, this request may cost $0.0010" in decision["excluded"]["good"]


def test_a_ceiling_that_nobody_keeps(run_sage: Any, fakes: Any) -> None:
    fakes(good={}, poor={})
    done = run_sage("ask", "--max-atp", "0.001", "hi")
    assert done.returncode == 4
    assert "this request may cost 0.0" in done.stderr
