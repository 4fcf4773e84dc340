"""Who may not do the work, and what is said when nobody may."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.filters import Limits, allowed, nobody, why_not
from sage.economy.pool import Pool
from sage.errors import (
    BudgetSpent,
    ContextTooLong,
    DeadlineExceeded,
    DoesNotFit,
    NoCandidate,
    SageError,
    UnsafeFile,
    WeightsMissing,
)
from sage.types import Candidate, Situation

Make = Callable[..., Candidate]
MakeSituation = Callable[..., Situation]

PLENTY = Limits(atp=100.0, capacity=1000.0, memory_bytes=1_000_000_000)
CEILINGS = {"deadline_s": 20.0, "max_atp": 110.0, "max_usd": 0.5}

# What removes a candidate: (what is wrong with it, the error, its exit code, what the message must say).
FILTERS: dict[str, tuple[dict[str, Any], type[SageError], int, str]] = {
    "weights": ({"unavailable": WeightsMissing("its weights are not here")}, WeightsMissing, 3, "not here"),
    "unsafe": ({"unavailable": UnsafeFile("bad header")}, UnsafeFile, 5, "bad header"),
    "capability": ({"capabilities": frozenset({"image"})}, NoCandidate, 4, "cannot do text"),
    "price": ({"est_run_s": math.nan}, NoCandidate, 4, "price is not a number"),
    "context": ({"context_length": 10}, ContextTooLong, 2, "about 10 tokens, its context holds 10"),
    "memory": ({"memory_bytes": 1_500_000_000}, DoesNotFit, 4, "needs 1500 MB of memory, 1000 MB are free"),
    "atp": ({"est_run_s": 100.5}, BudgetSpent, 4, "about 100.5 ATP, 100.0 are left"),
    "money": ({"est_usd": 0.75}, BudgetSpent, 4, "about $0.7500, this request may cost $0.5000"),
    "deadline": ({"est_run_s": 50.0}, DeadlineExceeded, 4, "about 50.0 s, the deadline is 20.0 s"),
}


def rejected(situation: Situation, candidates: list[Candidate], limits: Limits = PLENTY) -> dict[str, str]:
    """Why each candidate that may not do it may not."""
    pool = Pool(candidates)
    ok = allowed(situation, pool, limits)
    return {name: why_not(situation, pool, limits, i).why for i, name in enumerate(pool.names) if not ok[i]}


def error_of(
    situation: Situation, candidates: list[Candidate], pinned: str | None = None, limits: Limits = PLENTY
) -> SageError:
    """The error where nobody may."""
    pool = Pool(candidates)
    ok = allowed(situation, pool, limits)
    reasons = {n: why_not(situation, pool, limits, i) for i, n in enumerate(pool.names) if not ok[i]}
    assert pinned in reasons if pinned else len(reasons) == len(pool)
    return nobody(reasons, pinned)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_removes_everyone_names_the_error(
    name: str, make_candidate: Make, make_situation: MakeSituation
) -> None:
    wrong, kind, exit_code, says = FILTERS[name]
    error = error_of(make_situation(**CEILINGS), [make_candidate("a", **wrong), make_candidate("b", **wrong)])
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert error.message.count(says) == 2
    assert "a: " in error.message
    assert "b: " in error.message


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_removes_only_whom_it_must(
    name: str, make_candidate: Make, make_situation: MakeSituation
) -> None:
    wrong, _, _, says = FILTERS[name]
    why = rejected(make_situation(**CEILINGS), [make_candidate("a", **wrong), make_candidate("b")])
    assert list(why) == ["a"]
    assert says in why["a"]


@pytest.mark.parametrize("name", ["memory", "context", "atp", "money", "deadline"])
def test_what_can_be_mended_says_how(name: str, make_candidate: Make, make_situation: MakeSituation) -> None:
    assert error_of(make_situation(**CEILINGS), [make_candidate("a", **FILTERS[name][0])]).mend


@pytest.mark.parametrize(
    "fits",
    [{"context_length": 11}, {"memory_bytes": 1_000_000_000}, {"est_run_s": 20.0}, {"est_usd": 0.5}],
    ids=["context", "memory", "deadline", "money"],
)
def test_what_just_fits_stays(
    fits: dict[str, Any], make_candidate: Make, make_situation: MakeSituation
) -> None:
    assert rejected(make_situation(**CEILINGS), [make_candidate("a", **fits)]) == {}


def test_the_last_atp_may_be_spent(make_candidate: Make, make_situation: MakeSituation) -> None:
    limits = Limits(atp=1.0, capacity=1000.0, memory_bytes=10**9)
    why = rejected(
        make_situation(), [make_candidate("a", est_run_s=1.0), make_candidate("b", est_run_s=1.01)], limits
    )
    assert list(why) == ["b"]


def test_a_full_budget_may_try_what_no_budget_could_pay(
    make_candidate: Make, make_situation: MakeSituation
) -> None:
    full = Limits(atp=10.0, capacity=10.0, memory_bytes=10**9)
    assert rejected(make_situation(), [make_candidate("a", est_run_s=500.0)], full) == {}


def test_a_request_may_set_a_lower_ceiling_than_the_budget(
    make_candidate: Make, make_situation: MakeSituation
) -> None:
    candidates = [make_candidate("a", est_run_s=5.0), make_candidate("b", est_run_s=5.1)]
    assert rejected(make_situation(max_atp=5.0), candidates) == {
        "b": "would cost about 5.1 ATP, this request may cost 5.0"
    }
    assert type(error_of(make_situation(max_atp=1.0), candidates)) is BudgetSpent


def test_the_time_to_load_counts_towards_the_deadline(
    make_candidate: Make, make_situation: MakeSituation
) -> None:
    cold = make_candidate("cold", est_load_s=15.0, est_run_s=6.0)
    assert list(rejected(make_situation(deadline_s=20.0), [cold, make_candidate("b")])) == ["cold"]


def test_what_is_loaded_needs_no_more_memory(make_candidate: Make, make_situation: MakeSituation) -> None:
    limits = Limits(atp=100.0, capacity=1000.0, memory_bytes=0)
    loaded = make_candidate("a", resident=True, memory_bytes=10**12)
    assert rejected(make_situation(), [loaded], limits) == {}


@pytest.mark.parametrize("seed", range(3))
def test_mixed_causes_list_every_candidate(
    seed: int, make_candidate: Make, make_situation: MakeSituation
) -> None:
    candidates = [make_candidate(name, **wrong) for name, (wrong, *_) in FILTERS.items()]
    random.Random(seed).shuffle(candidates)  # noqa: S311
    error = error_of(make_situation(**CEILINGS), candidates)
    assert type(error) is NoCandidate
    for name, (_, _, _, says) in FILTERS.items():
        assert re.search(rf"{name}: [^;]*{re.escape(says)}", error.message)


def test_nobody_at_all_says_how_to_fill_the_pool(make_situation: MakeSituation) -> None:
    error = error_of(make_situation(), [])
    assert type(error) is NoCandidate
    assert "no model to choose from" in error.message
    assert error.mend == "sage models pull"


def test_what_was_never_pulled_is_no_cause_beside_another(
    make_candidate: Make, make_situation: MakeSituation
) -> None:
    gone = make_candidate("gone", unavailable=WeightsMissing("not here", mend="sage models pull gone"))
    assert type(error_of(make_situation(), [gone, make_candidate("b", context_length=1)])) is ContextTooLong
    assert error_of(make_situation(), [gone]).mend == "sage models pull"
    assert error_of(make_situation(), [gone], pinned="gone").mend == "sage models pull gone"


def test_the_error_of_a_pin_is_about_the_pin(make_candidate: Make, make_situation: MakeSituation) -> None:
    candidates = [make_candidate("big", memory_bytes=10**12), make_candidate("long", context_length=1)]
    error = error_of(make_situation(), candidates, pinned="long")
    assert type(error) is ContextTooLong
    assert error.message.startswith("long cannot do this.")
    assert "big" not in error.message


figures = st.fixed_dictionaries(
    {
        "capabilities": st.sets(st.sampled_from(["text", "image"])).map(frozenset),
        "context_length": st.integers(1, 30),
        "memory_bytes": st.integers(0, 200),
        "resident": st.booleans(),
        "est_load_s": st.floats(0.0, 5.0) | st.just(math.nan),
        "est_run_s": st.floats(0.0, 5.0),
        "est_usd": st.floats(0.0, 2.0),
    }
)


@given(
    made=st.lists(figures, min_size=1, max_size=6),
    ceilings=st.fixed_dictionaries(
        {},
        optional={"deadline_s": st.floats(0.1, 9), "max_atp": st.floats(0, 9), "max_usd": st.floats(0, 2)},
    ),
    atp=st.floats(0.0, 9.0),
)
def test_each_refusal_is_true_and_nobody_else_is_refused(
    made: list[dict[str, Any]],
    ceilings: dict[str, float],
    atp: float,
    make_candidate: Make,
    make_situation: MakeSituation,
) -> None:
    limits = Limits(atp=atp, capacity=9.0, memory_bytes=100)
    situation = make_situation(**ceilings)
    pool = Pool([make_candidate(str(i), **values) for i, values in enumerate(made)])
    infinity = math.inf
    for i, c in enumerate(pool.candidates):
        seconds = c.est_load_s + c.est_run_s
        failed = {
            NoCandidate: math.isnan(seconds) or "text" not in c.capabilities,
            ContextTooLong: c.context_length <= 10,
            DoesNotFit: not c.resident and c.memory_bytes > 100,
            BudgetSpent: (atp < 9.0 and seconds > atp)
            or seconds > situation_or(situation.max_atp, infinity)
            or c.est_usd > situation_or(situation.max_usd, infinity),
            DeadlineExceeded: seconds > situation_or(situation.deadline_s, infinity),
        }
        assert bool(allowed(situation, pool, limits)[i]) is not any(failed.values())
        if any(failed.values()):
            assert failed[why_not(situation, pool, limits, i).error]  # type: ignore[index]


def situation_or(ceiling: float | None, otherwise: float) -> float:
    return otherwise if ceiling is None else ceiling
