"""`sage state`: how the whole system is, and why.

Owns: how a condition is shown. Must not know: how it comes about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sage.kernel.vitals import Condition
    from sage.memory.books import Books

__all__ = ["state"]


def state(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """The metabolic state, why it holds, the ATP, the sensors.

    Changes nothing.
    """
    from sage.cli.render import emit_json

    found = _look()
    if json:
        emit_json(found)
    else:
        _show(found)


def _look() -> dict[str, Any]:
    """The condition as it is stored; on a new ``SAGE_HOME``, as it would begin."""
    import tempfile
    from pathlib import Path

    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.vitals import open_vitals
    from sage.memory.books import Books
    from sage.memory.db import Database
    from sage.memory.verbatim import VerbatimStore

    settings, clock = load_settings(), SystemClock()
    path = sage_home() / "sage.db"
    with tempfile.TemporaryDirectory() as folder:
        fresh = not path.exists()
        with Database(Path(folder) / "sage.db" if fresh else path, read_only=not fresh) as db:
            turns = VerbatimStore(db, clock)
            books = Books(db, turns, clock, settings.atp)
            last = turns.turns(limit=1)
            idle = max(0.0, clock.time() - last[0].created) if last else 0.0
            condition = open_vitals(db, books, settings, clock).look(idle_s=idle)
            return _told(condition, books, settings.atp.capacity)


def _told(condition: Condition, books: Books, capacity: float) -> dict[str, Any]:
    import dataclasses

    readings = dataclasses.asdict(condition.readings)
    # Of these only the process that answers requests knows.
    for name in ("salience", "queue", "backlog", "flagged", "balance"):
        del readings[name]
    return {
        **dataclasses.asdict(condition.standing),
        "atp": {
            "balance": condition.readings.balance * capacity,
            "capacity": capacity,
            "recovery_per_s": books.recovery_per_s(),
        },
        "readings": readings,
        "regime": dataclasses.asdict(condition.regime),
    }


def _show(found: dict[str, Any]) -> None:
    from sage.cli.render import human_seconds, printable

    atp, readings, regime = found["atp"], found["readings"], found["regime"]
    battery = "none" if readings["battery"] is None else f"{readings['battery']:.0%}"
    candidates = "all" if regime["candidates"] is None else f"the {regime['candidates']} cheapest"
    lines = {
        "state": f"{found['state']}, for {human_seconds(found['seconds'])}: {printable(found['why'])}",
        "ATP": f"{atp['balance']:.1f} of {atp['capacity']:g}, plus {atp['recovery_per_s']:.2f} a second",
        "memory": f"pressure {readings['memory']:.0%}",
        "heat": f"{readings['temperature']:.0%} of the limit" if readings["temperature"] else "not known",
        "power": f"{'mains' if readings['on_mains'] else 'battery'} (battery: {battery})",
        "idle": human_seconds(readings["idle_s"]),
        "allows": f"{regime['budget']:g} x the usual grant, {candidates} candidates, "
        f"{'tries models to learn' if regime['explore'] else 'tries nothing new'}, "
        f"background work: {regime['background']}",
    }
    for name, text in lines.items():
        typer.echo(f"{name + ':':<8} {text}")
