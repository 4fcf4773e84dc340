"""What drafts and their outcomes teach, and what they must not."""

from __future__ import annotations

from typing import Any

import numpy as np

from sage.economy.evidence import Evidence
from sage.irp.plugins.language import Draft
from sage.kernel.teaching import rating, teach
from sage.types import Completion, Outcome, OutcomeSource

LONG = "The sea was calm, the boats came home before dark, and everybody on the quay was glad of that."
OTHER = "Nobody had expected the storm, which took two of the boats and drove a third one on the rocks."
LOOP = "the cat sat on the mat and " * 12


def draft(
    model: str, text: str, logprob: float | None = -0.3, *, valid: bool = True, finish: str = "stop"
) -> Draft:
    completion = Completion(
        text=text,
        prompt_tokens=3,
        completion_tokens=len(text.split()),
        finish_reason=finish,
        logprobs=() if logprob is None else (logprob,) * 4,
    )
    return Draft(model=model, completion=completion, attempt=0, valid=valid and bool(text.strip()))


def kept(model: str, group: int, *, doubt: float | None = 0.4) -> dict[str, Any]:
    """What a turn keeps of a draft."""
    return {"model": model, "group": group, "p": 0.5, "tokens": 3, "doubt": doubt}


def outcome(model: str, quality: float, source: OutcomeSource = "verifier") -> Outcome:
    return Outcome(
        event_id=model, turn_id="t", candidate=model, kind="fact", quality=quality, source=source, at=0.0
    )


def test_a_verifier_teaches_trust_marks_and_pairs() -> None:
    evidence = Evidence("abc")
    said = (draft("a", "Rome", -2.0), draft("b", "rome."), draft("c", "Paris"), draft("a", "Paris"))
    teach(evidence, said, [outcome("a", 0.0), outcome("b", 0.0), outcome("c", 1.0)], schema=False)
    assert evidence.asked.tolist() == [1.0, 1.0, 1.0]
    assert evidence.right.tolist() == [0.0, 0.0, 1.0]
    assert (evidence.wrong[0, 1], evidence.same[0, 1]) == (1.0, 1.0)
    assert evidence.wrong[:2, 2].tolist() == [0.0, 0.0]
    assert evidence.marked.sum(0).tolist() == [2.0, 2.0, 2.0]  # length and doubt
    assert evidence.doubt[0].tolist() == [2.0, 1.0, 1.0]  # noticed, whether judged or not


def test_agreement_counts_little_and_teaches_pairs_nothing() -> None:
    evidence = Evidence("ab")
    told = [outcome("a", 1.0, "agreement"), outcome("b", 1.0, "agreement")]
    teach(evidence, (draft("a", "Rome"), draft("b", "Rome")), told, schema=False)
    assert evidence.asked.tolist() == evidence.right.tolist() == [0.25, 0.25]
    assert not evidence.wrong.any()


def test_long_answers_that_are_wrong_teach_pairs_nothing() -> None:
    evidence = Evidence("ab")
    said = (draft("a", LONG), draft("b", OTHER))
    teach(evidence, said, [outcome("a", 0.0), outcome("b", 0.0)], schema=False)
    assert evidence.asked.tolist() == [1.0, 1.0]
    assert (evidence.wrong[0, 1], evidence.same[0, 1]) == (0.0, 0.0)


def test_a_schema_not_kept_is_a_silence() -> None:
    evidence = Evidence("a")
    teach(evidence, (draft("a", "three", valid=False),), [outcome("a", 0.0)], schema=True)
    assert (evidence.silent[0], evidence.wrong[0, 0]) == (1.0, 0.0)
    assert evidence.shifts(np.array([0]), evidence.marks(np.array([0]), np.array([-1]), 1))[0] < 0.0


def test_half_an_answer_teaches_nothing_and_a_loop_is_not_usual() -> None:
    evidence = Evidence("ab")
    said = (draft("a", "Ro", finish="cancelled"), draft("b", LOOP, -0.1, finish="length"))
    teach(evidence, said, [outcome("a", 0.0)], schema=False)
    assert not evidence.asked.any()
    assert not evidence.doubt.any()


def test_nobody_who_was_not_told_of_is_learned_about() -> None:
    evidence = Evidence("ab")
    teach(evidence, (draft("a", "Rome", None), draft("b", "Paris", None)), [outcome("b", 1.0)], schema=False)
    assert evidence.asked.tolist() == [0.0, 1.0]


def test_the_usual_doubt_is_known_after_a_hundred_drafts() -> None:
    evidence = Evidence("a")
    learned = [teach(evidence, (draft("a", "Rome"),), [], schema=False) for _ in range(103)]
    assert learned == [True] * 100 + [False] * 3


def test_a_user_s_word_holds_for_all_who_said_the_same() -> None:
    told = [kept("a", 0), kept("b", 0, doubt=None), kept("c", 2)]
    names, learn = rating(told, outcome("b", 0.0, "user"))
    assert names == ["a", "b"]
    evidence = Evidence("cba")
    assert learn(evidence)
    assert evidence.asked.tolist() == [0.0, 1.0, 1.0]
    assert not evidence.right.any()
    assert (evidence.wrong[1, 2], evidence.same[1, 2]) == (1.0, 1.0)
    assert evidence.marked.sum(0).tolist() == [0.0, 1.0, 2.0]  # length, and doubt where it is known


def test_a_user_s_word_about_no_answer_holds_for_its_author() -> None:
    told = [kept("a", -1), kept("b", -1)]
    names, learn = rating(told, outcome("a", 0.0, "user"))
    evidence = Evidence(names)
    assert names == ["a"]
    assert learn(evidence)
    assert evidence.silent.tolist() == [1.0]


def test_a_turn_that_kept_nothing_teaches_nothing() -> None:
    names, learn = rating((), outcome("a", 1.0, "user"))
    assert names == []
    assert not learn(Evidence(names))
