"""Memory goes out and comes back the same, once; what is not ours is refused before anything changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.errors import UsageError
from sage.memory.browse import Filters, passages_of, search, stats
from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said
from sage.memory.portable import check, export, take_in
from sage.memory.retention import SPARED, Pruned, prune
from sage.memory.verbatim import VerbatimStore
from sage.types import Decision, Message, Outcome, Situation


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "other" / "sage.db") as opened:
        yield opened


def say(db: Database, turn: str, text: str, *, namespace: str = "default", at: float = 5.0) -> None:
    store = VerbatimStore(db, FakeClock(at))
    situation = Situation(
        messages=(Message(role="user", content=text),),
        kind="fact",
        prompt_tokens=1,
        max_tokens=1,
        session="s",
        namespace=namespace,
    )
    store.begin(turn, situation)
    decision = Decision(chosen="m", mode="pinned", reason="r", kind="fact", candidates=(), excluded={})
    store.record_decision(turn, decision)
    store.finish(turn, status="done", answer=f"said {text}", model="m", usage={"a": 1}, irp=None, atp=None)
    outcome = Outcome(
        event_id=turn, turn_id=turn, candidate="m", kind="fact", quality=1.0, source="user", at=at
    )
    store.record_outcome(outcome)


def filled(db: Database) -> list[str]:
    say(db, "turn-a", "a grey heron\nstood \U0001f426")
    say(db, "turn-b", "Emma's house", namespace="emma")
    PassageStore(db).add(Said(session="t", speaker="Ann", at=7.0, text="a heron again"))
    return list(export(db, None))


def test_out_and_back_is_the_same_and_twice_is_once(db: Database, other: Database) -> None:
    lines = filled(db)
    assert check(lines, None) == len(lines) == 7
    first = take_in(other, lines)
    assert first.new == {"turn": 2, "passage": 5}
    again = take_in(other, lines)
    assert (again.new, again.known) == ({"turn": 0, "passage": 0}, {"turn": 2, "passage": 5})
    assert list(export(other, None)) == lines
    assert other.integrity() == "ok"


def test_an_import_that_was_cut_off_goes_on(db: Database, other: Database) -> None:
    lines = filled(db)
    take_in(other, lines[:3])
    rest = take_in(other, lines)
    assert sum(rest.known.values()) == 3
    assert list(export(other, None)) == lines


def test_another_namespace_is_refused_unless_told(db: Database, other: Database) -> None:
    lines = filled(db)
    with pytest.raises(UsageError, match="Line 2 is of namespace 'emma'"):
        check(lines, "default")
    assert check(list(export(db, "emma")), "emma") == 3
    take_in(other, lines, into="both")
    assert {json.loads(line)["namespace"] for line in export(other, None)} == {"both"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda v: v | {"type": "secret"}, "neither a turn nor a passage"),
        (lambda v: v | {"created": "now"}, "'created'"),
        (lambda v: v | {"status": "running"}, "status 'running'"),
        (lambda v: v | {"messages": [{"role": "user"}]}, "messages"),
        (lambda v: v | {"outcomes": [{"quality": 7}]}, "'event_id'"),
        (lambda v: {key: value for key, value in v.items() if key != "prompt"}, "'prompt'"),
        (lambda v: [v], "neither"),
    ],
)
def test_a_line_that_is_wrong_is_named(
    change: Callable[[dict[str, object]], object], what: str, db: Database
) -> None:
    lines = filled(db)
    lines[1] = json.dumps(change(json.loads(lines[1])))
    with pytest.raises(UsageError, match=f"Line 2 .*{what}"):
        check(lines, None)
    with pytest.raises(UsageError, match="not JSON"):
        check(["{"], None)


def test_search_by_words_phrase_and_filters(db: Database) -> None:
    filled(db)

    def found(text: str, **filters: object) -> list[str]:
        hits = search(db, text, Filters(**filters), limit=9)  # type: ignore[arg-type]
        return sorted(hit.passage.text for hit in hits)

    assert len(found("herons")) == 3
    assert len(found('"grey heron"')) == 2
    assert found('"heron grey"') == []
    assert found("heron", speaker="Ann") == ["a heron again"]
    assert found("heron", session="t", after=6.0, before=8.0) == ["a heron again"]
    assert found("heron", before=5.0) == []
    assert found("Emma's") == []
    assert found("Emma's", namespace="emma") == ["Emma's house", "said Emma's house"]
    assert len(found("\U0001f426")) == 2
    assert found('AND OR NOT ( " *') == []
    assert [p.text for p in passages_of(db, "b", "emma")] == ["Emma's house", "said Emma's house"]
    assert stats(db)["namespaces"]["emma"]["passages"] == 2


def test_papers_of_old_turns_go_and_what_was_said_stays(db: Database) -> None:
    for number in range(300):
        # A turn of a clock that began in 1970, and one a day ahead: neither makes others old or new.
        at = {20: 5.0, 30: 30 + 86_400.0}.get(number, 1000.0 + number)
        with db.transaction():
            say(db, f"turn-{number:03}", f"text {number}", at=at)
    first = list(prune(db, 1010.0))
    assert first == [Pruned(papers=10)]
    assert db.execute("SELECT min(turn_id), count(*) FROM outcomes") == [("turn-010", 290)]
    assert db.execute("SELECT count(*) FROM passages") == [(600,)]
    assert list(prune(db, 1010.0)) == []
    used = db.bytes()[0]
    assert sum(went.turns for went in prune(db, 0.0, max_bytes=used * 0.7)) > 0
    assert db.bytes()[0] <= used * 0.7
    assert sum(went.turns for went in prune(db, 0.0, max_bytes=1)) > 0
    assert SPARED <= db.execute("SELECT count(*) FROM turns")[0][0] <= SPARED + 1
    assert db.integrity() == "ok"
