"""``sage models ps``, ``load`` and ``unload``: what is in memory, in whichever SAGE process holds the models.

Owns: these commands' words and tables. Must not know: how processes speak with each other, or who must go.
Only light imports at the top; the rest is imported when a command runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.estimate import show_estimate
from sage.cli.lookup import AsJson, Name, check_runnable, find_model

if TYPE_CHECKING:
    from pathlib import Path

    from sage.zoo.card import ModelCard

__all__ = ["load", "ps", "unload"]

GROWTH = 1_000_000
"""Bytes set aside beyond what models occupy; below that nobody misses any in the table."""


def ps(as_json: AsJson = False) -> None:
    """What is in memory now, who holds it, and how much room is left."""
    from sage.cli.render import console, emit_json
    from sage.config import sage_home

    found = _look(home := sage_home())
    if as_json:
        emit_json(found)
        return
    holder, models = found["holder"], found["models"]
    if models:
        _table(models)
    elif found["free"] is None:
        console().print("Which models are in memory is not known.")
    else:
        console().print("No model is in memory." if holder else f"No model is in memory; {_room(found)}.")
    if holder:
        room = "it does not answer" if found["free"] is None else _room(found)
        by = f"process {holder['pid']} ({holder['command']})" if holder["pid"] else "another process"
        console().print(f"{home} is held by {by}; {room}.", markup=False, soft_wrap=True)
    for name, seconds in found["resting"].items():
        console().print(f"{name} failed and is not asked for {seconds:.0f} s.", markup=False)


def _look(home: Path) -> dict[str, Any]:
    """What the holder says; where none answers, what is noted."""
    from dataclasses import asdict

    from sage.config import load_settings
    from sage.errors import HomeInUse
    from sage.hardware.budget import budget_bytes
    from sage.hardware.probe import memory
    from sage.zoo.control import ask_holder
    from sage.zoo.lease import holder
    from sage.zoo.notes import noted
    from sage.zoo.remembered import resting

    try:
        answer = ask_holder(home, {"op": "ps"})
    except HomeInUse:
        answer = None
    if answer is not None:
        return {key: answer[key] for key in ("holder", "models", "budget", "free", "resting")}
    here = holder(home)
    models = [
        {
            "name": one.model,
            "state": "loaded",
            "bytes": one.bytes,
            "reserved": None,
            "busy": None,
            "idle_s": None,
            "pid": one.pid,
        }
        for one in noted(home)
    ]
    free = None if here or models else budget_bytes(memory(), load_settings().models.memory_limit_gb)
    found = {"holder": asdict(here) if here else None, "models": models}
    return found | {"budget": free, "free": free, "resting": resting(home)}


def _table(models: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from sage.cli.render import human_bytes, human_seconds, print_table

    table = Table("model", "memory", "last used", "worker", box=None, pad_edge=False)
    for column in (1, 3):
        table.columns[column].justify = "right"
    for one in models:
        used = "now" if one["busy"] else "unknown"
        if one["state"] != "loaded":
            used = one["state"]
        elif one["idle_s"] is not None and not one["busy"]:
            used = f"{human_seconds(one['idle_s'])} ago"
        table.add_row(one["name"], human_bytes(one["bytes"]), used, str(one["pid"] or ""))
    print_table(table)


def _room(found: dict[str, Any]) -> str:
    from sage.cli.render import human_bytes

    free, budget = max(0, found["free"]), max(0, found["budget"])
    room = f"{human_bytes(free)} of {human_bytes(budget)} for models are free"
    growth = sum(max(0, one["reserved"] - one["bytes"]) for one in found["models"])
    return f"{room}, {human_bytes(growth)} set aside for those here to grow" if growth > GROWTH else room


def load(
    name: Name,
    estimate_only: Annotated[
        bool,
        typer.Option("--estimate-only", help="Only say what it would take, and whether that is free."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Load a model into memory, or try whether it loads.

    It goes into the SAGE process that holds the models; without one it is unloaded again.
    """
    from sage.cli.render import console, emit_json, human_bytes, human_seconds
    from sage.errors import UsageError
    from sage.zoo.card import EMBEDDING

    if estimate_only:
        if not show_estimate(name, None, as_json=as_json):
            raise typer.Exit(4)
        return
    card, home = find_model(name)
    if card.backend == EMBEDDING:
        raise UsageError(f"{name} tells texts apart and answers nothing.", mend="sage models list")
    check_runnable(card, home)
    done = _load_there(card, home) or _try_here(card, home)
    if as_json:
        emit_json(done)
        return
    took = f"{human_bytes(done['bytes'])}, loaded in {human_seconds(done['load_s'])}"
    if done["holder"] is None:
        console().print(
            f"{name} loads: {took}. It was unloaded again, because no SAGE process holds models now (an open "
            "sage chat does once it has answered, until another process needs the memory).",
            markup=False,
            soft_wrap=True,
        )
        return
    took = took if done["load_s"] else f"{human_bytes(done['bytes'])}, was there already"
    by = f"process {done['holder']['pid']} ({done['holder']['command']})"
    console().print(f"{name} is in memory of {by}: {took}.", markup=False, soft_wrap=True)


def unload(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="A model; see: sage models ps", show_default=False)
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Every model that is in memory.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a model out of memory once it has answered.

    It is loaded again when it is chosen.
    """
    from sage.cli.render import console, emit_json, human_bytes
    from sage.config import load_settings, sage_home
    from sage.errors import HomeInUse, UsageError
    from sage.zoo.control import ask_holder
    from sage.zoo.lease import holder

    if bool(name) == every:
        raise UsageError("Say which model, or --all.", mend="sage models ps")
    home = sage_home()
    if name:
        _card, home = find_model(name)
    settings = load_settings().models
    # It is busy for as long as an answer may take.
    patience = settings.answer_timeout_s + settings.stop_timeout_s
    answer = ask_holder(home, {"op": "unload", "name": name, "all": every}, timeout=patience)
    if answer is None and (here := holder(home)):
        text = f"The models of {home} are held by {here}, which does not answer."
        raise HomeInUse(text, mend="Ask again when it has ended")
    unloaded: dict[str, int] = answer["unloaded"] if answer else {}
    if as_json:
        emit_json({"unloaded": unloaded})
        return
    for one, size in unloaded.items():
        console().print(f"{one}: unloaded, {human_bytes(size)}", markup=False)
    if not unloaded:
        console().print(f"{name} is not in memory." if name else "No model is in memory.", markup=False)


def _load_there(card: ModelCard, home: Path) -> dict[str, Any] | None:
    """Into the process that holds the models; None where there is none."""
    from sage.cli.render import notes
    from sage.config import load_settings
    from sage.zoo.control import ask_holder

    settings = load_settings().models
    patience = settings.load_timeout_s + settings.answer_timeout_s  # busy models are waited for
    with notes().status(f"loading {card.name}"):
        answer = ask_holder(home, {"op": "load", "name": card.name}, timeout=patience)
    return answer and {key: answer[key] for key in ("name", "bytes", "load_s", "holder")}


def _try_here(card: ModelCard, home: Path) -> dict[str, Any]:
    """Load, keep what that took in the database, unload."""
    from sage.cli.stream import progress
    from sage.events import EventBus
    from sage.kernel.session import open_kernel
    from sage.kernel.sharing import load_measured

    bus = EventBus()
    with open_kernel(home=home, bus=bus) as kernel, progress(bus):
        return load_measured(kernel.host, kernel.books, card) | {"holder": None}
