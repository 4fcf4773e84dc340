"""Salient memory keeps the best under its bound, grows by use, and forgets without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said
from sage.memory.salience import Context, Weights
from sage.memory.salient import HALF_LIFE_S, SalientMemory

CHAT = (
    "hello there",
    "how are you",
    "fine thanks",
    "Do you have a pet?",
    "Yes, my tortoise Bertha, I got her from Porto in March.",
    "oh nice",
    "hello there",
    "fine thanks",
)
FACT = 4


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


def heard(
    db: Database, memory: SalientMemory, texts: tuple[str, ...] = CHAT, namespace: str = "default"
) -> list[int]:
    said = [Said(namespace=namespace, session="s", speaker="user", at=9.0, text=text) for text in texts]
    ids = PassageStore(db).add_many(said)
    memory.hear(ids)
    return ids


def rows(db: Database, table: str) -> list[tuple[object, ...]]:
    return sorted(db.execute(f"SELECT * FROM {table}"))  # noqa: S608


def test_the_answer_with_news_is_the_most_salient(db: Database) -> None:
    memory = SalientMemory(db)
    ids = heard(db, memory)
    [(strongest, _)] = memory.strengths(now=9.0, most=1)
    assert strongest == ids[FACT]
    assert memory.counts() == (len(ids), len(ids))


def test_a_bound_keeps_the_strongest_and_the_rest_are_no_hits(db: Database) -> None:
    memory = SalientMemory(db)
    ids = heard(db, memory)
    assert memory.prune(now=9.0, bound=2) == len(ids) - 2
    assert memory.counts() == (2, len(ids))
    assert ids[FACT] in memory.kept(ids)
    assert len(memory.kept(ids)) == 2
    assert PassageStore(db).count() == len(ids), "what is dropped was still said"
    later = PassageStore(db).add(Said(session="s", speaker="user", at=9.0, text="just said"))
    assert later in memory.kept([later]), "what nobody has appraised is not dropped"


def test_the_bound_holds_while_much_is_heard(db: Database) -> None:
    memory = SalientMemory(db, bound=20)
    heard(db, memory, tuple(f"message number {n} of many" for n in range(300)))
    assert memory.counts()[0] < 20 + 64
    assert not memory.look("hello", now=9.0).kept


def test_use_strengthens_and_brings_back(db: Database) -> None:
    memory = SalientMemory(db)
    ids = heard(db, memory)
    memory.prune(now=9.0, bound=2)
    weak = min(set(ids) - memory.kept(ids))
    memory.used([weak], now=9.0)
    before = dict(memory.strengths(now=9.0, most=9))[weak]
    memory.used([weak], now=9.0)
    assert dict(memory.strengths(now=9.0, most=9))[weak] > before
    for _ in range(30):
        memory.used([weak], now=9.0)
    later = 9.0 + 40 * HALF_LIFE_S
    assert dict(memory.strengths(now=later, most=9))[weak] < 0.01, "no use lasts for ever"
    assert memory.prune(now=later) == 3
    assert memory.counts()[0] == 0


def test_strength_fades_but_never_overtakes(db: Database) -> None:
    memory = SalientMemory(db)
    heard(db, memory)
    now, later = (memory.strengths(now=at, most=9) for at in (9.0, 9.0 + HALF_LIFE_S))
    assert [ident for ident, _ in now] == [ident for ident, _ in later]
    for (_, before), (_, after) in zip(now, later, strict=True):
        assert after / (1 - after) == pytest.approx(before / (1 - before) / 2)


def test_a_clock_that_was_set_back_does_no_harm(db: Database) -> None:
    memory = SalientMemory(db)
    ids = heard(db, memory)
    memory.used(ids, now=-86_400.0)
    assert all(0.0 <= strength <= 1.0 for _, strength in memory.strengths(now=-1e12, most=9))


def test_use_teaches_the_weights_of_one_namespace(db: Database) -> None:
    memory = SalientMemory(db)
    ids = heard(db, memory)
    memory.used([ids[FACT]] * 20, now=9.0)
    learned = memory.weights()
    assert learned.reward > Weights().reward, "the answer to a question was used, its neighbours were not"
    assert memory.weights("other") == Weights()
    assert SalientMemory(db).weights() == learned


def test_what_was_forgotten_leaves_no_trace(db: Database) -> None:
    """Hearing and forgetting leaves exactly what hearing the rest alone would."""
    memory = SalientMemory(db)
    heard(db, memory, CHAT[:FACT])
    words = rows(db, "salience_words")
    heard(db, memory, CHAT[FACT:], namespace="other")
    ids = heard(db, memory, CHAT[FACT:])
    memory.used(ids[:1], now=9.0)
    db.execute("DELETE FROM passages WHERE id >= ? AND namespace = 'default'", (ids[0],))
    assert [row for row in rows(db, "salience_words") if row[0] == "default"] == words
    assert memory.look("my tortoise Bertha", now=9.0).reading.nearest is None
    assert memory.look("my tortoise Bertha", namespace="other", now=9.0).reading.near > 0.9
    assert memory.weights() != Weights(), "the namespace still has messages"
    db.execute("DELETE FROM passages")
    assert [rows(db, table) for table in ("salience", "salience_words", "salience_weights")] == [[], [], []]


def test_another_process_is_noticed(db: Database) -> None:
    mine, other = SalientMemory(db), SalientMemory(db)
    assert mine.look("my tortoise Bertha", now=9.0).reading.nearest is None
    ids = heard(db, other)
    assert mine.look("my tortoise Bertha", now=9.0).reading.nearest == ids[FACT]


def test_hearing_again_changes_nothing(db: Database) -> None:
    memory = SalientMemory(db)
    ids = heard(db, memory)
    before = [rows(db, table) for table in ("salience", "salience_words")]
    memory.hear(ids, contexts={ids[0]: Context(disagree=1.0)})
    assert [rows(db, table) for table in ("salience", "salience_words")] == before


@pytest.mark.parametrize("text", ["", "   ", "🐢🐢", "x" * 200_000, "word " * 40_000, "\ud800 half"])
def test_odd_texts(db: Database, text: str) -> None:
    memory = SalientMemory(db)
    heard(db, memory, (text, text))
    assert 0.0 <= memory.look(text, now=9.0).salience.total <= 1.0


def test_a_long_window_lets_go_of_the_oldest(db: Database) -> None:
    memory = SalientMemory(db)
    ids = heard(db, memory, ("my tortoise Bertha", *(f"filler{n}" for n in range(250))))
    found = memory.look("my tortoise Bertha", now=9.0).reading
    assert (found.nearest, found.new) == (None, 0), "its words are known, the message is far back"
    assert memory.look("filler249", now=9.0).reading.nearest == ids[-1]
