"""Puzzles that were asked are put aside for the reasoner."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sage.clock import FakeClock
from sage.memory.db import Database
from sage.memory.replay import MOST, Replay, puzzles_in
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Outcome, Situation

CHANCE = random.Random(0)  # noqa: S311  drawing is no secret


def puzzle(colour: int = 1, **changes: Any) -> dict[str, Any]:
    train = [{"input": [[colour, 0]], "output": [[0, colour]]}]
    return {"train": train, "test": [{"input": [[colour]]}], **changes}


class Home:
    def __init__(self, path: Path) -> None:
        self.db = Database(path / "sage.db")
        self.turns = VerbatimStore(self.db, FakeClock())
        self.replay = Replay(self.db)
        self.count = 0

    def ask(self, text: str, *, namespace: str = "me", ends: bool = True) -> str:
        self.count += 1
        ident = f"turn-{self.count:04}"
        situation = Situation(
            messages=(Message(role="user", content=text),),
            kind="chat",
            prompt_tokens=1,
            max_tokens=8,
            session="s",
            namespace=namespace,
        )
        self.turns.begin(ident, situation)
        if ends:
            self.turns.finish(ident, status="done", answer="?", model="a", usage=None, irp=None, atp=None)
        return ident

    def judge(self, turn_id: str, quality: float) -> None:
        self.turns.record_outcome(
            Outcome(
                event_id=f"{turn_id}/{quality}",
                turn_id=turn_id,
                candidate="a",
                kind="chat",
                quality=quality,
                source="verifier",
                at=1.0,
            )
        )

    def solved(self) -> list[float | None]:
        return [row[0] for row in self.db.execute("SELECT solved FROM replay ORDER BY id")]


@pytest.fixture
def there(home: Path) -> Iterator[Home]:
    made = Home(home)
    with made.db:
        yield made


def test_each_puzzle_is_kept_once_with_how_its_newest_answer_did(there: Home) -> None:
    first = there.ask(f"Solve this, please: {json.dumps(puzzle())} Thanks!")
    there.ask(json.dumps(puzzle(2)))
    there.judge(first, 0.0)
    assert sum(there.replay.gather()) == 2
    assert there.solved() == [0.0, None]
    again = there.ask(json.dumps(puzzle(), indent=2))
    there.judge(again, 1.0)
    sum(there.replay.gather())
    assert there.solved() == [1.0, None]
    drawn = there.replay.draw(5, CHANCE)
    assert sorted((each.puzzle["test"][0]["input"][0][0], each.solved) for each in drawn) == [
        (1, 1.0),
        (2, None),
    ]
    assert list(there.replay.gather()) == []


def test_what_is_forgotten_is_not_drawn(there: Home) -> None:
    there.ask(json.dumps(puzzle()))
    sum(there.replay.gather())
    there.db.execute("DELETE FROM turns")
    assert there.replay.draw(5, CHANCE) == []


def test_what_is_asked_after_all_was_forgotten_is_found(there: Home) -> None:
    for colour in range(5):
        there.ask(json.dumps(puzzle(colour)))
    sum(there.replay.gather())
    there.db.execute("DELETE FROM turns")
    there.ask(json.dumps(puzzle(7)))
    assert sum(there.replay.gather()) == 1
    assert list(there.replay.gather()) == []


def test_a_turn_that_runs_is_looked_at_when_it_has_ended(there: Home) -> None:
    running = there.ask(json.dumps(puzzle()), ends=False)
    there.ask(json.dumps(puzzle(2)))
    assert sum(there.replay.gather()) == 0
    there.turns.finish(running, status="failed", answer="", model="", usage=None, irp=None, atp=None)
    assert sum(there.replay.gather()) == 2


def test_only_the_newest_are_kept(there: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST > 1000
    monkeypatch.setattr("sage.memory.replay.MOST", 3)
    for colour in range(5):
        there.ask(json.dumps(puzzle(colour)))
    sum(there.replay.gather())
    kept = {each.puzzle["test"][0]["input"][0][0] for each in there.replay.draw(9, CHANCE)}
    assert kept == {2, 3, 4}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"train": [], "test": []}',
        '{"train": 3, "test": [{"input": [[1]]}]}',
        json.dumps(puzzle(train=[{"input": [[1]]}])),
        json.dumps(puzzle(test=[{"input": [[1], [1, 2]]}])),
        json.dumps(puzzle(test=[{"input": [[10]]}])),
        json.dumps(puzzle(test=[{"input": [[True]]}])),
        json.dumps(puzzle(test=[{"input": [[1] * 31]}])),
        '{"train": ' * 3000,
        json.dumps(puzzle())[:-1],
    ],
)
def test_what_is_no_puzzle_is_none(text: str) -> None:
    assert list(puzzles_in(text)) == []


def test_several_puzzles_in_one_text_and_one_within_words() -> None:
    text = f"{{a}} {json.dumps(puzzle(1))} and {{ {json.dumps(puzzle(2))[1:]}"
    assert [found["test"][0]["input"] for found in puzzles_in(text)] == [[[1]], [[2]]]


@pytest.mark.parametrize("opening", ['{"train":[', '{"train": {"train": 1, ', '{ "test":'])
def test_a_message_made_to_be_slow_is_read_once(opening: str) -> None:
    began = time.perf_counter()
    assert list(puzzles_in(opening * (400_000 // len(opening)))) == []
    assert time.perf_counter() - began < 5.0, "it took half a minute when each place was read from anew"


def test_row_ids_that_are_used_again_are_looked_at(there: Home) -> None:
    for colour in range(3):
        there.ask(json.dumps(puzzle(colour)))
    sum(there.replay.gather())
    there.db.execute("DELETE FROM turns")
    sum(there.replay.gather())
    there.ask(json.dumps(puzzle(5)))
    assert sum(there.replay.gather()) == 1
