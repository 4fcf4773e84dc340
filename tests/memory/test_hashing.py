"""Hashed views: the same on every machine, unit rows for any text, alike for texts that are alike."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sage.memory.hashing import HASHED_VIEWS, HashingEmbedder, hash_characters, hash_words

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)  # lone surrogates too


WORD_BUCKETS, WORD_SIGNS = [39, 60, 66, 114, 142, 157], [-1, 1, 1, 1, -1, 1]
CHAR_BUCKETS = [3, 5, 9, 36, 53, 61]


@given(st.lists(ANY_TEXT, max_size=4))
def test_rows_are_unit_or_zero(texts: list[str]) -> None:
    found = HashingEmbedder().embed(texts)
    assert {view: rows.shape for view, rows in found.items()} == {
        view: (len(texts), width) for view, width in HASHED_VIEWS.items()
    }
    for rows in found.values():
        assert rows.dtype == np.float32
        length = np.linalg.norm(rows, axis=1)
        assert np.all((np.abs(length - 1.0) < 1e-5) | (length == 0.0))
        blank = np.array([not text.strip() for text in texts], bool)
        assert not length[blank].any()


@given(ANY_TEXT, ANY_TEXT)
def test_a_text_has_one_vector_whoever_stands_beside_it(text: str, other: str) -> None:
    alone, beside = HashingEmbedder().embed([text]), HashingEmbedder().embed([other, text])
    for view in HASHED_VIEWS:
        np.testing.assert_array_equal(alone[view][0], beside[view][1])


def test_the_hash_is_the_one_that_was_shipped() -> None:
    """Centroids were fitted on these numbers: a change of them needs a new codebook."""
    word, char = hash_words("What is 12 + 7? É 日本"), hash_characters("What is 12 + 7? É 日本")
    assert [int(i) for i in np.flatnonzero(word)[:6]] == WORD_BUCKETS
    assert [int(i) for i in np.flatnonzero(char)[:6]] == CHAR_BUCKETS
    assert np.sign(word[WORD_BUCKETS]).astype(int).tolist() == WORD_SIGNS


def test_case_does_not_count_and_numbers_look_alike_to_characters() -> None:
    np.testing.assert_array_equal(hash_words("Berlin IS big"), hash_words("berlin is big"))
    np.testing.assert_array_equal(hash_characters("add 12 and 7"), hash_characters("add 98 and 3"))
    assert hash_words("add 12 and 7") @ hash_words("add 98 and 3") < 0.9


def test_alike_texts_are_near() -> None:
    def near(a: str, b: str) -> float:
        return float(hash_words(a) @ hash_words(b) + hash_characters(a) @ hash_characters(b))

    question = "What is the capital of France?"
    assert (
        near(question, "What is the capital of Peru?") > near(question, "def add(a, b): return a + b") + 0.5
    )


def test_only_the_ends_of_a_long_text_are_read() -> None:
    middle = "x" * 1_000_000
    long = "a question " * 200 + middle + "what is asked " * 200
    assert hash_words(long) @ hash_words("a question " * 200) > 0.3
    assert hash_words(long) @ hash_words("what is asked " * 200) > 0.3
    started = time.perf_counter()
    HashingEmbedder().embed([long * 5])
    assert time.perf_counter() - started < 0.5
