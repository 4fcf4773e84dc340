"""Structure of a text: every cell means what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.memory.structure import STRUCTURES, describe_structure, structure


@given(st.text(st.characters(exclude_categories=()), max_size=600), st.booleans(), st.booleans())
def test_every_text_has_a_cell(text: str, schema: bool, modality: bool) -> None:
    cell = structure(text, schema=schema, modality=modality)
    assert 0 <= cell < STRUCTURES
    assert ("schema" in describe_structure(cell)) == (schema and not modality)
    assert ("not text alone" in describe_structure(cell)) == modality


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "short"),
        ("Hello there", "short"),
        ("a" * 120, "short"),
        ("a" * 121, "medium"),
        ("a" * 400, "medium"),
        ("a" * 401, "long"),
        ("光合作用是什么", "not in Latin letters, short"),
        ("Übergröße café", "short"),
        ("def f(x): pass", "code, short"),
        ("What is 2 + 2", "numbers, short"),
        ("Pick one.\nA. yes\nB. no", "answer options, short"),
        ("Pick one.\n(A) yes\n (B) no", "answer options, short"),
        ("A. only one", "short"),
        ("select name from people", "code, short"),
    ],
)
def test_what_is_seen(text: str, words: str) -> None:
    assert describe_structure(structure(text)) == words


def test_every_cell_has_its_own_words() -> None:
    assert len({describe_structure(cell) for cell in range(STRUCTURES)}) == STRUCTURES == 144


@pytest.mark.parametrize("cell", [-1, STRUCTURES])
def test_no_such_cell(cell: int) -> None:
    with pytest.raises(ValueError, match="not a structure"):
        describe_structure(cell)
