"""The metabolic state, kept between processes: `sage ask` is a new one each time.

Owns: which state holds, since when and why, and the seconds it has lasted.
Must not know: sensors, or what a state allows.

Inside a process seconds are counted by the monotonic clock; the wall clock counts only from one process to
the next. Where it went back, the state counts as begun now: a day's jump costs one dwell time, and no state
is kept for a day by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal

from sage.clock import Clock
from sage.economy.metabolism import STATES, Thresholds, advance
from sage.economy.strain import Readings
from sage.memory.db import Database
from sage.types import MetabolicState

__all__ = ["Standing", "StateStore"]

FACT = "metabolism.state"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The state that holds, and ``why``. ``since`` is seconds since the epoch; it has lasted ``seconds``."""

    state: MetabolicState
    why: str
    since: float
    seconds: float


class StateStore:
    """The state of one ``SAGE_HOME``, shared by every process that uses it."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        thresholds: Thresholds,
        hold: Literal["auto"] | MetabolicState = "auto",
    ) -> None:
        """``hold`` names the state to stay in, whatever is read; nothing is stored then."""
        self._db = db
        self._clock = clock
        self._thresholds = thresholds
        self._hold = hold
        self._seen: str | None = None
        """The record that ``_entered`` (monotonic seconds) belongs to."""
        self._entered = clock.monotonic()
        self._began = clock.time()

    def now(self) -> Standing:
        """The state as it was left; reads only."""
        if self._hold != "auto":
            why = "held by metabolism.state"
            seconds = self._clock.monotonic() - self._entered
            return Standing(state=self._hold, why=why, since=self._began, seconds=seconds)
        rows = self._db.execute("SELECT value FROM facts WHERE name = ?", (FACT,))
        raw = rows[0][0] if rows else ""
        state, why, since = _parsed(raw) or ("WAKE", "nothing has happened yet", self._began)
        if raw != self._seen:  # another process was the last to change it, or this one has just begun
            self._seen = raw
            self._entered = self._clock.monotonic() - max(0.0, self._clock.time() - since)
        seconds = self._clock.monotonic() - self._entered
        return Standing(state=state, why=why, since=since, seconds=seconds)

    def update(self, readings: Readings) -> Standing:
        """The state that follows from the readings; written where it changed."""
        before = self.now()
        if self._hold != "auto" or self._next(before, readings) is before:
            return before
        with self._db.transaction():
            before = self.now()  # another process may have been first
            after = self._next(before, readings)
            if after is not before:
                self._write(after)
            return after

    def _next(self, standing: Standing, readings: Readings) -> Standing:
        """``standing`` itself where nothing changes."""
        now = self._clock.time()
        move = advance(standing.state, standing.seconds, readings, self._thresholds)
        if move.state != standing.state:
            return Standing(state=move.state, why=move.why, since=now, seconds=0.0)
        if standing.since > now + standing.seconds:  # written by a clock that was ahead
            return replace(standing, since=now - standing.seconds)
        return standing

    def _write(self, standing: Standing) -> None:
        raw = json.dumps({"state": standing.state, "why": standing.why, "since": standing.since})
        self._db.execute(
            "INSERT INTO facts (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (FACT, raw),
        )
        self._seen, self._entered = raw, self._clock.monotonic() - standing.seconds


def _parsed(raw: str) -> tuple[MetabolicState, str, float] | None:
    """What a record says; None where there is none, or it is not one of ours."""
    try:
        kept = json.loads(raw)
        state, why, since = kept["state"], str(kept["why"]), float(kept["since"])
    except (ValueError, KeyError, TypeError):
        return None
    return (state, why, since) if state in STATES else None
