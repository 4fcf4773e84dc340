"""Who may say how good an answer was, and when nobody can."""

from __future__ import annotations

import pytest

from sage.irp.plugins.language import Draft
from sage.kernel.judge import COMPARABLE, judge, outcome
from sage.kernel.turn import Turn
from sage.types import Completion, Message, Situation


@pytest.fixture
def turn() -> Turn:
    situation = Situation(
        messages=(Message(role="user", content="Why?"),),
        kind="fact",
        prompt_tokens=3,
        max_tokens=16,
        session="s",
    )
    return Turn(id="turn-1", situation=situation, started=0.0)


def draft(model: str, text: str, *, valid: bool = True, finish: str = "stop") -> Draft:
    completion = Completion(text=text, prompt_tokens=3, completion_tokens=1, finish_reason=finish)
    return Draft(model=model, completion=completion, attempt=0, valid=valid)


def judged(turn: Turn, *drafts: Draft, **more: object) -> dict[str, tuple[float, str]]:
    outcomes = judge(turn, drafts, verify=None, now=5.0, **more)  # type: ignore[arg-type]
    assert len({o.candidate for o in outcomes}) == len(outcomes)
    return {o.candidate: (o.quality, o.source) for o in outcomes}


def test_nobody_judges_a_single_draft(turn: Turn) -> None:
    assert judged(turn, draft("a", "Paris")) == {}
    assert judged(turn) == {}


def test_the_verifier_judges_the_first_draft_of_each(turn: Turn) -> None:
    seen: list[str] = []

    def verify(text: str) -> float:
        seen.append(text)
        return float(text == "Paris")

    drafts = (draft("a", "Rome"), draft("b", "Paris"), draft("a", "Paris"))
    outcomes = judge(turn, drafts, verify=verify, now=5.0)
    assert [(o.candidate, o.quality, o.source) for o in outcomes] == [
        ("a", 0.0, "verifier"),
        ("b", 1.0, "verifier"),
    ]
    assert seen == ["Rome", "Paris"]
    assert {(o.turn_id, o.kind, o.at) for o in outcomes} == {("turn-1", "fact", 5.0)}


def test_the_verifier_outranks_agreement_and_schema(turn: Turn) -> None:
    drafts = (draft("a", "Paris", valid=False), draft("b", "Paris"))
    outcomes = judge(turn, drafts, verify=lambda _text: 0.5, now=5.0)
    assert {(o.quality, o.source) for o in outcomes} == {(0.5, "verifier")}


def test_agreement_speaks_for_those_who_agree_and_dissent_against_nobody(turn: Turn) -> None:
    said = judged(turn, draft("a", "Paris"), draft("b", "paris."), draft("c", "Rome"))
    assert said == {"a": (1.0, "agreement"), "b": (1.0, "agreement")}
    assert judged(turn, draft("a", "Paris."), draft("b", "The capital of France is Paris.")) == {}


def test_agreeing_with_oneself_counts_for_nothing(turn: Turn) -> None:
    assert judged(turn, draft("a", "Paris"), draft("a", "Paris")) == {}


def test_long_answers_are_not_compared(turn: Turn) -> None:
    just, long = "x" * COMPARABLE, "x" * (COMPARABLE + 1)
    assert set(judged(turn, draft("a", just), draft("b", just))) == {"a", "b"}
    assert judged(turn, draft("a", long), draft("b", "x")) == {}


def test_a_schema_not_kept_is_its_author_s_failure_and_no_peer(turn: Turn) -> None:
    said = judged(turn, draft("a", "It is 3", valid=False), draft("b", '{"n": 3}'))
    assert said == {"a": (0.0, "verifier")}


def test_an_answer_cut_off_by_its_length_has_not_broken_the_schema(turn: Turn) -> None:
    assert judged(turn, draft("a", '{"n": ', valid=False, finish="length")) == {}


def test_half_an_answer_is_not_judged_and_judges_nobody(turn: Turn) -> None:
    assert judged(turn, draft("a", "Par", finish="cancelled"), draft("b", "Paris")) == {}
    cancelled = (draft("a", "Par", finish="cancelled"),)
    assert judge(turn, cancelled, verify=lambda _text: 1.0, now=0.0) == ()


@pytest.mark.parametrize(("quality", "kept"), [(1.5, 1.0), (-0.5, 0.0), (0.25, 0.25)])
def test_a_quality_is_kept_within_its_bounds(turn: Turn, quality: float, kept: float) -> None:
    assert outcome(turn, "a", quality, "user", 1.0).quality == kept


def test_the_same_outcome_has_the_same_id(turn: Turn) -> None:
    one, again = (outcome(turn, "a", quality, "user", at) for quality, at in ((0.0, 1.0), (1.0, 2.0)))
    assert one.event_id == again.event_id
    others = [outcome(turn, "b", 0.0, "user", 1.0), outcome(turn, "a", 0.0, "verifier", 1.0)]
    assert one.event_id not in [other.event_id for other in others]


@pytest.mark.parametrize(
    "text", ["I don\u2019t know.", "I do not know", "Sorry, I cannot answer that.", "Unknown"]
)
def test_that_two_do_not_know_speaks_for_neither(turn: Turn, text: str) -> None:
    assert judged(turn, draft("a", text), draft("b", text)) == {}


@pytest.mark.parametrize("text", ["Unknown Pleasures", "I know: Paris", "No"])
def test_what_says_something_may_agree(turn: Turn, text: str) -> None:
    assert set(judged(turn, draft("a", text), draft("b", text))) == {"a", "b"}
