"""`sage salience` shows five numbers and why, and stores nothing."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from sage.cli.main import app
from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said
from sage.memory.salience import DIMENSIONS
from sage.memory.salient import SalientMemory

TEXT = "My tortoise no longer lives in Porto"


def shown(*options: str) -> str:
    result = CliRunner().invoke(app, ["salience", TEXT, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_against_an_empty_memory(home: Path) -> None:
    found = json.loads(shown("--json"))
    assert tuple(found["dimensions"]) == DIMENSIONS
    assert found["nearest"] is None
    assert found["dimensions"]["novelty"]["value"] > 0.8
    assert found["dimensions"]["conflict"]["value"] == 0.0
    assert list(home.iterdir()) == []


def test_against_what_was_said(home: Path) -> None:
    with Database(home / "sage.db") as db:
        said = [
            Said(session="s", speaker="user", at=1.0, text=text)
            for text in ("hello there", "My tortoise lives in Porto", "fine thanks")
        ]
        ids = PassageStore(db).add_many(said)
        SalientMemory(db).hear(ids)
    found = json.loads(shown("--json"))
    assert found["nearest"] == {"id": ids[1], "text": "My tortoise lives in Porto"}
    assert found["dimensions"]["conflict"]["value"] > 0.2
    assert json.loads(shown("--json", "--asked"))["total"] > found["total"]
    assert json.loads(shown("--json", "--as", "somebody"))["nearest"] is None
    text = shown()
    assert "rarest: no, long" in text
    assert "nearest:   My tortoise lives in Porto" in text
    with Database(home / "sage.db") as db:
        assert PassageStore(db).count() == 3
