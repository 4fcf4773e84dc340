"""What was said is kept in order, apart by namespace, and forgotten whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.errors import StoreError
from sage.memory.db import Database
from sage.memory.passages import LONGEST, PassageStore, Said


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


def said(text: str, *, namespace: str = "default", session: str = "s", turn_id: str | None = None) -> Said:
    return Said(namespace=namespace, session=session, speaker="user", at=5.0, text=text, turn_id=turn_id)


def found(db: Database, words: str) -> list[int]:
    return [
        row[0] for row in db.execute("SELECT rowid FROM passages_fts WHERE passages_fts MATCH ?", (words,))
    ]


def test_in_order_and_apart(db: Database) -> None:
    store = PassageStore(db)
    ids = store.add_many([said("one"), said("two", namespace="other"), said("three"), said("4", session="t")])
    assert ids == sorted(ids)
    assert [p.text for p in store.last("s", count=5)] == ["one", "three"]
    assert [p.text for p in store.last("s", count=1)] == ["three"]
    assert [p.text for p in store.after(ids[0], limit=9)] == ["three", "4"]
    assert (store.count(), store.count("other"), store.count("nobody")) == (3, 1, 0)
    assert [p.text for p in store.get([ids[3], 999, ids[0]])] == ["4", "one"]


def test_all_or_none(db: Database) -> None:
    store = PassageStore(db)
    with pytest.raises(StoreError):
        store.add_many([said("fine"), said("of no turn", turn_id="turn-unknown")])
    with pytest.raises(ValueError, match="no time"):
        store.add(Said(session="s", speaker="user", at=float("nan"), text=""))
    assert store.count() == 0


def test_what_is_forgotten_is_nowhere_and_its_id_never_comes_back(db: Database) -> None:
    store = PassageStore(db)
    kept, gone = store.add_many([said("the blue heron"), said("the red heron")])
    assert found(db, "herons") == [kept, gone]
    db.execute("DELETE FROM passages WHERE id = ?", (gone,))
    assert found(db, "heron") == [kept]
    assert found(db, "red") == []
    assert store.add(said("again")) > gone
    assert db.integrity() == "ok"


def test_a_passage_goes_with_its_turn(db: Database) -> None:
    db.execute(
        "INSERT INTO turns (id, session, created, kind, prompt, messages, status, pid, pid_started)"
        " VALUES ('t1', 's', 0, 'k', '', '[]', 'done', 1, 0)"
    )
    store = PassageStore(db)
    store.add_many([said("mine", turn_id="t1"), said("imported")])
    db.execute("DELETE FROM turns WHERE id = 't1'")
    assert [p.text for p in store.after(0, limit=9)] == ["imported"]
    assert found(db, "mine") == []


def test_a_passage_is_never_changed(db: Database) -> None:
    ident = PassageStore(db).add(said("as it was"))
    with pytest.raises(StoreError, match="never changed"):
        db.execute("UPDATE passages SET text = 'otherwise' WHERE id = ?", (ident,))


def test_of_an_endless_message_both_ends_are_kept(db: Database) -> None:
    store = PassageStore(db)
    text = store.get([store.add(said("begin " + "x" * 10_000_000 + " end"))])[0].text
    assert len(text) <= LONGEST
    assert text.startswith("begin x")
    assert text.endswith("x end")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), max_size=30))
def test_any_text_is_kept_as_it_is(text: str, db: Database) -> None:
    store = PassageStore(db)
    assert store.get([store.add(said(text))])[0].text == text.encode("utf-8", "replace").decode("utf-8")
