"""`sage memory`, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from sage.cli.main import app
from sage.clock import FakeClock
from sage.errors import NotFound, SageError, UsageError
from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Situation

if TYPE_CHECKING:
    from conftest import RunSage

Run = Callable[..., str]


@pytest.fixture
def run() -> Run:
    """``run(*args)``: stdout of `sage memory`; errors are raised as they are."""

    def call(*args: str, code: int = 0, input: str | None = None) -> str:  # noqa: A002
        result = CliRunner().invoke(app, ["memory", *args], input=input)
        if isinstance(result.exception, SageError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return call


@pytest.fixture
def filled(home: Path) -> Path:
    with Database(home / "sage.db") as db:
        store = VerbatimStore(db, FakeClock(1_700_000_000.0))
        for turn, text in (("turn-a", "Where does the bittern nest?"), ("turn-b", "And the grebe?")):
            message = Message(role="user", content=text)
            situation = Situation(
                messages=(message,), kind="fact", prompt_tokens=1, max_tokens=1, session="s"
            )
            store.begin(turn, situation)
            store.finish(turn, status="done", answer="In reeds.", model="m", usage={}, irp=None, atp=None)
        PassageStore(db).add(Said(session="s", speaker="me", at=5.0, text="mine alone", namespace="emma"))
    return home / "sage.db"


def told(text: str) -> Any:
    return json.loads(text)


def test_on_a_new_home_nothing_is_remembered_and_nothing_is_made(run: Run, home: Path) -> None:
    assert "Nothing" in run("search", "x")
    assert told(run("search", "x", "--json")) == []
    assert "Nothing" in run("stats")
    assert "Nothing" in run("forget", "--everything")
    assert "sound" in run("repair")
    with pytest.raises(NotFound):
        run("show", "1")
    assert not (home / "sage.db").exists()


def test_search_and_show(run: Run, filled: Path) -> None:
    (hit,) = told(run("search", "nesting bitterns", "--json"))
    assert (hit["turn_id"], hit["speaker"], hit["namespace"]) == ("turn-a", "user", "default")
    assert "Where does the bittern nest?" in run("search", "bittern")
    assert "In reeds." in run("show", "a")
    assert [p["speaker"] for p in told(run("show", "turn-a", "--json"))] == ["user", "assistant"]
    assert told(run("search", "reeds", "--after", "2030-01-01", "--json")) == []
    assert len(told(run("search", "reeds", "--before", "2030-01-01T12:00", "-n", "1", "--json"))) == 1
    assert told(run("search", "mine", "--json")) == []
    assert len(told(run("search", "mine", "--as", "emma", "--json"))) == 1
    with pytest.raises(NotFound):
        run("show", "turn-a", "--as", "emma")
    with pytest.raises(UsageError, match="no time"):
        run("search", "x", "--after", "soon")


def test_forget_asks_and_proves(run: Run, filled: Path) -> None:
    run("forget", "--text", "bittern", input="n\n", code=1)
    assert len(told(run("search", "bittern", "--json"))) == 1
    result = told(run("forget", "--text", "bittern", "--yes", "--json"))
    assert (result["turns"], result["passages"], result["proof"]["total"]) == (1, 0, 0)
    assert told(run("search", "bittern", "--json")) == []
    assert b"bittern" not in filled.read_bytes()
    assert "0 found" in run("forget", "--everything", "--as", "emma", input="y\n")
    assert "Nothing" in run("forget", "--session", "nobody")
    for wrong in ([], ["turn-b", "--everything"], ["--text", " "], ["turn-x"]):
        with pytest.raises(UsageError):
            run("forget", *wrong)


def test_forget_says_where_something_is_left(run: Run, filled: Path) -> None:
    filled.with_name("sage.db.damaged-1").write_bytes(filled.read_bytes())
    assert told(run("forget", "--everything", "--yes", "--json", code=1))["proof"]["total"] > 0


def test_export_and_import(run: Run, filled: Path, tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    run("export", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("export", "-") == file.read_text(encoding="utf-8")
    filled.unlink()
    assert told(run("import", str(file), "--json")) == {
        "new": {"turn": 2, "passage": 4},
        "known": {"turn": 0, "passage": 0},
    }
    assert "6 were here already" in run("import", str(file))
    with pytest.raises(UsageError, match="Line 1 is of namespace 'default'"):
        run("import", str(file), "--as", "emma")
    assert told(run("stats", "--json"))["namespaces"]["default"]["passages"] == 4
    assert "4 messages" in run("stats")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        run("import", str(file))
    with pytest.raises(NotFound):
        run("import", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="exclude"):
        run("import", str(file), "--all", "--into", "x")


def test_repair_sets_aside(run: Run, filled: Path) -> None:
    filled.write_bytes(b"x" * 5000)
    result = told(run("repair", "--json"))
    assert result["damaged"]
    assert Path(result["aside"]).read_bytes() == b"x" * 5000


def test_as_a_process(run_sage: RunSage, filled: Path) -> None:
    assert "bittern" in run_sage("memory", "search", "bittern").stdout
    done = run_sage("memory", "forget", "--everything")
    assert done.returncode != 0, "without a terminal nobody can say yes"
    assert run_sage("memory", "show", "77").returncode == 3
