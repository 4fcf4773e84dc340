"""What is forgotten is found nowhere, and nothing else goes with it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.errors import UsageError
from sage.memory.db import Database
from sage.memory.forgetting import Found, Selection, find, forget
from sage.memory.passages import PassageStore, Said
from sage.memory.remains import Pieces
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Outcome, Situation

SECRET = "Wilhelmina Krautsalat keeps the marmalade recipe under the floorboards"


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


def say(
    db: Database, turn: str, *texts: str, answer: str = "Noted.", namespace: str = "default", at: float = 1e9
) -> None:
    """A turn of session ``s`` whose last text is the question."""
    store = VerbatimStore(db, FakeClock(at))
    messages = tuple(Message(role="user", content=text) for text in texts)
    situation = Situation(
        messages=messages, kind="fact", prompt_tokens=1, max_tokens=1, session="s", namespace=namespace
    )
    store.begin(turn, situation)
    store.finish(turn, status="done", answer=answer, model="m", usage={}, irp=None, atp=None)
    event = f"event-{turn}"
    store.record_outcome(
        Outcome(event_id=event, turn_id=turn, candidate="m", kind="fact", quality=1.0, source="user", at=at)
    )


def turns(db: Database) -> list[str]:
    return [row[0] for row in db.execute("SELECT id FROM turns ORDER BY rowid")]


def test_nothing_is_left_of_it_in_any_file(db: Database, home: Path) -> None:
    """Among much else, so that pages are split and rows moved."""
    chance = random.Random(3)  # noqa: S311
    words = ["alpha", "bravo", "charlie", "delta", "tango", "whiskey"]
    for number in range(120):
        rest = " ".join(chance.choices(words, k=chance.randint(5, 200)))
        say(db, f"turn-{number:03}", f"{SECRET if number % 10 == 5 else 'plain'} {rest}")
    (home / "events.jsonl").write_text(
        "".join(json.dumps({"turn_id": f"turn-{n:03}", "event": "TurnEnded"}) + "\n" for n in range(120))
    )
    db.checkpoint()
    assert b"Krautsalat" in (home / "sage.db").read_bytes()
    found = find(db, Selection(text="wilhelmina"))
    assert len(found.turns) == 12
    proof = forget(db, home, found)
    assert (proof.total, proof.found) == (0, {})
    assert proof.pieces > 3
    assert proof.files >= 2
    for path in home.iterdir():
        content = path.read_bytes().lower()
        assert not any(word in content for word in (b"krautsalat", b"wilhelmin", b"floorboard", b"marmalad"))
    assert len(turns(db)) == 108
    for table in ("passages", "outcomes"):
        assert db.execute(f"SELECT count(*) FROM {table} WHERE turn_id = 'turn-005'") == [(0,)]  # noqa: S608
    assert db.execute("SELECT rowid FROM passages_fts WHERE passages_fts MATCH 'marmalade'") == []
    assert "turn-005" not in (home / "events.jsonl").read_text()
    assert (home / "events.jsonl").read_text().count("\n") == 108
    assert db.integrity() == "ok"
    assert turns(db) == sorted(turns(db)), "the order in which turns began is kept"


def test_the_search_finds_what_is_left(db: Database, home: Path) -> None:
    say(db, "turn-a", SECRET)
    aside = home / "sage.db.damaged-20260101-000000"
    db.checkpoint()
    aside.write_bytes((home / "sage.db").read_bytes())
    (home / "note.txt").write_text("about the marmalade recipe under the floorboards")
    proof = forget(db, home, find(db, Selection(session="s")))
    assert set(proof.found) == {aside.name}
    assert aside.exists()
    found = Pieces.of(["the marmalade recipe under"]).search(db, home).found
    assert found["note.txt"] == 1


def test_what_is_kept_too_is_no_remainder(db: Database, home: Path) -> None:
    say(db, "turn-a", SECRET)
    say(db, "turn-b", SECRET, namespace="other")
    proof = forget(db, home, find(db, Selection()))
    assert (turns(db), proof.total) == (["turn-b"], 0)
    assert proof.also_kept > 0


def test_later_turns_of_the_session_forget_it_too(db: Database, home: Path) -> None:
    say(db, "turn-a", SECRET, answer="Under the third board.")
    say(db, "turn-b", SECRET, "Under the third board.", "And the honey?")
    proof = forget(db, home, find(db, Selection(ids=("turn-a",))))
    assert proof.total == 0
    kept = json.loads(db.execute("SELECT messages FROM turns")[0][0])
    assert [message["content"] for message in kept] == ["And the honey?"]


def test_selections(db: Database) -> None:
    say(db, "turn-a", "the first heron", at=100.0)
    say(db, "turn-b", "the second heron", at=200.0)
    say(db, "turn-c", "the third heron", namespace="other", at=100.0)
    said = Said(session="t", speaker="me", at=150.0, text='imported "heron"')
    loose = PassageStore(db).add(said)
    passage = db.execute("SELECT id FROM passages WHERE turn_id = 'turn-b'")[0][0]

    def names(**conditions: object) -> tuple[tuple[str, ...], tuple[int, ...]]:
        found = find(db, Selection(**conditions))  # type: ignore[arg-type]
        return found.turns, found.passages

    assert names() == (("turn-a", "turn-b"), (loose,))
    assert names(namespace="other") == (("turn-c",), ())
    assert names(ids=("a",)) == (("turn-a",), ())
    assert names(ids=(str(passage), str(loose))) == (("turn-b",), (loose,))
    assert names(session="t") == ((), (loose,))
    assert names(before=160.0) == (("turn-a",), (loose,))
    assert names(text='"HERON"') == ((), (loose,))
    assert names(text="heron", before=120.0) == (("turn-a",), ())
    with pytest.raises(UsageError, match="turn-c"):
        find(db, Selection(ids=("turn-c",)))


def test_a_turn_that_runs_stays(db: Database, home: Path) -> None:
    message = Message(role="user", content=SECRET)
    situation = Situation(messages=(message,), kind="fact", prompt_tokens=1, max_tokens=1, session="s")
    VerbatimStore(db, FakeClock()).begin("turn-a", situation)
    found = find(db, Selection())
    assert (found.turns, found.running) == ((), 1)
    forget(db, home, Found())
    assert turns(db) == ["turn-a"]


def test_an_outcome_is_never_given_the_number_of_one_that_was_forgotten(db: Database, home: Path) -> None:
    say(db, "turn-a", "one")
    say(db, "turn-b", "two")
    forget(db, home, find(db, Selection(ids=("turn-b",))))
    db.compact()
    say(db, "turn-c", "three")
    assert db.execute("SELECT rowid, turn_id FROM outcomes") == [(1, "turn-a"), (3, "turn-c")]
