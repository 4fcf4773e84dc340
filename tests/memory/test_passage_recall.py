"""Recall over passages: what fits comes back, in order, within its budget, from one namespace."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sage.errors import WeightsMissing
from sage.memory import index as index_module
from sage.memory.db import Database
from sage.memory.index import Index
from sage.memory.passages import PassageStore, Said
from sage.memory.recall import Recall, Recalled

MEANS = {"feline": "cat", "kitten": "cat", "automobile": "car"}


class WordVectors:
    """Each word has a random vector; synonyms share one."""

    def tokens(self, text: str) -> tuple[list[str], npt.NDArray[np.float32]]:
        words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
        seeds = [zlib.crc32(MEANS.get(word, word).encode()) for word in words]
        rows = [np.random.default_rng(seed).standard_normal(384) for seed in seeds]
        return words, np.array(rows, np.float32).reshape(len(words), 384)


class Broken:
    """A sentence model that is not there."""

    def tokens(self, text: str) -> tuple[list[str], npt.NDArray[np.float32]]:
        raise WeightsMissing("no file", mend="pull it")


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


def say(
    db: Database, *texts: str, session: str = "s", speaker: str = "Ann", namespace: str = "default"
) -> list[int]:
    return PassageStore(db).add_many(
        Said(namespace=namespace, session=session, speaker=speaker, at=100.0 + at, text=text)
        for at, text in enumerate(texts)
    )


def chatter(db: Database, count: int, session: str = "chatter", namespace: str = "default") -> list[int]:
    draw = np.random.default_rng(7)
    words = np.array([f"w{chr(97 + a)}{chr(97 + b)}" for a in range(20) for b in range(20)])
    texts = [" ".join(draw.choice(words, 8)) for _ in range(count)]
    return say(db, *texts, session=session, namespace=namespace)


def recall(memory: Recall, question: str, **more: object) -> Recalled:
    return memory.recall(question, count_tokens=lambda text: len(text.split()), **more)  # type: ignore[arg-type]


def best(found: Recalled) -> int:
    return next(hit.passage.id for hit in found.hits if hit.rank == 1)


def test_what_was_said_comes_back(db: Database) -> None:
    chatter(db, 100)
    (heron,) = say(db, "A blue heron stood in the pond", session="walk")
    found = recall(Recall(db), "Where was the heron?")
    assert best(found) == heron
    assert not found.abstained
    assert "> A blue heron" in found.text


def test_an_empty_memory_has_nothing_to_abstain_from(db: Database) -> None:
    assert recall(Recall(db), "anything?") == Recalled(hits=(), abstained=False)


def test_nothing_fits(db: Database) -> None:
    chatter(db, 100)
    found = recall(Recall(db), "What is the capital of Peru?")
    assert (found.hits, found.abstained, found.text) == ((), True, "")


def test_no_question_crosses_namespaces(db: Database) -> None:
    say(db, "my secret is a heron", namespace="alice")
    chatter(db, 20, namespace="bob")
    memory = Recall(db)
    assert recall(memory, "secret heron?", namespace="bob").abstained
    assert recall(memory, "secret heron?", namespace="alice").hits


def test_an_answer_is_found_by_its_question_and_shown_with_it(db: Database) -> None:
    chatter(db, 60)
    asked, answer = say(db, "Which bird did you see?", "A heron, by the pond", session="walk")
    found = recall(Recall(db), "Which bird was seen?")
    assert {asked, answer} <= {hit.passage.id for hit in found.hits}
    assert best(found) in (asked, answer)


def test_in_the_order_it_was_said_and_within_budget(db: Database) -> None:
    for number in range(8):
        say(db, f"heron number {number} " + "and more " * 20, session=f"s{number % 3}")
    found = recall(Recall(db), "heron?", budget=200)
    assert len(found.text.split()) <= 200
    places = [(hit.passage.session, hit.passage.id) for hit in found.hits]
    assert len(places) >= 2
    sessions = [session for session, _ in places]
    assert sessions == sorted(sessions, key=sessions.index)  # grouped
    assert recall(Recall(db), "heron?", budget=0).hits == ()


def test_what_the_model_sees_anyway_is_left_out(db: Database) -> None:
    chatter(db, 30)
    one, two = say(db, "the heron came", "the heron left")
    found = recall(Recall(db), "heron?", exclude=[two])
    assert [hit.passage.id for hit in found.hits if hit.rank == 1] == [one]
    assert two not in {hit.passage.id for hit in found.hits}


def test_the_newest_of_two_that_fit_alike_is_first(db: Database) -> None:
    chatter(db, 50)
    (old,) = say(db, "My favourite colour is blue", session="a")
    (new,) = say(db, "My favourite colour is green", session="b")
    assert Recall(db).rank("What is Ann's favourite colour?").ids[:2] == (new, old)
    assert Recall(db).rank("What was Ann's favourite colour before?").ids[:2] != (new, old)


def test_my_is_what_the_asker_said(db: Database) -> None:
    chatter(db, 50)
    (theirs,) = say(db, "I park the car in the yard", session="a", speaker="assistant")
    (mine,) = say(db, "I park the car in the barn", session="b", speaker="user")
    say(db, "ok", session="c", speaker="assistant")
    assert Recall(db).rank("Where do I park the car?", asker="user").ids[0] == mine
    assert Recall(db).rank("Where do I park the car?", asker="assistant").ids[0] == theirs


def test_meaning_finds_what_words_do_not(db: Database) -> None:
    chatter(db, 80)
    (cat,) = say(db, "kitten sleeps upstairs", session="home")
    memory = Recall(db, WordVectors())
    assert memory.catch_up(limit=50) == 50
    assert memory.catch_up(limit=50) == 31
    assert memory.catch_up(limit=50) == 0
    assert best(recall(memory, "feline?")) == cat
    assert recall(Recall(db), "feline?").abstained


def test_without_its_sentence_model_words_decide(db: Database) -> None:
    chatter(db, 20)
    (heron,) = say(db, "a heron")
    assert Recall(db, Broken()).rank("heron?").ids[0] == heron


@pytest.mark.parametrize("block", [8, 512])
def test_blocks_change_no_answer(block: int, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = chatter(db, 61)
    memory = Recall(db)
    texts = [passage.text for passage in PassageStore(db).get(ids)]
    before = [memory.rank(text, most=5) for text in texts[::7]]
    monkeypatch.setattr(index_module, "BLOCK", block)
    assert memory.index() == 61 // block
    for again in (memory, Recall(db)):
        after = [again.rank(text, most=5) for text in texts[::7]]
        assert [r.ids[0] for r in after] == [r.ids[0] for r in before] == ids[::7]
        assert np.allclose([r.scores for r in after], [r.scores for r in before], atol=0.05)


def test_much_that_is_in_no_block_is_put_into_blocks(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BLOCK", 8)
    ids = chatter(db, 40)
    text = PassageStore(db).get([ids[19]])[0].text
    memory = Recall(db)
    assert memory.rank(text).ids[0] == ids[19]
    assert db.execute("SELECT count(*) FROM recall_blocks") == [(5,)]
    assert memory.rank(text).ids[0] == ids[19]


def test_what_is_forgotten_is_not_recalled_and_blocks_close_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "BLOCK", 8)
    ids = chatter(db, 40)
    text = PassageStore(db).get([ids[19]])[0].text
    memory = Recall(db, WordVectors())
    memory.index()
    memory.catch_up(limit=100)
    assert memory.rank(text).ids[0] == ids[19]
    db.execute("DELETE FROM passages WHERE id = ?", (ids[19],))
    assert ids[19] not in memory.rank(text, most=40).ids
    assert len(memory.rank(text, most=100).ids) == 39
    memory.index()
    assert db.execute("SELECT count(*) FROM recall_blocks") == [(5,)]
    assert db.execute("SELECT count(*) FROM passage_vectors") == [(39,)]
    index = Index(db, "default")
    index.refresh()
    assert index.records["id"].tolist() == [ident for ident in ids if ident != ids[19]]


def test_what_another_process_says_is_known_at_once(db: Database, home: Path) -> None:
    memory = Recall(db)
    chatter(db, 10)
    memory.rank("x")
    with Database(home / "sage.db") as other:
        (heron,) = say(other, "a heron", session="later")
        assert memory.rank("heron?").ids[0] == heron


@pytest.mark.parametrize("text", ["", " ", "😀😀", "\x00", "x" * 200_000, "\ud800", "-- ' OR 1=1 \" *"])
def test_odd_texts_and_questions(text: str, db: Database) -> None:
    say(db, text, "a heron")
    memory = Recall(db, WordVectors())
    memory.catch_up(limit=10)
    recall(memory, text)
    assert recall(memory, "heron?").hits
