"""Everything said is kept as it was said, and found again."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sage.clock import FakeClock
from sage.errors import StoreError, TurnNotFound, UsageError
from sage.memory.db import Database
from sage.memory.verbatim import RUNNING, VerbatimStore, to_json
from sage.types import CandidateScore, Decision, Failure, Message, Outcome, Situation


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(db: Database, clock: FakeClock) -> VerbatimStore:
    return VerbatimStore(db, clock)


def ask(text: str, session: str = "s") -> Situation:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content=text))
    return Situation(messages=messages, kind="fact", prompt_tokens=3, max_tokens=16, session=session)


def finish(store: VerbatimStore, turn_id: str, answer: str = "yes", status: str = "done") -> None:
    store.finish(
        turn_id,
        status=status,  # type: ignore[arg-type]
        answer=answer,
        model="tiny",
        usage={"prompt_tokens": 3},
        irp=None,
        atp={"spent": 0.5},
    )


DECISION = Decision(
    chosen="tiny",
    mode="permission",
    reason="cheapest",
    kind="fact",
    candidates=(
        CandidateScore(
            name="tiny",
            expertise=0.5,
            cheapness=0.9,
            persistence=1.2,
            permission=0.54,
            resident=True,
            est_load_s=0.0,
            est_run_s=1.0,
            est_atp=1.0,
            evidence=0.0,
        ),
    ),
    excluded={"huge": "does not fit"},
    failures=(Failure(name="broken", error="LoadFailed", message="no"),),
)


def outcome(event_id: str = "e1", turn_id: str = "turn-a", quality: float = 0.75) -> Outcome:
    return Outcome(
        event_id=event_id,
        turn_id=turn_id,
        candidate="tiny",
        kind="fact",
        quality=quality,
        source="user",
        at=5.0,
    )


def test_a_turn_from_begin_to_finish(store: VerbatimStore, clock: FakeClock) -> None:
    store.begin("turn-a", ask("Is it?"))
    turn = store.turn("turn-a")
    assert (turn.status, turn.ended, turn.seconds, turn.answer) == ("running", None, None, "")
    clock.advance(2.5)
    store.record_decision("turn-a", DECISION)
    finish(store, "turn-a")
    turn = store.turn("turn-a")
    assert (turn.status, turn.answer, turn.model, turn.mode, turn.seconds) == (
        "done",
        "yes",
        "tiny",
        "permission",
        2.5,
    )
    assert turn.prompt == "Is it?"
    assert turn.messages == ask("Is it?").messages
    assert (turn.usage, turn.irp, turn.atp) == ({"prompt_tokens": 3}, {}, {"spent": 0.5})


def test_a_decision_is_kept_whole_and_replaced(store: VerbatimStore) -> None:
    store.begin("turn-a", ask("?"))
    assert store.decision("turn-a") == {}
    store.record_decision("turn-a", DECISION)
    assert store.decision("turn-a") == json.loads(json.dumps(dataclasses.asdict(DECISION)))
    store.record_decision("turn-a", dataclasses.replace(DECISION, mode="fallback"))
    assert store.decision("turn-a")["mode"] == "fallback"
    assert store.turn("turn-a").mode == "fallback"


def test_an_outcome_counts_once(store: VerbatimStore) -> None:
    store.begin("turn-a", ask("?"))
    assert store.record_outcome(outcome()) is True
    assert store.record_outcome(outcome(quality=0.0)) is False
    assert store.record_outcome(outcome("e2", quality=1.0)) is True
    assert store.outcomes("turn-a") == [outcome(), outcome("e2", quality=1.0)]


@pytest.mark.parametrize("quality", [-0.1, 1.1])
def test_a_quality_out_of_range_is_refused(store: VerbatimStore, quality: float) -> None:
    store.begin("turn-a", ask("?"))
    with pytest.raises(StoreError, match="CHECK"):
        store.record_outcome(outcome(quality=quality))
    assert store.outcomes("turn-a") == []


def test_an_unknown_turn_is_refused_everywhere(store: VerbatimStore, db: Database) -> None:
    store.begin("turn-3f9c2a71b04e", ask("?"))
    with pytest.raises(TurnNotFound, match="Did you mean 'turn-3f9c2a71b04e'"):
        store.turn("turn-3f9c2a71b04f")
    with pytest.raises(TurnNotFound):
        store.record_outcome(outcome(turn_id="nowhere"))
    with pytest.raises(TurnNotFound):
        store.record_decision("nowhere", DECISION)
    with pytest.raises(TurnNotFound):
        finish(store, "nowhere")
    for reader in (store.turn, store.decision, store.outcomes):
        with pytest.raises(TurnNotFound) as caught:
            reader("")
        assert caught.value.mend == "See the turns: sage logs"
    assert db.execute("SELECT count(*) FROM outcomes") == [(0,)]
    assert db.execute("SELECT count(*) FROM decisions") == [(0,)]


def test_the_start_of_an_id_is_enough(store: VerbatimStore) -> None:
    store.begin("turn-aa11", ask("first"))
    store.begin("turn-aa22", ask("second"))
    store.begin("turn-aa2", ask("whole"))
    assert store.turn("turn-aa1").prompt == "first"
    assert store.turn("aa1").prompt == "first"
    assert store.turn("turn-aa2").prompt == "whole", "a whole id is never ambiguous"
    with pytest.raises(UsageError, match="turn-aa11, turn-aa2, turn-aa22"):
        store.turn("aa")
    for text in ("%", "_", "turn-aa_1", "turn-aa1'"):
        with pytest.raises(TurnNotFound):
            store.turn(text)


def test_the_same_id_twice_is_refused(store: VerbatimStore) -> None:
    store.begin("turn-a", ask("first"))
    with pytest.raises(StoreError, match="UNIQUE"):
        store.begin("turn-a", ask("second"))
    assert store.turn("turn-a").prompt == "first"


def test_turns_are_newest_first_whatever_the_clock_says(store: VerbatimStore, clock: FakeClock) -> None:
    for number in range(4):
        store.begin(f"turn-{number}", ask(str(number), session="odd" if number % 2 else "even"))
        clock.advance(-86_400)
    assert [turn.id for turn in store.turns()] == ["turn-3", "turn-2", "turn-1", "turn-0"]
    assert [turn.id for turn in store.turns(limit=2)] == ["turn-3", "turn-2"]
    assert [turn.id for turn in store.turns(session="odd")] == ["turn-3", "turn-1"]
    assert store.turns(session="none") == []


def test_seconds_are_never_negative(store: VerbatimStore, clock: FakeClock) -> None:
    store.begin("turn-a", ask("?"))
    clock.advance(-10)
    finish(store, "turn-a")
    assert store.turn("turn-a").seconds == 0.0


def test_history_is_what_was_answered_oldest_first(store: VerbatimStore) -> None:
    for number in range(5):
        store.begin(f"turn-{number}", ask(f"q{number}"))
        finish(store, f"turn-{number}", f"a{number}", "failed" if number == 3 else "done")
    store.begin("turn-other", ask("other", session="other"))
    finish(store, "turn-other")
    store.begin("turn-open", ask("open"))
    found = store.history("s", turns=2)
    assert [(m.role, m.content) for m in found] == [
        ("user", "q2"),
        ("assistant", "a2"),
        ("user", "q4"),
        ("assistant", "a4"),
    ]
    assert store.history("s", turns=0) == ()
    assert len(store.history("s", turns=100)) == 8


@pytest.mark.parametrize(
    "text",
    ["a\0b\0", "é 漢字 🦉\u2028\r\n\t", "'; DROP TABLE turns; --", "", "0" * 10_000_000],
    ids=["NUL", "unicode", "SQL", "empty", "10 MB"],
)
def test_any_text_comes_back_as_it_was(store: VerbatimStore, text: str) -> None:
    store.begin("turn-a", ask(text))
    finish(store, "turn-a", text)
    turn = store.turn("turn-a")
    # Compared by ==, but outside the assertion: pytest would explain a difference of 10 MB.
    same = (turn.prompt == text, turn.answer == text, turn.messages[-1].content == text)
    assert same == (True, True, True)
    same_history = [message.content == text for message in store.history("s", turns=1)]
    assert same_history == [True, True]


def test_turns_survive_closing(store: VerbatimStore, db: Database, clock: FakeClock, home: Path) -> None:
    store.begin("turn-a", ask("?"))
    store.record_outcome(outcome())
    finish(store, "turn-a")
    before = store.turn("turn-a")
    db.close()
    with Database(home / "sage.db") as again:
        assert VerbatimStore(again, clock).turn("turn-a") == before
        assert VerbatimStore(again, clock).record_outcome(outcome()) is False


def test_turns_of_dead_processes_are_abandoned_once(store: VerbatimStore, db: Database) -> None:
    for name in ("mine", "dead", "reused", "done"):
        store.begin(f"turn-{name}", ask("?"))
    finish(store, "turn-done")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    db.execute("UPDATE turns SET pid = ? WHERE id IN ('turn-dead', 'turn-done')", (gone.pid,))
    # The number of a process that lives, but was started at another time than the turn's.
    db.execute("UPDATE turns SET pid_started = pid_started - 100 WHERE id = 'turn-reused'")
    assert store.abandon_dead() == ["turn-dead", "turn-reused"]
    assert store.abandon_dead() == []
    assert {turn.id: turn.status for turn in store.turns()} == {
        "turn-mine": "running",
        "turn-dead": "abandoned",
        "turn-reused": "abandoned",
        "turn-done": "done",
    }
    assert store.turn("turn-dead").ended is not None


def test_turns_that_run_are_found_without_reading_the_others(db: Database) -> None:
    plan = " ".join(str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {RUNNING}"))
    assert plan == "SCAN turns USING INDEX turns_running"


def test_a_zombie_is_dead(store: VerbatimStore, db: Database) -> None:
    store.begin("turn-a", ask("?"))
    zombie = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    zombie.stdout.read()  # ends when the process does; nobody has waited for it
    process = psutil.Process(zombie.pid)
    while process.status() != psutil.STATUS_ZOMBIE:
        pass
    db.execute("UPDATE turns SET pid = ?, pid_started = ?", (zombie.pid, process.create_time()))
    assert store.abandon_dead() == ["turn-a"]
    zombie.communicate()


def test_who_ran_a_turn_overrules_abandoned(store: VerbatimStore, db: Database) -> None:
    store.begin("turn-a", ask("?"))
    db.execute("UPDATE turns SET pid_started = 0")
    assert store.abandon_dead() == ["turn-a"]
    finish(store, "turn-a")
    assert store.turn("turn-a").status == "done"


def test_begin_notes_this_process(store: VerbatimStore, db: Database) -> None:
    store.begin("turn-a", ask("?"))
    pid, started = db.execute("SELECT pid, pid_started FROM turns")[0]
    assert pid == os.getpid()
    assert started == pytest.approx(psutil.Process().create_time(), abs=1.0)


def test_to_json_has_no_nan_and_sorts_sets() -> None:
    text = to_json({"energy": [math.nan, math.inf, 0.5], "needs": frozenset({"b", "a"}), 1: (Message,)[:0]})
    assert json.loads(text) == {"energy": [None, None, 0.5], "needs": ["a", "b"], "1": []}
    assert json.loads(to_json(ask("é")))["messages"][1] == {"role": "user", "content": "é"}
