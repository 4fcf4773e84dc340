"""What refining paid before, and answers to the very same question."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sage.clock import FakeClock
from sage.economy.context import Context
from sage.memory.db import Database
from sage.memory.passages import PassageStore
from sage.memory.patterns import BELIEVED_DAYS, GIVEN_AGAIN, NEEDED, NEWEST, PatternMemory, Refinement, Taken
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Outcome, Situation

DAY_S = 86_400.0
LONE = (Taken(energy=0.4, best="a"),)
WASTED = (*LONE, Taken(energy=0.35, best="a", gain=0.0, price=0.05))
PAID = (*LONE, Taken(energy=0.1, best="b", gain=0.3, price=0.05))


def at(cell: int, codebook: str = "book") -> Context:
    one = np.ones(1)
    return Context(cells=np.array([cell]), membership=one, weight=one, codebook=codebook)


class Home:
    """A database with turns to refer to."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock(start=1_000_000.0)
        self.db = Database(path / "sage.db")
        self.turns = VerbatimStore(self.db, self.clock)
        self.patterns = PatternMemory(self.db, self.clock, half_life_days=10.0)
        self.count = 0

    def turn(
        self,
        steps: tuple[Taken, ...] = LONE,
        *,
        cell: int = 1,
        namespace: str = "me",
        question: str | None = None,
        plugin: str = "language",
        answer: str = "An answer",
        **qualities: float,
    ) -> str:
        self.count += 1
        ident = f"turn-{self.count}"
        self.turns.begin(
            ident,
            Situation(
                messages=(Message(role="user", content="What?"),),
                kind="fact",
                prompt_tokens=1,
                max_tokens=8,
                session="s",
                namespace=namespace,
            ),
        )
        self.turns.finish(
            ident, status="done", answer=answer, model=steps[-1].best, usage=None, irp=None, atp=None
        )
        self.patterns.learn(
            ident,
            namespace,
            Refinement(plugin=plugin, context=at(cell), question=question, steps=steps),
        )
        for model, quality in qualities.items():
            self.judge(ident, model, quality)
        return ident

    def judge(self, turn_id: str, model: str, quality: float, source: str = "user") -> None:
        self.count += 1
        self.turns.record_outcome(
            Outcome(
                event_id=f"event-{self.count}",
                turn_id=turn_id,
                candidate=model,
                kind="fact",
                quality=quality,
                source=source,  # type: ignore[arg-type]
                at=self.clock.time(),
            )
        )

    def limit(self, most: int = 4, *, cell: int = 1, namespace: str = "me") -> int:
        return self.patterns.expect(at(cell), "language", namespace=namespace).limit(most)


@pytest.fixture
def there(home: Path) -> Iterator[Home]:
    made = Home(home)
    with made.db:
        yield made


def test_nothing_is_limited_before_it_was_tried(there: Home) -> None:
    assert there.limit() == 4
    for _ in range(int(NEEDED) - 1):
        there.turn(WASTED)
    assert there.limit() == 4


def test_what_never_paid_is_not_done_again(there: Home) -> None:
    for _ in range(12):
        there.turn(WASTED)
    assert there.limit() == 1
    expected = there.patterns.expect(at(1), "language", namespace="me")
    assert (expected.turns, expected.steps) == (12.0, 2.0)
    assert expected.energies == pytest.approx((0.4, 0.35))


def test_what_paid_now_and_then_is_done_again(there: Home) -> None:
    for number in range(12):
        there.turn(PAID if number % 4 == 0 else WASTED)
    assert there.limit() == 4


def test_a_second_opinion_may_be_worth_it_for_the_third(there: Home) -> None:
    """Two that differ change nothing; the third decides."""
    third = (*WASTED, Taken(energy=0.1, best="c", gain=0.4, price=0.05))
    for _ in range(12):
        there.turn(third)
    assert there.limit() == 4


def test_other_situations_other_people_and_other_codebooks_have_no_say(there: Home) -> None:
    for _ in range(12):
        there.turn(WASTED)
    assert there.limit(cell=2) == 4
    assert there.limit(namespace="you") == 4
    elsewhere = there.patterns.expect(at(1, "other"), "language", namespace="me")
    assert elsewhere.turns == 0.0


