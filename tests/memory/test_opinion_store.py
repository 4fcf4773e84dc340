"""What answers have shown is kept, fades, is shared, forgotten, bounded, and survives damage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sage.clock import FakeClock
from sage.economy.evidence import Evidence
from sage.memory.db import Database
from sage.memory.opinion_store import KEPT, OpinionStore

DAY_S = 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "sage.db") as database:
        yield database


@pytest.fixture
def store(db: Database, clock: FakeClock) -> OpinionStore:
    return OpinionStore(db, clock, half_life_days=30.0)


def told(*quality: float, groups: tuple[int, ...] | None = None) -> Callable[[Evidence], bool]:
    """All candidates answered, in one group unless told otherwise, and did this well."""

    def teach(evidence: Evidence) -> bool:
        many = len(evidence.names)
        at = np.array([groups or (0,) * many])
        marks = evidence.marks(np.arange(many), at[0], np.full(many, 4))[None]
        evidence.observe(np.ones((1, many), bool), at, np.array([quality]), marks)
        evidence.notice(np.arange(many), np.full(many, 0.4))
        return True

    return teach


def everything(evidence: Evidence) -> np.ndarray:
    fields = [field for field in Evidence.__slots__ if field != "names"]
    return np.concatenate([np.ravel(getattr(evidence, field)) for field in fields])


def test_nothing_is_known_of_those_that_never_answered(store: OpinionStore) -> None:
    empty = store.evidence(["a", "b"])
    assert empty.names == ("a", "b")
    assert not everything(empty).any()


def test_what_was_taught_is_kept_to_the_last_number(store: OpinionStore) -> None:
    right = Evidence(["a", "b", "c"])
    for quality, groups in (((1.0, 0.0, 0.0), (0, 1, 1)), ((0.0, 0.0, 0.5), (0, 1, -1))):
        store.learn(["a", "b", "c"], told(*quality, groups=groups))
        told(*quality, groups=groups)(right)
    assert everything(store.evidence(["a", "b", "c"])) == pytest.approx(everything(right))
    assert right.same[1, 2] == 1.0


def test_it_is_read_in_the_order_that_is_asked_for(store: OpinionStore) -> None:
    store.learn(["b", "a"], told(1.0, 0.0))
    store.learn(["c", "a"], told(0.0, 0.0))
    seen = store.evidence(["new", "a", "b", "c"])
    assert seen.asked.tolist() == [0.0, 2.0, 1.0, 1.0]
    assert seen.right.tolist() == [0.0, 0.0, 1.0, 0.0]
    assert (seen.wrong[1, 3], seen.wrong[3, 1], seen.wrong[1, 2]) == (1.0, 1.0, 0.0)
    assert (seen.wrong == seen.wrong.T).all()


def test_it_counts_half_after_a_half_life_and_not_more_when_the_clock_is_set_back(
    store: OpinionStore, clock: FakeClock
) -> None:
    store.learn(["a", "b"], told(0.0, 0.0))
    before = everything(store.evidence(["a", "b"]))
    clock.advance(30 * DAY_S)
    assert everything(store.evidence(["a", "b"])) == pytest.approx(before / 2)
    store.learn(["a", "b"], told(0.0, 0.0))
    assert everything(store.evidence(["a", "b"])) == pytest.approx(before * 1.5)
    clock.advance(-365 * DAY_S)
    assert everything(store.evidence(["a", "b"])) == pytest.approx(before * 1.5)


def test_another_process_is_seen(store: OpinionStore, db: Database, clock: FakeClock) -> None:
    store.evidence(["a"])
    with Database(db.path) as same:
        OpinionStore(same, clock, half_life_days=30.0).learn(["a"], told(1.0))
    assert store.evidence(["a"]).asked[0] == 1.0


def test_a_teacher_that_fails_changes_nothing(store: OpinionStore) -> None:
    store.learn(["a"], told(1.0))

    def fails(evidence: Evidence) -> bool:
        told(0.0)(evidence)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        store.learn(["a"], fails)
    assert store.evidence(["a"]).asked[0] == 1.0


def test_nothing_is_written_where_nothing_was_learned(store: OpinionStore, db: Database) -> None:
    store.learn(["a"], lambda _evidence: False)
    assert db.execute("SELECT * FROM opinions") == []


YEARS = 365 * DAY_S


def test_a_clock_that_is_far_back_wipes_nothing(store: OpinionStore, clock: FakeClock) -> None:
    for _ in range(8):
        store.learn(["a", "b"], told(0.0, 0.0))
    clock.advance(-50 * YEARS)  # a board that boots in 1970
    store.learn(["a", "b"], told(0.0, 0.0))
    store.learn(["new"], told(1.0))
    clock.advance(50 * YEARS)
    seen = store.evidence(["a", "b"])
    assert (seen.asked[0], seen.wrong[0, 1]) == (9.0, 9.0)
    store.learn(["new"], told(1.0))
    assert store.evidence(["new"]).asked[0] == 1.25


def test_a_clock_that_is_far_ahead_takes_three_quarters_at_most(
    store: OpinionStore, clock: FakeClock
) -> None:
    for _ in range(8):
        store.learn(["a", "b"], told(0.0, 0.0))
    clock.advance(20 * YEARS)
    store.learn(["a", "b"], told(0.0, 0.0))
    clock.advance(-20 * YEARS)
    store.learn(["a", "b"], told(0.0, 0.0))
    seen = store.evidence(["a", "b"])
    assert (seen.asked[0], seen.wrong[0, 1]) == (4.0, 4.0)


def test_who_is_heard_now_is_kept_whatever_the_clock_says(store: OpinionStore, clock: FakeClock) -> None:
    for number in range(KEPT):
        store.learn([f"m{number:03}"], told(1.0))
        clock.advance(1.0)
    clock.advance(-50 * YEARS)
    store.learn(["new"], told(1.0))
    assert store.evidence(["new", "m000", "m001"]).asked.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _row: b"\0",
        lambda _row: "text",
        lambda row: row + bytes(8),
        lambda row: np.array([np.nan]).tobytes() + row[8:],
        lambda row: np.array([-1.0]).tobytes() + row[8:],
        lambda row: np.array([0.5]).tobytes() + row[8:],  # more right than asked
        lambda row: row[:-8] + np.array([9.0]).tobytes(),  # a mark that was right more often than seen
    ],
)
def test_a_damaged_row_starts_anew_and_leaves_the_others(
    damage: Callable[[bytes], bytes | str], store: OpinionStore, db: Database
) -> None:
    store.learn(["a", "b"], told(1.0, 1.0))
    row = db.execute("SELECT counters FROM opinions WHERE candidate = 'a'")[0][0]
    db.execute("UPDATE opinions SET counters = ? WHERE candidate = 'a'", (damage(row),))
    assert store.evidence(["a", "b"]).asked.tolist() == [0.0, 1.0]
    store.learn(["a", "b"], told(1.0, 1.0))
    assert store.evidence(["a", "b"]).asked.tolist() == [1.0, pytest.approx(2.0)]


def test_a_damaged_pair_counts_as_none(store: OpinionStore, db: Database) -> None:
    store.learn(["a", "b"], told(0.0, 0.0))
    db.execute("UPDATE opinion_pairs SET same = wrong + 1")
    assert not store.evidence(["a", "b"]).wrong.any()


def test_those_heard_last_are_kept(store: OpinionStore, db: Database, clock: FakeClock) -> None:
    names = [f"m{number:03}" for number in range(KEPT + 5)]
    for one, other in itertools.pairwise(names):
        store.learn([one, other], told(0.0, 0.0))
        clock.advance(1.0)
    rows = {row[0] for row in db.execute("SELECT candidate FROM opinions")}
    assert rows == set(names[-KEPT:])
    pairs = db.execute("SELECT one, other FROM opinion_pairs")
    assert {name for pair in pairs for name in pair} == rows
    assert len(pairs) <= KEPT * (KEPT + 1) // 2
