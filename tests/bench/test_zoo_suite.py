"""`sage bench zoo` with scripted models: what is measured is kept, and a run that is stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunSage

from sage.bench.zoo import suite as module
from sage.bench.zoo.matrix import read_matrix
from sage.bench.zoo.results import Results
from sage.bench.zoo.suite import Suite, run_zoo
from sage.config import Settings
from sage.errors import LoadFailed, ModelNotFound, UsageError, WeightsMissing

SMALL = Suite(repeats=1, questions=1, longest=720, depths=2, conversations=1, choices=0, live=1, orders=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUITES", {"quick": SMALL, "full": SMALL})


def scripted(home: Path, **models: Mapping[str, Any]) -> None:
    """Cards of models that say what their script says."""
    tables = [
        f'[[model]]\nname = "{name}"\nsource = "fake"\nbackend = "fake"\nbytes = 1000000\nlicense = "MIT"\n'
        "context_length = 4096\n[model.script]\n"
        + "\n".join(f"{k} = {json.dumps(v)}" for k, v in script.items())
        for name, script in models.items()
    ]
    (home / "catalog.toml").write_text("\n".join(tables))


class Run:
    """A run with what it said."""

    def __init__(self, home: Path, out: Path) -> None:
        self.home, self.out = home, out
        self.said: list[str] = []
        self.stop_at = ""

    def __call__(self, *models: str, fresh: bool = False) -> dict[str, Any]:
        self.said.clear()
        return run_zoo(
            self.home,
            Settings(),
            suite="quick",
            models=models,
            out=self.out,
            fresh=fresh,
            progress=self._progress,
        )

    def _progress(self, text: str) -> None:
        self.said.append(text)
        if self.stop_at and self.stop_at in text:
            raise KeyboardInterrupt

    def measured(self) -> list[str]:
        return [text for text in self.said if text.split(":")[0] in ("yes", "rome")]


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    scripted(home, yes={"answer": "Yes"}, rome={"answer": "Rome"})
    return Run(home, tmp_path / "zoo.json")


def test_one_file_holds_everything(run: Run) -> None:
    result = run("yes", "rome")
    assert result == json.loads(run.out.read_text())
    assert result["finished"] is True
    kinds = {row["what"] for row in result["rows"]}
    assert kinds == {
        *("model", "questions", "long context", "turns", "trust", "policy", "live", "by kind"),
    }
    for kind in kinds:  # rows of one kind make a table
        assert len({tuple(row) for row in result["rows"] if row["what"] == kind}) == 1
    matrix = read_matrix(run.out)
    assert matrix.names == ("yes", "rome")
    answers = [row for row in result["rows"] if row["what"] == "questions" and row["model"] == "yes"]
    assert sum(row["correct"] for row in answers) == matrix.scores[:, 0].sum()
    assert {row["n"] for row in answers} == {1}
    live = [row for row in result["rows"] if row["what"] == "live"]
    assert [row["policy"] for row in live] == ["sage, untold, dial 0.5", "sage, told, dial 0.5"]
    oracle = next(row for row in result["rows"] if row.get("policy") == "oracle")
    assert oracle["accuracy"] >= matrix.scores.mean(0).max()


def test_what_is_measured_is_not_measured_again(run: Run) -> None:
    first = run("yes")
    assert run.measured()
    again = run("yes", "rome")
    assert {text.split(":")[0] for text in run.measured()} == {"rome"}
    both = [row for row in again["rows"] if row["what"] == "questions"]
    assert [row for row in both if row["model"] == "yes"] == [
        row for row in first["rows"] if row["what"] == "questions"
    ]
    third = run("yes")  # nothing is lost of the other
    assert not run.measured()
    assert third["rows"] == again["rows"]
    run("yes", fresh=True)
    assert {text.split(":")[0] for text in run.measured()} == {"yes"}
    assert read_matrix(run.out).names == ("yes",)


def test_a_run_that_is_stopped_goes_on_where_it_was(run: Run) -> None:
    run.stop_at = "questions of addition"
    with pytest.raises(KeyboardInterrupt):
        run("yes")
    kept = json.loads(run.out.read_text())
    assert kept["finished"] is False
    assert [row["category"] for row in kept["rows"] if row["what"] == "questions"][-1] == "sentiment"
    with pytest.raises(UsageError):
        read_matrix(run.out)  # half a matrix is none
    run.stop_at = ""
    assert run("yes")["finished"] is True
    assert "yes: 1 questions of sentiment" not in run.said
    assert "yes: 1 questions of addition" in run.said


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"suite": "zoo"}',
        '{"suite": "zoo", "settings": 3}',
        '{"suite": "zoo", "settings": {}, "matrix": {"models": [{"name": 1}]}}',
    ],
)
def test_a_file_that_is_none_is_begun_anew(tmp_path: Path, content: str) -> None:
    out = tmp_path / "zoo.json"
    out.write_text(content)
    results = Results(out=out, command="", settings={}, questions=())
    assert results.resume() == 0
    assert (results.rows, results.models, results.cells) == ([], {}, {})


def test_another_file_of_the_same_name_is_measured_anew(run: Run) -> None:
    run("yes")
    catalog = run.home / "catalog.toml"
    catalog.write_text(catalog.read_text().replace("1000000", "2000000"))
    run("yes")
    assert len(run.measured()) > 10


def test_a_broken_model_is_left_out_and_the_others_are_measured(run: Run) -> None:
    scripted(run.home, broken={"load_error": "strange file"}, yes={"answer": "Yes"})
    result = run("broken", "yes")
    assert "broken is left out from here: strange file" in run.said
    assert result["finished"] is False
    assert read_matrix(run.out).names == ("yes",)
    policies = {row["policy"] for row in result["rows"] if row["what"] == "policy"}
    assert "always yes" in policies
    assert "always broken" not in policies
    scripted(run.home, broken={"load_error": "strange file"})
    with pytest.raises(LoadFailed):
        run("broken", fresh=True)


def test_wrong_names(run: Run) -> None:
    for names, error, told in (
        (("yess",), ModelNotFound, "Did you mean"),
        (("minilm",), ModelNotFound, "answers nothing"),
        (("gemma-3-270m",), WeightsMissing, "not here"),
        ((), WeightsMissing, "No model"),
    ):
        with pytest.raises(error) as caught:
            run(*names)
        assert told in caught.value.message
    assert not run.out.exists()


def test_the_command(run_sage: RunSage, home: Path, tmp_path: Path) -> None:
    wrong = run_sage("bench", "zoo", "--suite", "huge")
    assert wrong.returncode == 2
    none = run_sage("bench", "zoo")
    assert (none.returncode, "sage models pull" in none.stderr) == (3, True)
