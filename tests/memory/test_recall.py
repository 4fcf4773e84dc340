"""What a session brings back: the newest whole turns that fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.clock import FakeClock
from sage.memory.db import Database
from sage.memory.recall import MOST_TURNS, recall_session
from sage.memory.verbatim import TurnStatus, VerbatimStore
from sage.types import Message, Situation, new_id


@pytest.fixture
def store(home: Path) -> Iterator[VerbatimStore]:
    with Database(home / "sage.db") as db:
        yield VerbatimStore(db, FakeClock())


def add(
    store: VerbatimStore, question: str, answer: str, *, session: str = "s", status: TurnStatus = "done"
) -> None:
    situation = Situation(
        messages=(Message(role="system", content="Be brief."), Message(role="user", content=question)),
        kind="fact",
        prompt_tokens=3,
        max_tokens=16,
        session=session,
    )
    turn = new_id("turn")
    store.begin(turn, situation)
    if status != "running":
        store.finish(turn, status=status, answer=answer, model="a", usage=None, irp=None, atp=None)


def recalled(store: VerbatimStore, budget: int, session: str = "s") -> list[str]:
    """Contents; a token is a character here."""
    messages = recall_session(store, session, budget=budget, count_tokens=len)
    assert [m.role for m in messages] == ["user", "assistant"] * (len(messages) // 2)
    return [m.content for m in messages]


def test_nothing_was_said(store: VerbatimStore) -> None:
    assert recalled(store, 1000) == []


def test_oldest_first_and_without_system_messages(store: VerbatimStore) -> None:
    add(store, "q1", "a1")
    add(store, "q2", "a2")
    assert recalled(store, 1000) == ["q1", "a1", "q2", "a2"]


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (12, ["q1", "a1", "q2", "a2", "q3", "a3"]),
        (11, ["q2", "a2", "q3", "a3"]),
        (4, ["q3", "a3"]),
        (3, []),
        (0, []),
        (-500, []),
    ],
)
def test_the_newest_that_fit(budget: int, kept: list[str], store: VerbatimStore) -> None:
    for number in (1, 2, 3):
        add(store, f"q{number}", f"a{number}")
    assert recalled(store, budget) == kept


def test_there_are_no_gaps(store: VerbatimStore) -> None:
    add(store, "q1", "a1")
    add(store, "q2", "long " * 20)
    add(store, "q3", "a3")
    assert recalled(store, 50) == ["q3", "a3"]  # q1 would fit, but not without what followed


def test_other_sessions_stay_apart(store: VerbatimStore) -> None:
    add(store, "mine", "yes")
    add(store, "theirs", "no", session="other")
    assert recalled(store, 1000) == ["mine", "yes"]
    assert recalled(store, 1000, "unknown") == []


@pytest.mark.parametrize("status", ["failed", "interrupted", "abandoned", "running"])
def test_only_what_was_answered_comes_back(status: TurnStatus, store: VerbatimStore) -> None:
    add(store, "q1", "a1")
    add(store, "q2", "half", status=status)
    assert recalled(store, 1000) == ["q1", "a1"]


def test_no_more_turns_than_any_context_holds(store: VerbatimStore) -> None:
    for number in range(MOST_TURNS + 3):
        add(store, f"q{number}", "a")
    messages = recalled(store, 10**9)
    assert len(messages) == 2 * MOST_TURNS
    assert (messages[0], messages[-2]) == ("q3", f"q{MOST_TURNS + 2}")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), max_size=9), st.text("ab", max_size=9)), max_size=6
    ),
    budget=st.integers(-5, 80),
)
def test_it_is_always_the_longest_end_that_fits(
    said: list[tuple[str, str]], budget: int, store: VerbatimStore
) -> None:
    session = new_id("session")
    for question, answer in said:
        add(store, question, answer, session=session)
    kept = recalled(store, budget, session)
    flat = [text for pair in said for text in pair]
    assert kept == flat[len(flat) - len(kept) :]
    assert sum(map(len, kept)) <= max(budget, 0)
    if len(kept) < len(flat):
        assert sum(map(len, flat[-len(kept) - 2 :])) > budget
