"""Runs a plugin: step, weigh, stop.

Owns: the loop, its stopping rules, and the promise that a later step never loses the states before it.
Must not know: what is being refined.

Each step runs on a thread of its own, so that a plugin that hangs costs its deadline and no more. A hung
thread is left behind (Python cannot end it); plugins watch ``cancelled`` where they can.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import threading
from typing import TypeVar

from sage.clock import Clock, SystemClock
from sage.irp.protocol import Exhausted, Limits, Plugin, Refined, Step

__all__ = ["refine", "why_halt"]

S = TypeVar("S")

WINDOW = 3
"""Falls looked at when asking whether energy rises or oscillates."""

POLL_S = 0.1
"""How often the wait for a step looks at its deadline; also how late Ctrl-C may be seen."""


def refine(
    plugin: Plugin[S], limits: Limits, *, cancelled: threading.Event, clock: Clock | None = None
) -> Refined[S]:
    """Refine until a stopping rule holds; returns the state of lowest energy, and the latest.

    Whatever goes wrong in the plugin becomes a ``halt_reason``; nothing is raised but BaseException
    (Ctrl-C), after ``cancelled`` has been set.
    """
    clock = clock or SystemClock()
    end = clock.monotonic() + limits.seconds
    best: S | None = None
    latest: S | None = None
    lowest = math.inf
    energies: list[float] = []
    atp = 0.0
    reason = ""
    error: Exception | None = None
    try:
        state = plugin.init_state()
        while not (reason := _before_step(plugin, energies, limits, atp, cancelled)):
            if energies and clock.monotonic() >= end:
                reason = "deadline"
                break
            step = _run_step(plugin, state, limits, atp, end, cancelled, clock)
            state = step.state
            atp += step.atp
            try:
                energy = float(plugin.energy(state))
            except Exception as raised:
                energy, error = math.nan, raised
            if not math.isfinite(energy):  # such a state cannot be compared with others
                reason = "bad_energy"
                if best is None:
                    best = latest = state
                break
            latest = state
            energies.append(energy)
            if energy < lowest:
                best, lowest = state, energy
    except Exhausted:
        reason = "exhausted"
    except _Hung:
        reason = "deadline" if energies else "hung"
    except Exception as raised:
        reason, error = "cancelled" if cancelled.is_set() else "error", raised
    return Refined(
        state=best,
        latest=latest,
        energies=tuple(energies),
        halt_reason=reason,
        steps=len(energies),
        atp=atp,
        error=error,
    )


def why_halt(energies: list[float], limits: Limits) -> str:
    """The stopping rule that the energies so far meet, or an empty string. Whole window, not end points:
    an oscillation whose ends agree has not converged."""
    if not energies:
        return ""
    if energies[-1] <= limits.accept:
        return "accepted"
    if len(energies) >= limits.max_steps:
        return "max_steps"
    changes = [b - a for a, b in itertools.pairwise(energies)][-WINDOW:]
    if len(changes) >= 2 and all(abs(change) < limits.epsilon for change in changes[-2:]):
        return "converged"
    if len(changes) == WINDOW:
        if all(change > 0 for change in changes):
            return "rising"
        if all(a * b < 0 for a, b in itertools.pairwise(changes)) and sum(changes) >= 0:
            return "oscillating"
    return ""


def _before_step(
    plugin: Plugin[S], energies: list[float], limits: Limits, atp: float, cancelled: threading.Event
) -> str:
    if cancelled.is_set():
        return "cancelled"
    if reason := why_halt(energies, limits):
        return reason
    if energies and atp >= limits.atp:
        return "budget"
    return plugin.halt(tuple(energies))


class _Hung(Exception):  # noqa: N818  a signal between two functions of this module
    pass


def _run_step(
    plugin: Plugin[S],
    state: S,
    limits: Limits,
    atp: float,
    end: float,
    cancelled: threading.Event,
    clock: Clock,
) -> Step[S]:
    done: queue.Queue[Step[S] | BaseException] = queue.Queue()

    def work() -> None:
        try:
            done.put(plugin.step(state, limits.atp - atp))
        except BaseException as error:  # SystemExit too: unreported, it would look like a hang
            done.put(error)

    try:
        threading.Thread(target=work, daemon=True, name="irp-step").start()
        while True:
            try:
                result = done.get(timeout=POLL_S)
                break
            except queue.Empty:
                if clock.monotonic() >= end:
                    raise _Hung from None
    except BaseException:
        cancelled.set()
        with contextlib.suppress(queue.Empty):
            done.get(timeout=limits.grace)  # so that nothing runs on, and what it took can be counted
        raise
    if isinstance(result, BaseException):
        raise result
    return result
