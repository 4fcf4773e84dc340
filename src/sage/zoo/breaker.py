"""A model that keeps failing is left alone for a while, and then tried again.

Owns: who rests, until when, and why. Pure: failures and times in, refusals out. Must not know: who waits.

    closed      it may be asked; FAILURES failures in a row open it, and so does a server that asks for
                patience, or is silent for as long as it was waited for
    open        it rests: FIRST_REST_S, twice as long after every further failure, at most LONGEST_REST_S;
                after a silence at least as long as that was
    half-open   the rest is over: the next failure opens it again, the next answer closes it

The residency serves one request of a model at a time, so a half-open model is tried by one request alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sage.errors import LoadFailed, RateLimited, RemoteFailed, SageError, WorkerDied

__all__ = ["Breaker", "Health"]

OPENS_ON: tuple[type[SageError], ...] = (LoadFailed, WorkerDied, RemoteFailed)
"""Failures of the model itself. What does not fit, or was asked wrongly, says nothing about the next time."""

FAILURES = 3
"""One crash may be the prompt's doing, two a coincidence."""

FIRST_REST_S = 2.0
LONGEST_REST_S = 300.0
"""Two seconds let a server restart; five minutes are soon enough to find out that somebody mended it."""

SILENCES = 10
"""How many times as long as it was waited for a server in vain it rests at most: a tenth of the time is lost
on one that is dead, and one that is only slower than a short deadline comes back soon."""

LONGEST_PLEA_S = 86_400.0
"""A server may ask for a day; a header that says years would take its model away for good."""

FORGET_S = LONGEST_PLEA_S
"""A failure of yesterday says nothing about today, and no rest is longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """A model that has failed since it last answered: how often in a row, ``last`` with what, how often it
    rested for that; and its rest of ``rest_s`` seconds from ``at`` on (0: it need not rest yet)."""

    last: SageError
    failures: int = 0
    rests: int = 0
    at: float = 0.0
    rest_s: float = 0.0

    @property
    def until(self) -> float:
        """When the rest ends."""
        return self.at + self.rest_s


class Breaker:
    """The health of every model that has failed since it last answered. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._sick: dict[str, Health] = {}

    @property
    def sick(self) -> Mapping[str, Health]:
        """A copy of all there is to know."""
        return dict(self._sick)

    def recall(self, sick: Mapping[str, Health]) -> None:
        """Forget all, and go on from what was known once."""
        self._sick = dict(sick)

    def failed(self, model: str, error: SageError, now: float) -> None:
        """Note a failure; one that is not the model's own changes nothing."""
        if not isinstance(error, OPENS_ON):
            return
        before = self._known(model, now) or Health(last=error)
        health = replace(before, failures=before.failures + 1)
        seconds = _rest_s(health, error)
        if now + seconds >= before.until:  # a longer rest goes on, and for its own reason
            health = replace(health, last=error, at=now, rest_s=seconds)
        ordered = seconds > 0 and not _plea_s(error)
        self._sick[model] = replace(health, rests=health.rests + ordered)

    def answered(self, model: str) -> None:
        """It works: whatever was noted is forgotten."""
        self._sick.pop(model, None)

    def loaded(self, model: str) -> None:
        """It was loaded because somebody mended it: all is forgotten but the patience its server asked for,
        which says nothing of loads."""
        health = self._sick.get(model)
        if health and not isinstance(health.last, RateLimited):
            del self._sick[model]

    def state(self, model: str, now: float) -> Literal["closed", "open", "half-open"]:
        """Whether the model may be asked."""
        health = self._known(model, now)
        if health is None or not health.rest_s:
            return "closed"
        return "open" if now < health.until else "half-open"

    def _known(self, model: str, now: float) -> Health | None:
        health = self._sick.get(model)
        return health if health and now - health.at <= FORGET_S else None

    def refusal(self, model: str, now: float) -> SageError | None:
        """Why the model may not be asked now, and until when; None where it may."""
        if self.state(model, now) != "open":
            return None
        health = self._sick[model]
        left = health.until - now
        mend = f"Ask again in {left:.0f} s"
        if isinstance(health.last, RateLimited):
            text = f"{model} is left alone for {left:.0f} s, as its server asked."
            return RateLimited(text, mend=mend, retry_after_s=left)
        mend += f", or load it anew: sage models unload {model}; sage models load {model}"
        times = "once" if health.failures == 1 else f"{health.failures} times in a row"
        return LoadFailed(
            f"{model} failed {times} and rests for {left:.0f} s. The last failure: {health.last}", mend=mend
        )

    def resting(self, now: float) -> Mapping[str, float]:
        """When (on the clock of ``now``) the rest of each open model ends."""
        return {name: health.until for name, health in self._sick.items() if health.until > now}


def _rest_s(health: Health, error: SageError) -> float:
    """How long it is to rest after this failure, which is counted already; 0: not at all."""
    if plea := _plea_s(error):
        return plea
    # 2.0 to a high power would overflow in time, and is far beyond the cap.
    rest = min(FIRST_REST_S * 2.0 ** min(health.rests, 30), LONGEST_REST_S)
    silent_s = error.silent_s if isinstance(error, RemoteFailed) else 0.0
    if silent_s:
        return max(silent_s, min(rest, SILENCES * silent_s))
    opens = health.failures >= FAILURES or isinstance(error, RateLimited) or health.rest_s
    return rest if opens else 0.0


def _plea_s(error: SageError) -> float:
    """How long a server asked not to be asked."""
    return min(error.retry_after_s, LONGEST_PLEA_S) if isinstance(error, RateLimited) else 0.0
