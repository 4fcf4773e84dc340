"""Salient memory keeps the newest of messages that say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.memory.db import Database
from sage.memory.duplicates import merge_duplicates
from sage.memory.passages import PassageStore, Said
from sage.memory.salient import SalientMemory

LONG = "My sister lives in the old house at the river."


class Home:
    def __init__(self, path: Path) -> None:
        self.db = Database(path / "sage.db")
        self.salient = SalientMemory(self.db)

    def say(self, text: str, *, speaker: str = "user", namespace: str = "me") -> int:
        said = Said(namespace=namespace, session="s", speaker=speaker, at=1000.0, text=text)
        ident = PassageStore(self.db).add(said)
        self.salient.hear([ident])
        return ident

    def strength(self, namespace: str = "me") -> dict[int, float]:
        return dict(self.salient.strengths(namespace, now=1000.0, most=1000))


@pytest.fixture
def there(home: Path) -> Iterator[Home]:
    made = Home(home)
    with made.db:
        yield made


def test_the_newest_keeps_the_strength_of_all(there: Home) -> None:
    ids = [there.say(LONG), there.say("Something else that was said then."), there.say(f" {LONG.upper()}\n")]
    before = there.strength()
    assert sum(merge_duplicates(there.db)) == 1
    after = there.strength()
    assert set(after) == {ids[1], ids[2]}
    odds = sum(before[ident] / (1.0 - before[ident]) for ident in (ids[0], ids[2]))
    assert after[ids[2]] == pytest.approx(odds / (1.0 + odds))
    assert after[ids[1]] == before[ids[1]]
    assert [row[0] for row in there.db.execute("SELECT id FROM passages")] == ids, "what was said stays"


def test_doing_it_again_changes_nothing(there: Home) -> None:
    for _ in range(5):
        there.say(LONG)
    assert sum(merge_duplicates(there.db)) == 4
    before = there.strength()
    assert sum(merge_duplicates(there.db)) == 0
    assert there.strength() == before


def test_what_others_say_and_short_words_are_not_the_same(there: Home) -> None:
    there.say(LONG)
    there.say(LONG, speaker="assistant")
    there.say(LONG, namespace="you")
    there.say("Yes, please.")
    there.say("Yes, please.")
    assert sum(merge_duplicates(there.db)) == 0


def test_copies_that_lie_far_apart_are_found(there: Home) -> None:
    with there.db.transaction():
        there.say(LONG)
        for number in range(1100):
            there.say(f"Message number {number} is about nothing at all.")
        last = there.say(LONG)
    pieces = list(merge_duplicates(there.db))
    assert len(pieces) == 3
    assert sum(pieces) == 1
    assert last in there.strength()
