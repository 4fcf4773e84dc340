"""What is remembered of models between commands: who rests and why, and what each took.

Owns: ``SAGE_HOME/remembered.json``. Must not know: how long a rest should be, or what sizes are used for.

Only the process that holds the models writes, when something has changed; others read. A file that is not
there, or makes no sense, is as none: it costs one more failed try, or one more load by the estimate. Rests
are kept on the wall clock, which may jump: one ends when that clock says so, and at once where it stands
before the rest began, so that none is ever longer than was ordered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sage.clock import Clock, SystemClock
from sage.errors import ConfigError
from sage.zoo.breaker import FORGET_S, LONGEST_PLEA_S, Health
from sage.zoo.card import ModelCard
from sage.zoo.catalog import load_catalog
from sage.zoo.footprint import Footprint
from sage.zoo.process import ERRORS
from sage.zoo.sources import stamp

__all__ = ["Remembered", "measured_of", "resting"]

MOST_BYTES = 2**50
"""No model takes a petabyte; a number that says so is damage, and would keep its model out for ever."""


class Remembered:
    """The file as this process knows it. ``health`` is on the monotonic clock, ``footprints`` by what was
    measured: these weights with this context."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._path = home / "remembered.json"
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self.health: Mapping[str, Health] = {}
        self._footprints: dict[str, tuple[str, Footprint]] = {}

    def refresh(self) -> bool:
        """Read what another process wrote; whether there is anything new."""
        seen = self._written()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            found = json.loads(self._path.read_text())
            self.health = dict(_health(found["health"], self._clock))
            self._footprints = {
                name: (str(one["of"]), _footprint(one)) for name, one in found["footprints"].items()
            }
        # Overflow: a number without end; Recursion: brackets without end.
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            self.health, self._footprints = {}, {}
        return True

    def footprint(self, name: str, of: str) -> Footprint:
        """What was measured ``of`` this; of anything else nothing is known."""
        known, footprint = self._footprints.get(name, ("", Footprint()))
        return footprint if of and known == of else Footprint()

    def keep(self, health: Mapping[str, Health], footprints: Mapping[str, tuple[str, Footprint]]) -> None:
        """Write what has changed; nothing where the disk does not allow it."""
        merged = {**self._footprints, **footprints}
        if health == self.health and merged == self._footprints:
            return
        self.health, self._footprints = dict(health), merged
        jump = self._clock.time() - self._clock.monotonic()
        text = {
            "health": {
                name: {
                    "error": one.last.name,
                    "message": one.last.message,
                    "failures": one.failures,
                    "rests": one.rests,
                    "at": one.at + jump,
                    "rest_s": one.rest_s,
                }
                for name, one in health.items()
            },
            "footprints": {name: {"of": of, **asdict(one)} for name, (of, one) in merged.items()},
        }
        with contextlib.suppress(OSError):
            written = self._path.with_suffix(".new")
            written.write_text(json.dumps(text))
            os.replace(written, self._path)  # whole at once: others read it
            self._seen = self._written()

    def _written(self) -> tuple[int, int] | None:
        try:
            info = self._path.stat()
        except OSError:
            return None
        return info.st_mtime_ns, info.st_ino


def measured_of(card: ModelCard, home: Path, context: int) -> str:
    """What a measurement is true of: the weights as they lie on the disk, an adapter's base included, and the
    context."""
    try:
        weights = stamp(card, home)
        if card.base and (base := load_catalog(home).get(card.base)):
            weights += stamp(base, home)
        told = repr((card.backend, card.room(context), weights))
    except (OSError, RuntimeError, ConfigError):  # they cannot be looked at
        return ""
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def resting(home: Path, clock: Clock | None = None) -> dict[str, float]:
    """Models that failed and are not asked for so many seconds more, as far as this home remembers."""
    clock = clock or SystemClock()
    remembered = Remembered(home, clock)
    remembered.refresh()
    now = clock.monotonic()
    return {name: one.until - now for name, one in remembered.health.items() if one.until > now}


def _footprint(found: Mapping[str, Any]) -> Footprint:
    peak = int(found["peak"])
    if not 0 < peak <= MOST_BYTES:
        raise ValueError(peak)
    return Footprint(peak=peak, settling=int(found["settling"]))


def _health(found: Mapping[str, Mapping[str, Any]], clock: Clock) -> Iterator[tuple[str, Health]]:
    now, wall = clock.monotonic(), clock.time()
    for name, one in found.items():
        ago, rest_s = wall - float(one["at"]), min(float(one["rest_s"]), LONGEST_PLEA_S)
        if not ago <= FORGET_S:
            continue
        if ago < 0:  # the clock was set back
            ago = rest_s
        error = ERRORS[str(one["error"])](str(one["message"]))
        yield (
            name,
            Health(
                last=error,
                failures=int(one["failures"]),
                rests=int(one["rests"]),
                at=now - ago,
                rest_s=rest_s,
            ),
        )
