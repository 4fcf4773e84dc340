"""Strain: what can run out, how much of it is gone, and when that tires or is a need.

Owns: the readings, and their thresholds, each with hysteresis. Must not know: states, sensors, clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["STRAINS", "Band", "Readings", "Strain", "need", "relieved", "rested", "tired"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """How things stand. What is unknown is calm, and so is what is not a number.

    ``balance`` is the share of the ATP capacity that is there; ``salience`` in [0, 1] the most of any recent
    request; ``idle_s`` seconds since the last request ended; ``queue`` the requests that wait or are being
    answered; ``backlog`` what there is to do in the background (messages since the last sleep). ``memory`` is
    the pressure on it and ``temperature`` the share of its limit, from 0 to 1; ``battery`` the share that is
    left, None without one. ``flagged`` says what is wrong, where something is that none of these tells.
    """

    balance: float = 1.0
    salience: float = 0.0
    idle_s: float = 0.0
    queue: int = 0
    backlog: int = 0
    memory: float = 0.0
    temperature: float = 0.0
    battery: float | None = None
    on_mains: bool = True
    flagged: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A threshold with hysteresis: passed at ``above``, taken back below ``below``."""

    above: float
    below: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Strain:
    """One thing that can run out: how much of it is gone, when that tires, and when it is a need."""

    gone: Callable[[Readings], float]
    tired: Band | None
    need: Band
    words: Callable[[Readings], str]


def _drained(readings: Readings) -> float:
    """The share of the battery that is gone, while nothing fills it."""
    return 0.0 if readings.on_mains or readings.battery is None else 1.0 - readings.battery


STRAINS: tuple[Strain, ...] = (
    Strain(
        gone=lambda r: 1.0 - r.balance,
        tired=Band(above=0.75, below=0.6),
        need=Band(above=0.9, below=0.8),
        words=lambda r: f"the ATP are at {r.balance:.0%} of their capacity",
    ),
    Strain(
        gone=lambda r: r.memory,
        tired=Band(above=0.25, below=0.1),
        need=Band(above=0.6, below=0.4),
        words=lambda r: f"the pressure on memory is at {r.memory:.0%}",
    ),
    # A laptop's processor works at 95 °C for hours, with its limit at 100: warm is no need yet.
    Strain(
        gone=lambda r: r.temperature,
        tired=Band(above=0.93, below=0.88),
        need=Band(above=0.98, below=0.93),
        words=lambda r: f"the temperature is at {r.temperature:.0%} of its limit",
    ),
    Strain(
        gone=_drained,
        tired=Band(above=0.75, below=0.65),
        need=Band(above=0.9, below=0.85),
        words=lambda r: f"the battery is at {r.battery or 0.0:.0%}",
    ),
    # Waiting requests are no reason to rest.
    Strain(
        gone=lambda r: float(r.queue),
        tired=None,
        need=Band(above=16.0, below=8.0),
        words=lambda r: f"{r.queue} requests wait",
    ),
)


def need(readings: Readings) -> str:
    """What is needed at once, in words; empty where nothing is."""
    if readings.flagged:
        return f"flagged: {readings.flagged}"
    return next((s.words(readings) for s in STRAINS if s.gone(readings) >= s.need.above), "")


def relieved(readings: Readings) -> bool:
    """Whether every need is well over."""
    return not readings.flagged and not any(s.gone(readings) >= s.need.below for s in STRAINS)


def tired(readings: Readings) -> str:
    """What runs low, in words; empty where nothing does."""
    return next((s.words(readings) for s in STRAINS if s.tired and s.gone(readings) >= s.tired.above), "")


def rested(readings: Readings) -> bool:
    """Whether nothing runs low any more."""
    return not any(s.tired and s.gone(readings) >= s.tired.below for s in STRAINS)
