"""Which failures pass the work on, and what is raised when nobody could do it."""

from __future__ import annotations

import pytest

from sage import errors
from sage.errors import LoadFailed, NoCandidate, SageError, UsageError, WorkerDied
from sage.types import Failure
from sage.zoo.fallback import PASSES_ON, first_that_answers


class Attempts:
    """Answers for whoever has no failure; notes the order of everything."""

    def __init__(self, **failures: BaseException) -> None:
        self.failures = failures
        self.log: list[str] = []

    def attempt(self, name: str) -> str:
        self.log.append(f"ask {name}")
        if name in self.failures:
            raise self.failures[name]
        return f"from {name}"

    def failed(self, failure: Failure) -> None:
        self.log.append(f"{failure.name} failed: {failure.error}, {failure.message}")

    def run(self, *names: str) -> tuple[str, str]:
        return first_that_answers(names, self.attempt, self.failed)


def test_the_first_answers_and_nobody_else_is_asked() -> None:
    attempts = Attempts()
    assert attempts.run("a", "b") == ("a", "from a")
    assert attempts.log == ["ask a"]


def test_a_failure_is_told_before_the_next_is_asked() -> None:
    attempts = Attempts(a=WorkerDied("crash"), b=LoadFailed("bad"))
    assert attempts.run("a", "b", "c") == ("c", "from c")
    assert attempts.log == [
        "ask a",
        "a failed: WorkerDied, crash",
        "ask b",
        "b failed: LoadFailed, bad",
        "ask c",
    ]


@pytest.mark.parametrize("kind", PASSES_ON)
def test_a_failure_of_one_candidate_passes_on(kind: type[SageError]) -> None:
    assert Attempts(a=kind("x")).run("a", "b")[0] == "b"


@pytest.mark.parametrize(
    "kind",
    [UsageError, errors.ConfigError, errors.StoreError, errors.Interrupted, KeyboardInterrupt, ValueError],
)
def test_a_failure_of_the_request_or_of_sage_does_not(kind: type[BaseException]) -> None:
    attempts = Attempts(a=kind("x"))
    with pytest.raises(kind):
        attempts.run("a", "b")
    assert attempts.log == ["ask a"]


def test_all_failing_alike_keeps_the_type_and_the_first_message() -> None:
    with pytest.raises(WorkerDied, match=r"^one$"):
        Attempts(a=WorkerDied("one"), b=WorkerDied("two")).run("a", "b")


def test_all_failing_differently_lists_them() -> None:
    with pytest.raises(NoCandidate) as caught:
        Attempts(a=WorkerDied("one"), b=LoadFailed("two")).run("a", "b")
    assert "a: one; b: two" in caught.value.message
    assert caught.value.mend


def test_nobody_to_try() -> None:
    with pytest.raises(NoCandidate, match="none to try"):
        Attempts().run()
