"""Metabolism: in which of five states the whole system is, and why.

Owns: the one table of transitions, and how long each state lasts at least.
Must not know: clocks, sensors, or what a state is good for (:mod:`sage.economy.regime`).

Whatever moves a state has two thresholds (:mod:`sage.economy.strain`): it must fall well below the one that
was passed before the step is taken back. So noise about a threshold moves the state once at most. And every
way round the table has a row with a dwell time: whatever is read, a state that was left is not entered again
within five seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sage.economy.strain import Band, Readings, need, relieved, rested, tired
from sage.types import MetabolicState

__all__ = ["EDGES", "STATES", "Edge", "Move", "Thresholds", "advance"]

STATES: tuple[MetabolicState, ...] = ("WAKE", "FOCUS", "REST", "DREAM", "CRISIS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """What a user may set: salience that focuses, and idle seconds before rest and before dreaming."""

    focus_salience: float = 0.7
    rest_after_s: float = 60.0
    dream_after_s: float = 300.0


RESERVES = Band(above=0.5, below=0.35)
"""Share of the capacity at which focus may begin, and below which it ends."""

CALM = 0.2
"""How far salience falls below the threshold of focus before focus ends."""

DREAM_BATTERY = 0.5
"""Charge below which nobody dreams away from the mains: consolidation can wait for the charger."""

SHORT_S, LONG_S = 5.0, 10.0
"""Dwell times. To need, waking and focus there is none: what is asked now is answered in the right state."""


def _need(readings: Readings, _: Thresholds) -> str:
    return need(readings)


def _relief(readings: Readings, _: Thresholds) -> str:
    return "what was needed is there again" if relieved(readings) else ""


def _tired_or_idle(readings: Readings, thresholds: Thresholds) -> str:
    if low := tired(readings):
        return low
    idle = readings.queue == 0 and readings.idle_s >= thresholds.rest_after_s
    return f"nothing was asked for {readings.idle_s:.0f} s" if idle else ""


def _asked(readings: Readings, _: Thresholds) -> str:
    return "something is asked" if readings.queue > 0 else ""


def _asked_and_fit(readings: Readings, thresholds: Thresholds) -> str:
    return _asked(readings, thresholds) if rested(readings) else ""


def _stirred(readings: Readings, thresholds: Thresholds) -> str:
    stirs = readings.queue > 0 and readings.salience >= thresholds.focus_salience
    if stirs and readings.balance >= RESERVES.above and rested(readings):
        return f"salience is {readings.salience:.2f}, and the ATP are there"
    return ""


def _calmed(readings: Readings, thresholds: Thresholds) -> str:
    if not readings.salience >= thresholds.focus_salience - CALM:
        return f"salience fell to {readings.salience:.2f}"
    if not readings.balance >= RESERVES.below:
        return f"the ATP are at {readings.balance:.0%} of their capacity"
    return ""


def _drowsy(readings: Readings, thresholds: Thresholds) -> str:
    powered = readings.on_mains or readings.battery is None or readings.battery >= DREAM_BATTERY
    idle = readings.queue == 0 and readings.idle_s >= thresholds.dream_after_s
    if idle and powered and readings.backlog > 0 and rested(readings):
        return f"idle for {readings.idle_s:.0f} s, and {readings.backlog} messages wait for sleep"
    return ""


def _tired_or_done(readings: Readings, _: Thresholds) -> str:
    return tired(readings) or ("" if readings.backlog > 0 else "nothing waits for sleep")


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A row of the table: ``when`` gives the reason to take it, or nothing; ``dwell_s`` is how long ``start``
    must have lasted."""

    start: MetabolicState
    end: MetabolicState
    when: Callable[[Readings, Thresholds], str]
    dwell_s: float = 0.0


EDGES: tuple[Edge, ...] = (
    Edge(start="WAKE", end="CRISIS", when=_need),
    Edge(start="WAKE", end="REST", when=_tired_or_idle, dwell_s=SHORT_S),
    Edge(start="WAKE", end="FOCUS", when=_stirred),
    Edge(start="FOCUS", end="CRISIS", when=_need),
    Edge(start="FOCUS", end="REST", when=_tired_or_idle, dwell_s=SHORT_S),
    Edge(start="FOCUS", end="WAKE", when=_calmed, dwell_s=LONG_S),
    Edge(start="REST", end="CRISIS", when=_need),
    Edge(start="REST", end="WAKE", when=_asked_and_fit),
    Edge(start="REST", end="DREAM", when=_drowsy, dwell_s=SHORT_S),
    Edge(start="DREAM", end="CRISIS", when=_need),
    Edge(start="DREAM", end="WAKE", when=_asked),
    Edge(start="DREAM", end="REST", when=_tired_or_done, dwell_s=SHORT_S),
    Edge(start="CRISIS", end="REST", when=_relief, dwell_s=LONG_S),
)
"""The table; the first row of a state that holds is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """Where the table leads; ``why`` is empty where the state stays."""

    state: MetabolicState
    why: str = ""


def advance(
    state: MetabolicState, elapsed_s: float, readings: Readings, thresholds: Thresholds | None = None
) -> Move:
    """The state that follows one that has lasted ``elapsed_s`` seconds.

    Rows without a dwell time are followed further: who is woken by something urgent focuses on it at once.
    """
    thresholds = thresholds or Thresholds()
    move = Move(state=state)
    for _ in STATES:
        edge, why = _first(move.state, elapsed_s, readings, thresholds)
        if edge is None:
            return move
        move, elapsed_s = Move(state=edge.end, why=why), 0.0
    return move


def _first(
    state: MetabolicState, elapsed_s: float, readings: Readings, thresholds: Thresholds
) -> tuple[Edge | None, str]:
    for edge in EDGES:
        if edge.start == state and elapsed_s >= edge.dwell_s and (why := edge.when(readings, thresholds)):
            return edge, why
    return None, ""