def test_what_a_user_found_outweighs_what_was_thought(there: Home) -> None:
    for _ in range(12):
        there.turn(PAID, a=1.0, b=0.0)
    assert there.limit() == 1


def test_a_limit_lifts_when_nobody_has_gone_further_for_long(there: Home) -> None:
    for _ in range(12):
        there.turn(WASTED)
    for _ in range(NEWEST - int(NEEDED)):
        there.turn(LONE)
    assert there.limit() == 1
    there.turn(LONE)
    assert there.limit() == 4


@pytest.mark.parametrize("days", [100.0, -100.0])
def test_evidence_fades_and_a_clock_that_jumps_back_adds_none(there: Home, days: float) -> None:
    for _ in range(12):
        there.turn(WASTED)
    there.clock.advance(days * DAY_S)
    expected = there.patterns.expect(at(1), "language", namespace="me")
    assert expected.turns == pytest.approx(12.0 * (2.0**-10 if days > 0 else 1.0))
    assert expected.limit(4) == (4 if days > 0 else 1)


def test_what_is_forgotten_has_no_say(there: Home) -> None:
    for _ in range(12):
        there.turn(WASTED, question="q", a=1.0)
    there.db.execute("DELETE FROM turns")
    assert there.limit() == 4
    assert there.patterns.judged("q", namespace="me") == ()
    assert there.db.execute("SELECT count(*) FROM refinements") == [(0,)]


def test_the_newest_judgement_of_an_answer_stands(there: Home) -> None:
    first = there.turn(question="q", answer="Lisbon", a=1.0)
    there.turn(question="q", answer="Porto", a=0.0)
    there.turn(question="q", answer="nobody judged this")
    found = there.patterns.judged("q", namespace="me")
    assert [(each.text, each.quality) for each in found] == [("Porto", 0.0), ("Lisbon", 1.0)]
    assert (found[1].turn_id, found[1].model) == (first, "a")
    there.judge(first, "a", 0.0, "verifier")
    found = there.patterns.judged("q", namespace="me")
    assert [(each.text, each.quality) for each in found] == [("Lisbon", 0.0), ("Porto", 0.0)]


def test_agreement_of_models_is_no_judgement(there: Home) -> None:
    there.judge(there.turn(question="q"), "a", 1.0, "agreement")
    assert there.patterns.judged("q", namespace="me") == ()


def test_answers_of_others_are_not_seen(there: Home) -> None:
    there.turn(question="q", a=1.0)
    assert there.patterns.judged("q", namespace="you") == ()
    assert there.patterns.judged("p", namespace="me") == ()


def test_an_answer_from_before_something_was_said_about_it_is_left_out(there: Home) -> None:
    said: Callable[[str], list[int]] = lambda turn: [  # noqa: E731
        passage.id for passage in PassageStore(there.db).of_turn(turn)
    ]
    before = there.turn(question="other")
    there.turn(question="q", answer="Lisbon", a=1.0)
    again = there.turn(question="q", answer="Lisbon")
    assert there.patterns.judged("q", namespace="me", shown=[*said(before), *said(again)])
    later = there.turn(question="other")
    assert there.patterns.judged("q", namespace="me", shown=said(later)) == ()


def test_answers_given_again_are_judged_and_limit_nothing(there: Home) -> None:
    for _ in range(12):
        there.turn(WASTED)
    there.turn(question="q", answer="Lisbon", a=1.0)
    for _ in range(2 * NEWEST):
        there.turn(question="q", answer="Lisbon", plugin=GIVEN_AGAIN)
    assert there.limit() == 1
    assert [each.quality for each in there.patterns.judged("q", namespace="me")] == [1.0]
    there.turn(question="q", answer="Lisbon", plugin=GIVEN_AGAIN, a=0.0)
    assert [each.quality for each in there.patterns.judged("q", namespace="me")] == [0.0]


@pytest.mark.parametrize("days", [BELIEVED_DAYS + 1, -BELIEVED_DAYS - 1])
def test_an_old_judgement_counts_no_more(there: Home, days: float) -> None:
    there.turn(question="q", a=1.0)
    there.clock.advance(days * DAY_S)
    assert there.patterns.judged("q", namespace="me") == ()
