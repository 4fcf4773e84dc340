"""`sage demo`: what it says around the answers. The whole of it runs in tests/real."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sage.cli import demo


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment below the working folder, whose `sage` is on no PATH."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_last_line_says_how_to_find_sage(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert demo._next_steps().splitlines()[0] == "Next: . .venv/bin/activate"
    (environment / "elsewhere").mkdir()
    monkeypatch.chdir(environment / "elsewhere")
    assert demo._next_steps().splitlines()[0] == f"Next: . {environment}/.venv/bin/activate"


def test_where_sage_is_found_there_is_no_more_to_say(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "sage").touch(mode=0o755)
    assert demo._next_steps().startswith("Next: sage chat, ")


def test_the_largest_changes_come_first() -> None:
    before = {("one", "fact"): 0.5, ("two", "fact"): 0.6, ("two", "json"): 0.7}
    after = {("one", "fact"): 0.6, ("two", "fact"): 0.6, ("two", "json"): 0.5}
    assert demo._changes(before, after) == ["two at json: 0.70 → 0.50", "one at fact: 0.50 → 0.60"]
