"""``sage logs``: turns, one turn in full, and events."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from sage.cli.logs import logs
from sage.clock import FakeClock
from sage.errors import StoreError, TurnNotFound, UsageError
from sage.events import JsonlLog, TurnEnded, TurnStarted
from sage.memory.db import Database
from sage.memory.verbatim import VerbatimStore
from sage.types import CandidateScore, Decision, Failure, Message, Outcome, Situation


def invoke(*args: str) -> Result:
    app = typer.Typer()
    app.command()(logs)
    return CliRunner().invoke(app, args, catch_exceptions=False)


def score(name: str, permission: float) -> CandidateScore:
    return CandidateScore(
        name=name,
        expertise=0.5,
        cheapness=0.25,
        persistence=1.2,
        permission=permission,
        resident=False,
        est_load_s=1.0,
        est_run_s=1.0,
        est_atp=2.0,
        evidence=0.0,
    )


@pytest.fixture
def stored(home: Path) -> list[str]:
    """Three turns: answered with everything, running, failed."""
    ids = ["turn-aa11", "turn-bb22", "turn-cc33"]
    prompts = ["What is the capital\nof [bold]France[/bold]?", "Go on. " * 100, "esc \x1b[31m ape"]
    clock = FakeClock(start=1_800_000_000.0)
    with Database(home / "sage.db") as db:
        store = VerbatimStore(db, clock)
        for number, (ident, prompt) in enumerate(zip(ids, prompts, strict=True)):
            messages = (Message(role="user", content=prompt),)
            session = "even" if number % 2 == 0 else "odd"
            store.begin(
                ident,
                Situation(messages=messages, kind="fact", prompt_tokens=3, max_tokens=9, session=session),
            )
            clock.advance(1.5)
        store.record_decision(
            ids[0],
            Decision(
                chosen="tiny",
                mode="fallback",
                reason="the best one failed",
                kind="fact",
                candidates=(score("tiny", 0.15), score("other", 0.1)),
                excluded={"huge": "needs 9 GB"},
                failures=(Failure(name="broken", error="LoadFailed", message="bad file"),),
            ),
        )
        for ident, status in ((ids[0], "done"), (ids[2], "failed")):
            store.finish(
                ident,
                status=status,  # type: ignore[arg-type]
                answer="Paris \x1b]0;owned\x07" if status == "done" else "",
                model="tiny",
                usage={"completion_tokens": 1},
                irp=None,
                atp={"granted": 30.0, "spent": 2.345},
                error="" if status == "done" else "it broke",
            )
        store.record_outcome(
            Outcome(
                event_id="e1",
                turn_id=ids[0],
                candidate="tiny",
                kind="fact",
                quality=0.9,
                source="user",
                at=1_800_000_100.0,
            )
        )
    return ids


def test_nothing_asked_yet(home: Path) -> None:
    assert "No turns yet" in invoke().stdout
    assert json.loads(invoke("--json").stdout) == []
    assert invoke("--events").stdout == ""
    with pytest.raises(TurnNotFound, match="nothing has been asked"):
        invoke("--turn", "turn-a")
    assert list(home.iterdir()) == [], "looking makes no database"


def test_the_list_is_newest_first(stored: list[str]) -> None:
    rows = [line for line in invoke().stdout.splitlines() if line.startswith("turn-")]
    assert [row.split()[0] for row in rows] == stored[::-1]
    cells = re.split(r"\s{2,}", rows[2].strip())
    assert cells[0] == "turn-aa11"
    assert cells[2:] == [
        "fact",
        "tiny",
        "fallback",
        "done",
        "4.50",
        "2.35",
        "What is the capital of [bold]France[/bold]?",
    ]
    assert "running" in rows[1]
    assert rows[1].rstrip().endswith("…")
    assert "\x1b" not in rows[0]


@pytest.mark.parametrize("width", [20, 80, 100])
def test_a_narrow_terminal_cuts_only_the_prompt(
    stored: list[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    wide = invoke().stdout.splitlines()
    monkeypatch.setattr("sage.cli.logs.PIPED_WIDTH", width)
    narrow = [line.rstrip() for line in invoke().stdout.splitlines()]
    assert max(len(line) for line in narrow) <= max(width, 90)
    before_prompt = wide[3].index("What is")
    assert [line[:before_prompt] for line in narrow[1:]] == [line[:before_prompt] for line in wide[1:]]
    assert narrow[3].endswith("…")


def test_the_list_can_be_narrowed(stored: list[str]) -> None:
    assert [row["id"] for row in json.loads(invoke("--turns", "1", "--json").stdout)] == stored[2:]
    rows = json.loads(invoke("--session", "even", "--json").stdout)
    assert [row["id"] for row in rows] == [stored[2], stored[0]]
    assert rows[1] == {
        "id": "turn-aa11",
        "session": "even",
        "created": 1_800_000_000.0,
        "kind": "fact",
        "model": "tiny",
        "mode": "fallback",
        "status": "done",
        "seconds": 4.5,
        "atp": 2.345,
        "prompt": "What is the capital\nof [bold]France[/bold]?",
    }
    assert invoke("--session", "none").stdout == "No turns in session 'none'.\n"


def test_one_turn_in_full(stored: list[str]) -> None:
    shown = invoke("--turn", "aa1").stdout
    for text in (
        "turn:      turn-aa11",
        "status:    done",
        "atp:       granted 30.0, spent 2.345",
        "[user]\nWhat is the capital\nof [bold]France[/bold]?",
        "[answer]\nParis",
        "tiny by fallback: the best one failed",
        "tiny: permission 0.150 = expertise 0.500 x cheapness 0.250 x persistence 1.20",
        "huge: left out, needs 9 GB",
        "broken: LoadFailed, bad file",
        "quality 0.90, says user",
    ):
        assert text in shown
    assert not set(shown) & {"\x1b", "\x07"}, "an answer must not steer the terminal"
    assert "status:    failed: it broke" in invoke("--turn", "turn-cc33").stdout
    running = invoke("--turn", "turn-bb22").stdout
    assert "running" in running
    assert "[decision]" not in running


def test_one_turn_as_json(stored: list[str]) -> None:
    turn = json.loads(invoke("--turn", "turn-aa11", "--json").stdout)
    assert turn["answer"] == "Paris \x1b]0;owned\x07", "JSON is exact"
    assert turn["messages"] == [{"role": "user", "content": "What is the capital\nof [bold]France[/bold]?"}]
    assert [row["name"] for row in turn["decision"]["candidates"]] == ["tiny", "other"]
    assert [row["quality"] for row in turn["outcomes"]] == [0.9]


def test_an_unknown_turn(stored: list[str]) -> None:
    with pytest.raises(TurnNotFound, match="Did you mean 'turn-aa11'"):
        invoke("--turn", "turn-aa12")


def test_a_broken_database_is_said_to_be(home: Path) -> None:
    (home / "sage.db").write_text("garbage " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        invoke()


def test_events(home: Path) -> None:
    log = JsonlLog(home / "events.jsonl", max_bytes=10_000, clock=FakeClock())
    log(TurnStarted(turn_id="turn-a", kind="fact", session="é", prompt_tokens=1))
    log(TurnStarted(turn_id="turn-b", kind="fact", session="s", prompt_tokens=1))
    log(TurnEnded(turn_id="turn-a", status="done", model="tiny", seconds=1.0))
    lines = invoke("--events").stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["TurnStarted", "TurnStarted", "TurnEnded"]
    assert "é" in lines[0]
    assert json.loads(invoke("--events", "--json").stdout) == [json.loads(line) for line in lines]
    of_one = invoke("--events", "--turn", "turn-a").stdout.splitlines()
    assert [json.loads(line)["turn_id"] for line in of_one] == ["turn-a", "turn-a"]
    assert invoke("--events", "-n", "2").stdout.splitlines() == lines[1:]
    assert json.loads(invoke("--events", "-n", "1", "--json").stdout) == [json.loads(lines[2])]
    with pytest.raises(UsageError, match="not kept by session"):
        invoke("--events", "--session", "s")


def test_nothing_trails_on_a_pipe(stored: list[str]) -> None:
    assert all(line == line.rstrip() for line in invoke().stdout.splitlines())


def test_a_terminal_of_80_columns_holds_a_row(home: Path, start_sage: Any) -> None:
    with Database(home / "sage.db") as db:
        for number, start in enumerate((1_700_000_000.0, time.time())):
            clock = FakeClock(start=start)
            store = VerbatimStore(db, clock)
            ident = f"turn-{number:012d}"
            messages = (Message(role="user", content="Why is the sky blue? " * 9),)
            store.begin(
                ident,
                Situation(messages=messages, kind="classify", prompt_tokens=3, max_tokens=9, session="s"),
            )
            clock.advance(12.5)
            store.finish(
                ident,
                status="interrupted",
                answer="",
                model="smollm2-135m-instruct",
                usage={},
                irp=None,
                atp={"spent": 12.345},
            )
    sage = start_sage("logs", tty=True, COLUMNS="80", NO_COLOR="1")
    lines = [line.rstrip() for line in sage.read_rest().splitlines()]
    assert "mode" not in lines[0].split()
    assert all(len(line) <= 80 for line in lines), lines
    assert re.match(r"0{11}1 +\d\d:\d\d +classify +smollm2-135m-instruct +interrupted +12\.50 ", lines[1])
    assert re.match(r"0{12} +11-1\d ", lines[2])


def test_a_count_below_one_is_refused() -> None:
    assert invoke("--turns", "0").exit_code == 2
