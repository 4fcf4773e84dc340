"""The pressure a machine is under, cheap to ask for and hard to startle.

Owns: figures from 0 to 1, how long they hold, and that an alarm needs two readings.
Must not know: what is done about it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sage.clock import Clock, SystemClock
from sage.hardware.budget import memory_floor
from sage.hardware.probe import Memory, memory
from sage.hardware.sensors import Battery, Heat, battery, heat, stalled

__all__ = ["Pressure", "PressureGauge"]

FRESH_S = 2.0
"""How long figures hold: heat and batteries move slower than that."""

MOST_OF_TIME = 0.01
"""Sensors on a slow bus take milliseconds each: they are asked so seldom that it costs this share of the time
at most."""

STALLED = 0.4
"""Share of the time stalled on memory that counts as full pressure: systemd-oomd begins to kill at 0.6."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pressure:
    """``memory``: how much of the reserve that models leave is gone, or how near stalls are to thrashing,
    whichever is more; ``temperature``: the hottest part's share of its limit (above 1: over it). Both 0 where
    nothing is known. ``battery`` is the share that is left, None without one."""

    memory: float
    temperature: float
    battery: float | None
    on_mains: bool


class PressureGauge:
    """Reads the sensors, once every few seconds at most; safe to call from several threads.

    A value that gets worse counts from the second reading that says so: sensors have spikes.
    """

    def __init__(
        self,
        *,
        limit_c: float = 0.0,
        clock: Clock | None = None,
        read_memory: Callable[[], Memory] = memory,
        read_stalled: Callable[[], float] = stalled,
        read_heat: Callable[[], Mapping[str, Heat]] = heat,
        read_battery: Callable[[], Battery | None] = battery,
    ) -> None:
        """``limit_c`` takes the place of the sensors' own limits; 0: theirs."""
        self._limit_c = limit_c
        self._clock = clock or SystemClock()
        self._read_memory = read_memory
        self._read_stalled = read_stalled
        self._read_heat = read_heat
        self._read_battery = read_battery
        self._lock = threading.Lock()
        self._heat: Mapping[str, float] = {}
        self._charge: Battery | None = None
        self._kept: Pressure | None = None
        self._until = 0.0

    def read(self) -> Pressure:
        """The pressure now, or as of a few seconds ago. Never fails."""
        with self._lock:
            began = self._clock.monotonic()
            if self._kept is None or began >= self._until:
                if self._kept is None:
                    self._look()  # the reading before the first
                self._kept = self._look()
                now = self._clock.monotonic()
                self._until = now + max(FRESH_S, (now - began) / MOST_OF_TIME)
            return self._kept

    def _look(self) -> Pressure:
        charge = self._charged()
        return Pressure(
            memory=max(self._reserve_gone(), min(1.0, self._read_stalled() / STALLED)),
            temperature=self._hottest(),
            battery=charge.share if charge else None,
            on_mains=charge.on_mains if charge else True,
        )

    def _reserve_gone(self) -> float:
        total, available = self._read_memory()
        return min(1.0, max(0.0, 1.0 - available / memory_floor(total)))

    def _hottest(self) -> float:
        """The hottest part, each as cool as one of its last two readings says."""
        now = {
            name: found.celsius / (self._limit_c or found.limit) for name, found in self._read_heat().items()
        }
        hottest = max((min(share, self._heat.get(name, 0.0)) for name, share in now.items()), default=0.0)
        self._heat = now
        return hottest

    def _charged(self) -> Battery | None:
        """As full as one of the last two readings says."""
        before, self._charge = self._charge, self._read_battery()
        if before is None or self._charge is None:
            return self._charge
        return Battery(max(before.share, self._charge.share), self._charge.on_mains)
