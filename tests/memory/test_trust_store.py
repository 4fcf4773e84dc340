"""Trust as it is kept between processes, and exchanged between machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.clock import FakeClock
from sage.config import SelectorSettings
from sage.economy.context import Codebook, Context, View
from sage.economy.evidence import Evidence
from sage.economy.trust import TrustBook, TrustRow
from sage.errors import StoreError, TurnNotFound
from sage.memory.db import Database
from sage.memory.lessons import PAGE
from sage.memory.locate import Locator, telling_text
from sage.memory.opinion_store import OpinionStore
from sage.memory.trust_file import book_from_json, book_to_json
from sage.memory.trust_rows import TrustTables
from sage.memory.trust_store import RELEARNED, Merged, TrustStore
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

    def full(*_row: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(TrustTables, "write", full)
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


# --- several processes ---


class Counting(Letters):
    """Counts the texts it embeds; ``meanwhile`` is done while it does."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.texts = 0
        self.meanwhile = meanwhile

    def embed(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        self.texts += len(texts)
        self.meanwhile()
        return super().embed(texts)


def with_embedder(db: Database, clock: FakeClock, embedder: Letters, weight: float = 3.0) -> TrustStore:
    found = Locator(embedder, codebook(weight))
    return TrustStore(db, VerbatimStore(db, clock), clock, SelectorSettings(), lambda: found)


def test_two_codebooks_take_turns_and_each_outcome_is_learned_once_in_each(
    home: Path, db: Database, clock: FakeClock
) -> None:
    turn(db, clock)
    with Database(home / "sage.db") as other:
        embedders = Counting(), Counting()
        here = with_embedder(db, clock, embedders[0])
        there = with_embedder(other, clock, embedders[1], weight=4.0)
        for number in range(6):
            learner = here if number % 2 else there
            assert learner.learn(told(clock, 1.0, event=str(number)))
            assert (evidence(here), evidence(there)) == (number + 1.0, number + 1.0)
        # A turn without a note is placed once for each outcome and codebook, and never again.
        before = [embedder.texts for embedder in embedders]
        assert before == [6, 6]
        for _ in range(3):
            assert (evidence(here), evidence(there)) == (6.0, 6.0)
        assert [embedder.texts for embedder in embedders] == before
    assert evidence(open_again(db, clock, codebook(weight=4.0))) == 6.0


def test_what_was_noted_for_a_codebook_is_not_embedded_again(
    trust: TrustStore, db: Database, clock: FakeClock
) -> None:
    turn(db, clock)
    trust.note("turn-1", trust.locator.locate("b?", LABELS), LABELS)
    trust.learn(told(clock, 1.0))
    counting = Counting()
    again = with_embedder(db, clock, counting, weight=2.0)
    assert again.rebuild() == 1
    assert counting.texts == 0
    assert mean(again, clock, "b?") > mean(again, clock, "a?")


def test_texts_are_embedded_while_others_may_write(home: Path, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    open_again(db, clock).learn(told(clock, 1.0))
    with Database(home / "sage.db") as other:
        counting = Counting(lambda: other.execute("INSERT OR REPLACE INTO facts VALUES ('x', 'y')"))
        new = with_embedder(db, clock, counting)
        assert evidence(new) == 1.0
        assert new.learn(told(clock, 1.0, event="e2"))
        assert new.rebuild() == 2
        assert counting.texts == 4


def test_two_processes_that_catch_up_together_learn_once(home: Path, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    for number in range(3):
        open_again(db, clock).learn(told(clock, 1.0, event=str(number)))
    with Database(home / "sage.db") as other:
        there = with_embedder(other, clock, Counting())
        here = with_embedder(db, clock, Counting(lambda: evidence(there)))
        assert evidence(here) == evidence(there) == 3.0
        assert evidence(with_embedder(db, clock, Letters())) == 3.0


def test_what_others_learn_while_all_is_rebuilt_is_kept(home: Path, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    old = with_embedder(db, clock, Letters())
    old.learn(told(clock, 1.0))
    with Database(home / "sage.db") as other:
        there = with_embedder(other, clock, Letters())
        events = iter(("e2", "e3"))

        def meanwhile() -> None:
            if event := next(events, None):
                there.learn(told(clock, 1.0, event=event))
                assert evidence(there) == float(event[1])

        assert with_embedder(db, clock, Counting(meanwhile)).rebuild() == 3
        assert evidence(there) == evidence(old) == 3.0


def test_only_the_newest_are_learned_by_themselves_and_all_by_a_rebuild(
    db: Database, clock: FakeClock
) -> None:
    turn(db, clock)
    with db.transaction():
        for number in range(RELEARNED + 5):
            VerbatimStore(db, clock).record_outcome(told(clock, 1.0, event=str(number)))
    store = open_again(db, clock)
    assert evidence(store) == RELEARNED
    said: list[tuple[int, int]] = []
    assert store.rebuild(progress=lambda done, every: said.append((done, every))) == RELEARNED + 5
    assert said[0] == (PAGE, RELEARNED + 5)
    assert said[-1] == (RELEARNED + 5, RELEARNED + 5)
    assert evidence(store) == evidence(open_again(db, clock)) == RELEARNED + 5


def test_an_outcome_that_cannot_be_learned_does_not_stop_the_others(db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    turns = VerbatimStore(db, clock)
    turns.record_outcome(replace(told(clock, 1.0), shift=7.0))
    turns.record_outcome(told(clock, 1.0, event="e2"))
    assert evidence(open_again(db, clock)) == 1.0


def test_only_changes_of_trust_load_the_book_again(
    home: Path, db: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_again(db, clock)
    assert evidence(here) == 0.0
    loads: list[int] = []
    real = TrustTables.rows

    def counted(tables: TrustTables) -> list[TrustRow]:
        loads.append(1)
        return real(tables)

    monkeypatch.setattr(TrustTables, "rows", counted)
    with Database(home / "sage.db") as other:
        for number in range(5):
            turn(other, clock, f"turn-{number}")
            assert evidence(here) == 0.0
        assert loads == []
        there = open_again(other, clock)
        there.learn(told(clock, 1.0))
        loads.clear()
        assert evidence(here) == 1.0
        assert len(loads) == 1
        there.reset("a")
        assert evidence(here) == 0.0


def test_two_first_starts_agree_on_the_origin(
    home: Path, db: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database(home / "sage.db") as other:
        there = TrustTables(other, codebook())
        here = TrustTables(db, codebook())
        theirs: list[str] = []
        real = TrustTables._fact

        def slow(tables: TrustTables, name: str) -> str | None:
            found = real(tables, name)
            if tables is here:
                theirs.append(there.origin())  # between the look and the write
            return found

        monkeypatch.setattr(TrustTables, "_fact", slow)
        assert here.origin() == theirs[0] == there.origin()


# --- resets and clocks ---


@pytest.mark.parametrize("years", [-20, 0, 20])
def test_a_reset_forgets_what_was_before_and_nothing_after_whatever_the_clock_said(
    years: int, trust: TrustStore, db: Database, clock: FakeClock
) -> None:
    turn(db, clock)
    opinions = OpinionStore(db, clock, half_life_days=30.0)

    def notice(shown: Evidence) -> bool:
        shown.notice(np.arange(2), np.full(2, 0.4))
        return True

    def teach() -> None:
        opinions.learn(["a", "b"], notice)

    teach()
    trust.learn(told(clock, 1.0))
    clock.advance(years * 365 * DAY)
    trust.reset("a")
    clock.advance(-years * 365 * DAY)
    assert opinions.evidence(["a", "b"]).doubt[0].tolist() == [0.0, 1.0]
    teach()
    trust.learn(told(clock, 1.0, event="e2"))
    assert opinions.evidence(["a", "b"]).doubt[0].tolist() == [1.0, 2.0]
    assert evidence(trust) == 1.0
    assert trust.rebuild() == 1
    assert evidence(trust) == 1.0


def test_a_reset_that_is_taken_over_forgets_too(trust: TrustStore, db: Database, clock: FakeClock) -> None:
    turn(db, clock)
    trust.learn(told(clock, 1.0))
    OpinionStore(db, clock, half_life_days=30.0).learn(["a"], lambda _shown: True)
    clock.advance(1.0)
    other = TrustBook(codebook(), origin="elsewhere", half_life=30 * DAY, prior_strength=10.0)
    other.reset("a", clock.time())
    assert trust.merge(other) == Merged(records=0, machines=0, resets=1)
    assert trust.merge(other) == Merged(records=0, machines=0, resets=0)
    assert evidence(trust) == 0.0
    assert db.execute("SELECT * FROM opinions") == []
    assert trust.rebuild() == 0


def test_the_share_of_judged_turns_does_not_read_all_turns(
    trust: TrustStore, db: Database, clock: FakeClock
) -> None:
    for number in range(8):
        turn(db, clock, f"turn-{number}")
        if number < 6:
            trust.learn(told(clock, 1.0, event=str(number), turn_id=f"turn-{number}"))
    assert trust.feedback(turns=4) == 0.5
    assert trust.feedback(turns=100) == 0.75
