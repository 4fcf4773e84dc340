"""`sage state` shows how things stand, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sage.cli.main import app
from sage.clock import SystemClock
from sage.config import AtpSettings
from sage.economy.metabolism import Thresholds
from sage.economy.strain import Readings
from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.state_store import StateStore
from sage.memory.verbatim import VerbatimStore


def shown(*options: str) -> str:
    result = CliRunner().invoke(app, ["state", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_new_home_is_awake_and_stays_untouched(home: Path) -> None:
    found = json.loads(shown("--json"))
    assert (found["state"], found["why"]) == ("WAKE", "nothing has happened yet")
    assert found["atp"] == {"balance": 100.0, "capacity": 100.0, "recovery_per_s": 1.0}
    assert set(found["readings"]) == {"idle_s", "memory", "temperature", "battery", "on_mains"}
    assert found["regime"]["explore"] is True
    assert list(home.iterdir()) == []


def test_what_another_process_left_is_told(home: Path) -> None:
    clock = SystemClock()
    with Database(home / "sage.db") as db:
        states = StateStore(db, clock, thresholds=Thresholds())
        states.update(Readings(flagged="the disk is full"))
        books = Books(db, VerbatimStore(db, clock), clock, AtpSettings(recovery_per_s=0.001))
        books.recover_at(0.5)
        books.grant("turn-1", want=70, need=0)
    found = json.loads(shown("--json"))
    assert (found["state"], found["why"]) == ("CRISIS", "flagged: the disk is full")
    assert found["atp"]["recovery_per_s"] == 0.5
    assert found["atp"]["balance"] < 40.0
    assert json.loads(shown("--json"))["since"] == found["since"]
    text = shown()
    assert "CRISIS, for" in text
    assert "the 2 cheapest candidates, tries nothing new, background work: none" in text


def test_a_state_that_is_held(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_METABOLISM__STATE", "REST")
    assert "REST, for 0.00 s: held by metabolism.state" in shown()
