"""How the system is, asked once a request: sensors, ATP and attention in, the state and what it allows out.

Owns: putting the readings together, and letting the state they lead to set the recovery of ATP.
Must not know: what a request is about, or how its budget is spent.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from sage.clock import Clock
from sage.config import Settings
from sage.economy.metabolism import Thresholds
from sage.economy.regime import REGIMES, Regime, recovery_factor
from sage.economy.strain import Readings
from sage.hardware.pressure import PressureGauge
from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.state_store import Standing, StateStore

__all__ = ["Condition", "Vitals", "open_vitals"]

RECENT_S = 60.0
"""How long the salience of a request counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """The state, what it allows, and the readings it follows from."""

    standing: Standing
    regime: Regime
    readings: Readings


class Vitals:
    """The condition of one process's kernel; safe to call from several threads."""

    def __init__(
        self, *, books: Books, states: StateStore, gauge: PressureGauge, clock: Clock, capacity: float
    ) -> None:
        self._books = books
        self._states = states
        self._gauge = gauge
        self._clock = clock
        self._capacity = capacity
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, float]] = deque()
        """Salience of requests, and when (monotonic) each was noticed."""
        self._busy = clock.monotonic()

    def look(
        self,
        *,
        salience: float | None = None,
        queue: int = 0,
        backlog: int = 0,
        flagged: str = "",
        idle_s: float | None = None,
    ) -> Condition:
        """The condition as the readings have it; changes nothing.

        ``salience`` is that of a request that begins now, ``queue`` counts it and those that wait; the rest
        is as in :class:`Readings`. ``idle_s`` is for a process that does not answer requests itself.
        """
        readings = self._readings(salience, queue, backlog, flagged, idle_s)
        standing = self._states.now()
        return Condition(standing=standing, regime=REGIMES[standing.state], readings=readings)

    def update(
        self, *, salience: float | None = None, queue: int = 0, backlog: int = 0, flagged: str = ""
    ) -> Condition:
        """Follow the readings: the state that results is stored, and ATP recover as it says."""
        readings = self._readings(salience, queue, backlog, flagged, None)
        standing = self._states.update(readings)
        regime = REGIMES[standing.state]
        self._books.recover_at(recovery_factor(regime, readings))
        return Condition(standing=standing, regime=regime, readings=readings)

    def _readings(
        self, salience: float | None, queue: int, backlog: int, flagged: str, idle_s: float | None
    ) -> Readings:
        now = self._clock.monotonic()
        with self._lock:
            if salience is not None:
                self._recent.append((now, salience))
            while self._recent and now - self._recent[0][0] > RECENT_S:
                self._recent.popleft()
            highest = max((value for _, value in self._recent), default=0.0)
            if queue > 0:
                self._busy = now
            idle = now - self._busy if idle_s is None else idle_s
        pressure = self._gauge.read()
        return Readings(
            balance=self._books.balance() / self._capacity,
            salience=highest,
            idle_s=idle,
            queue=queue,
            backlog=backlog,
            memory=pressure.memory,
            temperature=pressure.temperature,
            battery=pressure.battery,
            on_mains=pressure.on_mains,
            flagged=flagged,
        )


def open_vitals(db: Database, books: Books, settings: Settings, clock: Clock) -> Vitals:
    """The vitals of one ``SAGE_HOME`` on this machine."""
    chosen = settings.metabolism
    thresholds = Thresholds(
        focus_salience=chosen.focus_salience,
        rest_after_s=chosen.rest_after_s,
        dream_after_s=chosen.dream_after_s,
    )
    return Vitals(
        books=books,
        states=StateStore(db, clock, thresholds=thresholds, hold=chosen.state),
        gauge=PressureGauge(limit_c=chosen.temperature_limit_c, clock=clock),
        clock=clock,
        capacity=settings.atp.capacity,
    )
