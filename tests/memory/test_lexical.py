"""Words, stems, and what shows at a glance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.memory.lexical import glance, name_key, question, term_key, terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("painting", "painted"),
        ("hobbies", "hobby"),
        ("runs", "running"),
        ("Anna's", "anna"),
        ("cafés", "café"),
    ],
)
def test_forms_of_a_word_have_one_stem(one: str, other: str) -> None:
    assert terms(one) == terms(other)


def test_different_words_stay_apart() -> None:
    assert len({*terms("bus busy us was glass heron")}) == 6


def test_text_without_spaces_is_found_by_its_signs() -> None:
    assert set(terms("东京")) <= set(terms("我住在东京"))


@given(st.text(max_size=60))
def test_any_text_has_terms_and_keys_that_fit_the_database(text: str) -> None:
    assert all(0 <= term_key(term) < 2**63 for term in terms(text))
    glance(text)
    question(text)


def test_endless_words_are_left_out() -> None:
    assert terms("x" * 10_000_000) == []
    assert len(terms("a b " * 1_000_000)) < 10_000


def test_a_question_is_its_telling_words() -> None:
    asked = question("When did Anna go to the museum in May 2023?", frozenset({name_key("Anna")}))
    assert asked.terms == ("go", "museum", "2023")
    assert asked.when
    assert (asked.months, asked.years) == ({5}, {2023})
    assert question("May I ask?").months == frozenset()


def test_a_question_of_common_words_keeps_them() -> None:
    assert question("What is it?").terms


def test_a_glance() -> None:
    seen = glance("I moved last week, did Boris tell you?")
    assert (seen.first_person, seen.asks, seen.time, seen.change, seen.names) == (True, True, True, True, 1)
    plain = glance("ok")
    assert (plain.first_person, plain.asks, plain.time, plain.change, plain.names) == (
        False,
        False,
        False,
        False,
        0,
    )
