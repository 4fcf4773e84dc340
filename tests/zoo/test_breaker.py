"""The breaker: who rests, for how long, and what ends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.errors import (
    ContextTooLong,
    DoesNotFit,
    LoadFailed,
    RateLimited,
    RemoteFailed,
    SageError,
    UsageError,
    WorkerDied,
)
from sage.zoo.breaker import FAILURES, FIRST_REST_S, FORGET_S, LONGEST_PLEA_S, LONGEST_REST_S, Breaker


def failing(times: int, error: SageError | None = None) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker.failed("m", error or LoadFailed("strange file"), now=0.0)
    return breaker


def test_a_few_failures_are_forgiven() -> None:
    breaker = failing(FAILURES - 1)
    assert breaker.state("m", 0.0) == "closed"
    assert breaker.refusal("m", 0.0) is None
    breaker.answered("m")
    breaker.failed("m", WorkerDied("dead"), 0.0)
    assert breaker.state("m", 0.0) == "closed"


def test_it_opens_rests_and_is_tried_again() -> None:
    breaker = failing(FAILURES)
    assert breaker.state("m", 0.0) == "open"
    refusal = breaker.refusal("m", 0.5)
    assert isinstance(refusal, LoadFailed)
    assert refusal.message == "m failed 3 times in a row and rests for 2 s. The last failure: strange file"
    assert refusal.mend
    assert breaker.resting(0.5) == {"m": FIRST_REST_S}
    assert breaker.refusal("other", 0.5) is None
    assert breaker.state("m", FIRST_REST_S) == "half-open"
    assert breaker.refusal("m", FIRST_REST_S) is None
    assert breaker.resting(FIRST_REST_S) == {}
    breaker.answered("m")
    assert breaker.state("m", FIRST_REST_S) == "closed"


def test_each_failure_of_a_try_doubles_the_rest_up_to_a_cap() -> None:
    breaker, now, rests = failing(FAILURES), 0.0, []
    for _ in range(100):
        (end,) = breaker.resting(now).values()
        rests.append(end - now)
        now = end
        breaker.failed("m", LoadFailed("no"), now)
    assert rests[:3] == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S]
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_REST_S


@pytest.mark.parametrize("error", [DoesNotFit("full"), ContextTooLong("long"), UsageError("odd")])
def test_what_is_not_the_models_fault_does_not_count(error: SageError) -> None:
    assert failing(100, error).state("m", 0.0) == "closed"


@pytest.mark.parametrize("error", [LoadFailed("x"), WorkerDied("x"), RemoteFailed("x")])
def test_what_is_counts(error: SageError) -> None:
    assert failing(FAILURES, error).state("m", 0.0) == "open"


def test_a_server_that_asks_for_patience_gets_it_at_once() -> None:
    breaker = failing(1, RateLimited("slow down", retry_after_s=37.0))
    refusal = breaker.refusal("m", 7.0)
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after_s == 30.0
    assert "30 s" in refusal.message
    assert breaker.state("m", 37.0) == "half-open"


def test_a_server_that_does_not_say_how_long_rests_a_little() -> None:
    assert failing(1, RateLimited("slow down")).resting(0.0) == {"m": FIRST_REST_S}


def test_a_server_that_asks_for_years_does_not_get_them() -> None:
    assert failing(1, RateLimited("no", retry_after_s=1e12)).resting(0.0) == {"m": LONGEST_PLEA_S}


@given(st.lists(st.tuples(st.sampled_from(["fail", "answer"]), st.floats(0, 1000)), max_size=60))
def test_a_rest_always_ends_and_an_answer_always_closes(steps: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for what, seconds in steps:
        now += seconds
        if what == "fail":
            breaker.failed("m", LoadFailed("no"), now)
            assert breaker.resting(now).get("m", now) <= now + LONGEST_REST_S
        else:
            breaker.answered("m")
            assert breaker.state("m", now) == "closed"
        assert (breaker.refusal("m", now) is not None) == ("m" in breaker.resting(now))


def test_a_silent_server_rests_at_once_and_at_least_as_long_as_it_was_waited_for() -> None:
    breaker, now, rests = Breaker(), 0.0, []
    for _ in range(8):
        breaker.failed("m", RemoteFailed("does not answer", silent_s=5.0), now)
        (end,) = breaker.resting(now).values()
        rests.append(end - now)
        now = end
    assert rests == [5.0, 5.0, 8.0, 16.0, 32.0, 50.0, 50.0, 50.0]


def test_what_was_asked_with_little_time_is_not_given_up_for_long() -> None:
    breaker = Breaker()
    for _ in range(20):
        breaker.failed("m", RemoteFailed("does not answer", silent_s=0.1), 0.0)
    assert breaker.resting(0.0) == {"m": 1.0}


def test_a_failure_of_another_kind_does_not_shorten_a_rest() -> None:
    breaker = failing(1, RateLimited("slow down", retry_after_s=60.0))
    breaker.failed("m", LoadFailed("crash"), 1.0)
    assert breaker.resting(1.0) == {"m": 60.0}


def test_failures_of_other_days_are_not_in_a_row() -> None:
    breaker, day = failing(FAILURES - 1), FORGET_S + 1.0
    for again in range(1, 10):
        breaker.failed("m", LoadFailed("crash"), again * day)
        assert breaker.state("m", again * day) == "closed"
    for _ in range(FAILURES):
        breaker.failed("m", LoadFailed("crash"), 10 * day)
    assert breaker.state("m", 10 * day + FIRST_REST_S) == "half-open"
    assert breaker.state("m", 11 * day) == "closed"


def test_a_load_ends_a_rest_but_not_one_that_the_server_asked_for() -> None:
    breaker = failing(FAILURES)
    breaker.loaded("m")
    assert breaker.sick == {}
    breaker = failing(1, RateLimited("slow down", retry_after_s=3600.0))
    breaker.failed("m", LoadFailed("crash"), 1.0)
    breaker.loaded("m")
    assert breaker.resting(1.0) == {"m": 3600.0}


def test_a_half_open_model_that_fails_opens_again() -> None:
    breaker = failing(1, RateLimited("slow down", retry_after_s=60.0))
    breaker.failed("m", LoadFailed("crash"), 60.0)
    assert breaker.state("m", 60.0) == "open"


def test_it_goes_on_from_what_was_known_once() -> None:
    first, second = failing(FAILURES), Breaker()
    second.recall(first.sick)
    assert second.resting(0.0) == first.resting(0.0)
    second.answered("m")
    assert first.sick  # a copy, not the same
