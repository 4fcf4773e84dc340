"""A model that keeps failing is left alone for a while, and then tried again.

Owns: who rests, until when, and why. Pure: failures and times in, refusals out. Must not know: who waits.

    closed      it may be asked; FAILURES failures in a row, or one plea of a server for patience, open it
    open        it rests: FIRST_REST_S, twice as long after every further failure, at most LONGEST_REST_S
    half-open   the rest is over: the next failure opens it again, the next answer closes it

The residency serves one request of a model at a time, so a half-open model is tried by one request alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sage.errors import LoadFailed, RateLimited, RemoteFailed, SageError, WorkerDied

__all__ = ["Breaker"]

OPENS_ON: tuple[type[SageError], ...] = (LoadFailed, WorkerDied, RemoteFailed)
"""Failures of the model itself. What does not fit, or was asked wrongly, says nothing about the next time."""

FAILURES = 3
"""One crash may be the prompt's doing, two a coincidence."""

FIRST_REST_S = 2.0
LONGEST_REST_S = 300.0
"""Two seconds let a server restart; five minutes are soon enough to find out that somebody mended it."""

LONGEST_PLEA_S = 86_400.0
"""A server may ask for a day; a header that says years would take its model away for good."""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    rests: int = 0
    until: float = 0.0
    last: SageError | None = None


class Breaker:
    """The health of every model that has failed since it last answered. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._sick: dict[str, _Health] = {}

    def failed(self, model: str, error: SageError, now: float) -> None:
        """Note a failure; one that is not the model's own changes nothing."""
        if not isinstance(error, OPENS_ON):
            return
        health = self._sick.setdefault(model, _Health())
        health.failures += 1
        health.last = error
        if isinstance(error, RateLimited) and error.retry_after_s > 0:
            health.until = now + min(error.retry_after_s, LONGEST_PLEA_S)
        elif health.failures >= FAILURES or isinstance(error, RateLimited):
            health.until = now + min(FIRST_REST_S * 2.0**health.rests, LONGEST_REST_S)
            health.rests = min(health.rests + 1, 30)  # far beyond the cap; 2.0 ** more would overflow in time

    def answered(self, model: str) -> None:
        """It works: whatever was noted is forgotten."""
        self._sick.pop(model, None)

    def state(self, model: str, now: float) -> Literal["closed", "open", "half-open"]:
        """Whether the model may be asked."""
        health = self._sick.get(model)
        if health is None or not health.until:
            return "closed"
        return "open" if now < health.until else "half-open"

    def refusal(self, model: str, now: float) -> SageError | None:
        """Why the model may not be asked now, and until when; None where it may."""
        if self.state(model, now) != "open":
            return None
        health = self._sick[model]
        left = health.until - now
        mend = f"Ask again in {left:.0f} s, or ask another model"
        if isinstance(health.last, RateLimited):
            text = f"{model} is left alone for {left:.0f} s, as its server asked."
            return RateLimited(text, mend=mend, retry_after_s=left)
        times = "once" if health.failures == 1 else f"{health.failures} times in a row"
        return LoadFailed(
            f"{model} failed {times} and rests for {left:.0f} s. The last failure: {health.last}", mend=mend
        )

    def resting(self, now: float) -> Mapping[str, float]:
        """When (on the clock of ``now``) the rest of each open model ends."""
        return {name: health.until for name, health in self._sick.items() if health.until > now}
