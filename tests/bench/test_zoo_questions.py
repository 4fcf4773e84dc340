"""The questions of the zoo: the same for the same seed, answerable, and judged by the answer alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.bench.zoo.questions import CATEGORIES, said, zoo_questions

FULL = zoo_questions(0, 16)


def test_sixteen_of_each_kind_each_asked_once() -> None:
    assert len(CATEGORIES) >= 12
    assert {kind: sum(q.category == kind for q in FULL) for kind in CATEGORIES} == dict.fromkeys(
        CATEGORIES, 16
    )
    assert len({q.prompt for q in FULL}) == len({q.id for q in FULL}) == len(FULL)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4))
def test_fewer_are_the_first_of_more(seed: int, count: int) -> None:
    few = {q.id: (q.prompt, q.shots, q.answer) for q in zoo_questions(seed, count)}
    many = {q.id: (q.prompt, q.shots, q.answer) for q in zoo_questions(seed, count + 2)}
    assert few.items() <= many.items()


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_the_right_answer_is_right_and_another_kind_of_answer_is_not(seed: int) -> None:
    for question in zoo_questions(seed, 4):
        assert question.verify(question.answer) == 1.0, question.prompt
        for wrong in ("", "I do not know.", question.prompt, "\n\n"):
            assert question.verify(wrong) == 0.0, question.prompt


def test_no_example_gives_the_question_away() -> None:
    asked = {q.prompt for q in FULL}
    for question in FULL:
        assert not asked & {prompt for prompt, _ in question.shots}
        assert len({prompt for prompt, _ in question.shots}) == 3


def test_labels_are_balanced() -> None:
    for kind, labels in (("yes/no facts", {"Yes", "No"}), ("sentiment", {"Positive", "Negative"})):
        answers = [q.answer for q in FULL if q.category == kind]
        assert {label: answers.count(label) for label in labels} == dict.fromkeys(labels, 8)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Rome.", "rome"),
        ("  \n 'Rome'\nIt is in Italy.", "rome"),
        ("12 + 30 = 42.", "42"),
        ("**Yes**", "yes"),
        ("The capital is Rome", "the capital is rome"),
        ("", ""),
    ],
)
def test_what_an_answer_comes_down_to(answer: str, text: str) -> None:
    assert said(answer) == text


def test_an_expression_is_right_if_it_computes_the_same() -> None:
    reverse = next(q for q in FULL if "reverse of the list x" in q.prompt)
    for right in ("x[::-1]", "`list(reversed(x))`", "[x[-i - 1] for i in range(len(x))]"):
        assert reverse.verify(right) == 1.0
    for wrong in ("x", "x.reverse()", "import os", "x[::-1", "len(x)"):
        assert reverse.verify(wrong) == 0.0


def test_an_extraction_must_be_the_very_object() -> None:
    question = next(q for q in FULL if q.schema is not None)
    value = json.loads(question.answer)
    assert question.verify(json.dumps(value, indent=1)) == 1.0
    assert question.verify(json.dumps({**value, "year": value["year"] + 1})) == 0.0


def test_too_many_are_refused() -> None:
    with pytest.raises(ValueError, match="questions of"):
        zoo_questions(0, 500)
