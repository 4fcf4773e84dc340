"""Time as a dependency, so that tests decide what time it is.

Owns: the two clocks and their fake. Must not know: who waits for what.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "FakeClock", "SystemClock"]


class Clock(Protocol):
    """Two readings, both in seconds."""

    def time(self) -> float:
        """Wall-clock seconds since the epoch: for records, may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back: for durations and deadlines."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class FakeClock:
    """A clock that stands still until ``advance`` is called."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move both clocks; a negative value models a wall clock that jumped back."""
        self._now += seconds
