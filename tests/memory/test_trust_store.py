"""Trust as it is kept between processes, and exchanged between machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.clock import FakeClock
from sage.config import SelectorSettings
from sage.economy.context import Codebook, Context, View
from sage.economy.trust import TrustBook
from sage.errors import SageError, StoreError, TurnNotFound, UnsafeFile, UsageError
from sage.memory.db import Database
from sage.memory.locate import Locator, telling_text
from sage.memory.trust_file import book_from_json, book_to_json
from sage.memory.trust_store import TrustStore
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Outcome, OutcomeSource, Situation

DAY = 86_400.0
LABELS = {"structure": 1, "kind": 2}


class Letters:
    """Embeds a text by its first letter: a, b or another."""

    name = "letters"
    views: Mapping[str, int] = {"letter": 3}

    def embed(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        rows = ["ab".find(text[:1]) % 3 for text in texts]
        return {"letter": np.eye(3, dtype=np.float32)[rows]}


def codebook(weight: float = 2.0) -> Codebook:
    letters = View(name="letter", weight=weight, size=3, centroids=np.eye(3, dtype=np.float32))
    return Codebook(
        [letters, View(name="structure", weight=1.0, size=4), View(name="kind", weight=0.0, size=7)]
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    with Database(home / "sage.db") as opened:
        yield opened


@pytest.fixture
def trust(db: Database, clock: FakeClock) -> TrustStore:
    return open_again(db, clock)


def open_again(db: Database, clock: FakeClock, book: Codebook | None = None) -> TrustStore:
    found = Locator(Letters(), book or codebook())
    return TrustStore(db, VerbatimStore(db, clock), clock, SelectorSettings(), lambda: found)


def turn(db: Database, clock: FakeClock, name: str = "turn-1", prompt: str = "a?") -> None:
    situation = Situation(
        messages=(Message(role="user", content=prompt),),
        kind="fact",
        prompt_tokens=3,
        max_tokens=16,
        session="s",
    )
    VerbatimStore(db, clock).begin(name, situation)


def told(
    clock: FakeClock,
    quality: float,
    *,
    event: str = "e1",
    source: OutcomeSource = "verifier",
    turn_id: str = "turn-1",
) -> Outcome:
    return Outcome(
        event_id=event,
        turn_id=turn_id,
        candidate="a",
        kind="fact",
        quality=quality,
        source=source,
        at=clock.time(),
    )


def mean(trust: TrustStore, clock: FakeClock, text: str = "a?", who: str = "a") -> float:
    with trust.book() as book:
        at = trust.locator.locate(text, LABELS)
        half = np.array([0.5])
        return float(book.beliefs((who,), at, priors=half, shifts=half * 0, now=clock.time()).mean[0])


def evidence(trust: TrustStore) -> float:
    with trust.book() as book:
        row = book.row("a")
        return row.total if row else 0.0


def test_an_outcome_is_learned_once(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    assert trust.learn(told(clock, 1.0)) is True
    after = mean(trust, clock)
    assert after > 0.5
    assert trust.learn(told(clock, 0.0)) is False  # the same event, whatever it says now
    assert mean(trust, clock) == after
    assert mean(open_again(db, clock), clock) == pytest.approx(after, abs=0.01)


def test_trust_fades_with_the_half_life_of_the_settings(
    trust: TrustStore, db: Database, clock: FakeClock
) -> None:
    turn(db, clock)
    trust.learn(told(clock, 1.0))
    before = mean(trust, clock)
    clock.advance(30 * DAY)
    assert 0.5 < mean(trust, clock) < before
    trust.learn(told(clock, 0.0, event="e2"))
    assert evidence(trust) == pytest.approx(1.5)


def test_self_praise_is_stored_and_teaches_nothing(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    assert trust.learn(told(clock, 1.0, source="self")) is True
    assert evidence(trust) == 0.0
    assert len(VerbatimStore(db, clock).outcomes("turn-1")) == 1


@pytest.mark.parametrize("quality", [2.0, -1.0, float("nan")])
def test_an_outcome_that_is_refused_leaves_no_trace(
    quality: float, trust: TrustStore, db: Database, clock: FakeClock
) -> None:
    turn(db, clock)
    with pytest.raises((ValueError, StoreError)):
        trust.learn(told(clock, quality))
    assert VerbatimStore(db, clock).outcomes("turn-1") == []
    assert evidence(trust) == 0.0


def test_an_outcome_of_no_turn_is_refused(trust: TrustStore, clock: FakeClock) -> None:
    with pytest.raises(TurnNotFound):
        trust.learn(told(clock, 1.0))
    assert evidence(trust) == 0.0


def test_what_is_undone_is_not_learned(
    trust: TrustStore, db: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(db, clock)

    def full(row: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(trust, "_write", full)
        with pytest.raises(StoreError):
            trust.learn(told(clock, 1.0))
    assert evidence(trust) == 0.0
    assert trust.learn(told(clock, 1.0)) is True
    assert evidence(trust) == evidence(open_again(db, clock)) == 1.0


def test_learning_goes_where_the_text_lies(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    turn(db, clock, prompt="a?")
    trust.note("turn-1", trust.locator.locate("a?", LABELS), LABELS)
    for number in range(10):
        trust.learn(told(clock, 1.0, event=str(number)))
    assert mean(trust, clock, "a?") > mean(trust, clock, "b?") + 0.03


def test_another_process_s_outcomes_are_seen(home: Path, db: Database, clock: FakeClock) -> None:
    here = open_again(db, clock)
    assert mean(here, clock) == 0.5
    with Database(home / "sage.db") as other:
        turn(other, clock)
        there = open_again(other, clock)
        assert there.learn(told(clock, 1.0))
        assert mean(here, clock) == pytest.approx(mean(there, clock), abs=0.01)
        turn(db, clock, "turn-2")
        here.learn(told(clock, 1.0, event="e2", turn_id="turn-2"))
        assert evidence(there) == 2.0


def test_reset_forgets_one_for_good(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    trust.learn(told(clock, 1.0))
    clock.advance(1)
    trust.reset("a")
    assert mean(trust, clock) == 0.5
    again = open_again(db, clock)
    assert again.rebuild() == 0, "outcomes from before a reset are not learned again"
    assert mean(again, clock) == 0.5
    clock.advance(1)
    again.learn(told(clock, 1.0, event="e2"))
    assert mean(again, clock) > 0.5


def test_a_new_codebook_learns_the_outcomes_again(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    trust.learn(told(clock, 1.0))
    other = open_again(db, clock, codebook(weight=3.0))
    assert evidence(other) == 1.0
    assert mean(other, clock) > 0.5
    assert evidence(open_again(db, clock)) == 1.0, "and back"


def test_the_share_of_judged_turns(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    assert trust.feedback() == 0.0
    for number in range(4):
        turn(db, clock, f"turn-{number}")
    trust.learn(told(clock, 1.0, source="agreement"))
    assert trust.feedback() == 0.0
    trust.learn(told(clock, 1.0, event="e2", source="user"))
    trust.learn(told(clock, 1.0, event="e3"))
    assert trust.feedback() == 0.25


def test_trust_travels_in_a_file(trust: TrustStore, db: Database, clock: FakeClock, home: Path) -> None:
    turn(db, clock)
    trust.learn(told(clock, 1.0))
    with trust.book() as book:
        text = book_to_json(book)
    with Database(home / "other.db") as elsewhere:
        there = open_again(elsewhere, clock)
        for _ in range(2):  # the second time changes nothing
            there.merge(book_from_json(text, there.locator.codebook, now=clock.time()))
            assert mean(there, clock) == pytest.approx(mean(trust, clock), abs=0.01)
        assert mean(open_again(elsewhere, clock), clock) == pytest.approx(mean(trust, clock), abs=0.01)


def written(trust: TrustStore, db: Database, clock: FakeClock) -> dict[str, object]:
    turn(db, clock)
    trust.learn(told(clock, 1.0))
    with trust.book() as book:
        found: dict[str, object] = json.loads(book_to_json(book))
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"rows": [{}]},
        {"rows": 3},
        {"row": {"cells": [99]}},
        {"row": {"total": float("nan")}},
        {"row": {"sums": [1e9]}},
        {"row": {"at": "now"}},
        {"row": {"drift": {"level": 7.0}}},
        {"row": {"drift": {"unheard": 0.0}}},
    ],
)
def test_a_file_that_is_none_is_refused(
    change: dict[str, object], trust: TrustStore, db: Database, clock: FakeClock
) -> None:
    good = written(trust, db, clock)
    if "row" in change:
        good["rows"][0].update(change["row"])  # type: ignore[index]
    else:
        good.update(change)
    with pytest.raises(UnsafeFile):
        book_from_json(json.dumps(good), codebook(), now=clock.time())


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000])
def test_what_is_no_trust_at_all_is_refused(text: str, clock: FakeClock) -> None:
    with pytest.raises(SageError):
        book_from_json(text, codebook(), now=clock.time())


def test_a_book_of_another_codebook_is_refused(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    good = written(trust, db, clock)
    with pytest.raises(UsageError, match="codebook"):
        book_from_json(json.dumps(good), codebook(weight=3.0), now=clock.time())


def test_a_file_from_the_future_does_not_outlast_what_is_learned_here(
    trust: TrustStore, db: Database, clock: FakeClock
) -> None:
    good = written(trust, db, clock)
    good["rows"][0]["at"] = clock.time() + 3650 * DAY  # type: ignore[index]
    read = book_from_json(json.dumps(good), codebook(), now=clock.time())
    assert [row.at for row in read.rows()] == [clock.time()]


def test_a_context_that_was_noted_is_the_one_that_is_learned_in(trust: TrustStore) -> None:
    at = trust.locator.locate("b?", LABELS)
    kept: Context = trust.locator.codebook.context(at.cells, at.membership)
    assert np.array_equal(kept.weight, at.weight)


def test_a_short_message_takes_the_question_before_it_along() -> None:
    assert telling_text("And in Spanish?", ["Translate: dog", "Translate: cat"]) == (
        "Translate: cat\nAnd in Spanish?"
    )
    assert telling_text("And in Spanish?", []) == "And in Spanish?"
    assert telling_text("x" * 100, ["Translate: cat"]) == "x" * 100


def test_rows_of_two_origins_stay_apart(db: Database, clock: FakeClock, trust: TrustStore) -> None:
    turn(db, clock)
    trust.learn(told(clock, 1.0))
    other = TrustBook(codebook(), origin="elsewhere", half_life=30 * DAY, prior_strength=10.0)
    other.observe(
        replace(told(clock, 1.0), event_id="far"),
        trust.locator.codebook.alone("structure", LABELS["structure"]),
    )
    trust.merge(other)
    rows = db.execute("SELECT origin, events FROM trust_rows WHERE candidate = 'a'")
    assert sorted(events for _, events in rows) == [1, 1]
    assert len({origin for origin, _ in rows}) == 2
