"""Trust in a file: what comes back, and what is refused because it cannot be."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import sage.memory.trust_file
from sage.economy.context import Codebook, View
from sage.economy.trust import TrustBook
from sage.errors import SageError, UnsafeFile, UsageError
from sage.memory.trust_file import book_from_json, book_to_json
from sage.types import Outcome

NOW = 1_000_000.0
DAY = 86_400.0


def codebook(size: int = 3) -> Codebook:
    return Codebook([View(name="kind", weight=1.0, size=size)])


@pytest.fixture
def good() -> dict[str, Any]:
    book = TrustBook(codebook(), origin="node-a", half_life=30 * DAY, prior_strength=10.0)
    for number in range(3):
        outcome = Outcome(
            event_id=str(number),
            turn_id="turn-1",
            candidate="a",
            kind="fact",
            quality=1.0,
            source="verifier",
            at=NOW,
        )
        book.observe(outcome, book.codebook.alone("kind", number % 2))
    book.reset("b", NOW)
    found: dict[str, Any] = json.loads(book_to_json(book))
    return found


def read(found: dict[str, Any]) -> TrustBook:
    return book_from_json(json.dumps(found), codebook(), now=NOW)


def test_what_was_written_comes_back(good: dict[str, Any]) -> None:
    book = read(good)
    (row,) = book.rows()
    assert (row.origin, row.candidate, row.events, row.total) == ("node-a", "a", 3, 3.0)
    assert row.weights.tolist() == [2.0, 1.0, 0.0]
    assert dict(book.resets) == {"b": NOW}
    assert json.loads(book_to_json(book)) == good


@pytest.mark.parametrize(
    "change",
    [
        {"cells": [99, 1]},
        {"cells": [0, 0]},
        {"cells": [0.5, 1]},
        {"cells": [10**30, 1]},
        {"cells": [0, 1], "sums": [1.0]},
        {"total": float("nan")},
        {"total": -1.0},
        {"total": 3.5},
        {"total": 0.0, "weights": [1e6, 1e6], "sums": [0.0, 0.0]},
        {"weights": [3.1, 1.0]},
        {"weights": [1e307, 1e307], "sums": [1e307, 1e307]},
        {"weights": [-1.0, 1.0], "sums": [0.0, 0.0]},
        {"sums": [1e9, 0.0]},
        {"sums": [float("inf"), 0.0]},
        {"events": 1e30},
        {"events": 3.0},
        {"events": 2**53 + 1},
        {"events": -1},
        {"events": True},
        {"at": "now"},
        {"since": float("inf")},
        {"drift": {"level": 7.0}},
        {"drift": {"level": float("nan")}},
        {"drift": {"worse": 1e300}},
        {"drift": {"unheard": 0.0}},
        {"drift": {"\ud800": 0.0}},
        {"candidate": ""},
        {"candidate": "x" * 201},
        {"candidate": 7},
        {"candidate": "a\ud800"},
        {"origin": "\udfff"},
        {"origin": "x" * 1_000_000},
    ],
)
def test_a_row_that_cannot_be_is_refused(change: dict[str, object], good: dict[str, Any]) -> None:
    good["rows"][0].update(change)
    with pytest.raises(UnsafeFile) as refused:
        read(good)
    assert len(refused.value.message.encode()) < 1000, "it can be shown"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"rows": [{}]},
        {"rows": 3},
        {"rows": {"a": 1}},
        {"origin": None},
        {"codebook": "\ud800"},
        {"resets": []},
        {"resets": {"a" * 201: 1.0}},
        {"resets": {"\ud800": 1.0}},
        {"resets": {"a": float("nan")}},
    ],
)
def test_a_file_that_is_none_is_refused(change: dict[str, object], good: dict[str, Any]) -> None:
    good.update(change)
    with pytest.raises(UnsafeFile):
        read(good)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "1" * 5000])
def test_what_is_no_trust_at_all_is_refused(text: str) -> None:
    with pytest.raises(SageError):
        book_from_json(text, codebook(), now=NOW)


@pytest.mark.parametrize("many", [{"rows": [{}] * 11}, {"resets": {str(n): 1.0 for n in range(11)}}])
def test_nothing_is_cut_off_in_silence(
    many: dict[str, object], good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sage.memory.trust_file, "MAX_ROWS", 10)
    good.update(many)
    with pytest.raises(UnsafeFile, match=r"11 .*10"):
        read(good)


def test_a_book_of_another_codebook_is_refused(good: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="codebook"):
        book_from_json(json.dumps(good), codebook(4), now=NOW)


def test_a_file_from_the_future_does_not_outlast_what_is_learned_here(good: dict[str, Any]) -> None:
    good["rows"][0]["at"] = NOW + 3650 * DAY
    good["resets"]["b"] = NOW + 3650 * DAY
    book = read(good)
    assert [row.at for row in book.rows()] == [NOW]
    assert dict(book.resets) == {"b": NOW}


def test_the_most_that_a_file_may_claim_leaves_beliefs_that_are_numbers(good: dict[str, Any]) -> None:
    most = float(2**53)
    good["rows"][0].update(events=2**53, total=most, weights=[most] * 2, sums=[3 * most, -3 * most])
    book = TrustBook(codebook(), origin="here", half_life=30 * DAY, prior_strength=10.0)
    for number in range(20):
        good["rows"][0]["origin"] = f"node-{number}"
        book.merge(read(good), now=NOW)
    half = np.array([0.5, 0.5])
    for label in range(3):
        at = book.codebook.alone("kind", label)
        seen = book.beliefs(("a", "c"), at, priors=half, shifts=half * 0, now=NOW)
        assert np.isfinite(seen.mean).all()
        assert ((seen.mean >= 0.0) & (seen.mean <= 1.0)).all()
