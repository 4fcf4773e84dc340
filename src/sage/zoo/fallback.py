"""When the chosen candidate cannot answer, the next one does.

Owns: which failures pass the work on. Must not know: how candidates answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sage.errors import (
    BackendMissing,
    ContextTooLong,
    DeadlineExceeded,
    DoesNotFit,
    LoadFailed,
    NoCandidate,
    RemoteFailed,
    SageError,
    UnsafeFile,
    WeightsMissing,
    WorkerDied,
)
from sage.types import Failure

__all__ = ["PASSES_ON", "first_that_answers"]

T = TypeVar("T")

PASSES_ON: tuple[type[SageError], ...] = (
    BackendMissing,
    ContextTooLong,
    DeadlineExceeded,
    DoesNotFit,
    LoadFailed,
    RemoteFailed,
    UnsafeFile,
    WeightsMissing,
    WorkerDied,
)
"""Failures of one candidate, not of the request: another candidate may do better."""


def first_that_answers(
    names: Sequence[str], attempt: Callable[[str], T], on_failure: Callable[[Failure], None]
) -> tuple[str, T]:
    """Try each name in order; every failure is reported before the next attempt.

    Raises:
        SageError: the failure itself where all failed alike, else NoCandidate that lists them all.
    """
    failures: list[tuple[str, SageError]] = []
    for name in names:
        try:
            return name, attempt(name)
        except PASSES_ON as error:
            failures.append((name, error))
            on_failure(Failure(name=name, error=error.name, message=error.message))
    if len({type(error) for _, error in failures}) == 1:
        raise failures[0][1]
    tried = "; ".join(f"{name}: {error.message}" for name, error in failures)
    raise NoCandidate(f"No model could answer. {tried or 'There was none to try.'}", mend="sage doctor")
