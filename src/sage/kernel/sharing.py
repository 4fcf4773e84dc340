"""What the process that holds a home's models does for others: tell, load, unload, hand over.

Owns: the operations of the control socket, and what happens when the home is taken.
Must not know: how requests travel, or who waits for whom.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage.clock import Clock
from sage.errors import ModelNotFound, SageError
from sage.memory.books import Books
from sage.zoo.card import ModelCard
from sage.zoo.control import Control, Operation, ask_holder
from sage.zoo.host import Host
from sage.zoo.lease import Lease, command
from sage.zoo.notes import noted

__all__ = ["SharedHome", "ask_for_home", "load_measured"]

YIELD = "yield"

SLOW = ("load", "unload")
"""They wait for loads and answers; all other operations must be had at any time."""

POLL_S = 0.05

Gone = Callable[[], bool]
"""Whether who asked has given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedHome:
    """The models of a home, for as long as this process holds them. ``free`` is the bytes further models
    may take; workers that a killed process left are given ``stop_s`` seconds to end."""

    home: Path
    host: Host
    lease: Lease
    books: Books
    catalog: Mapping[str, ModelCard]
    free: Callable[[], int]
    clock: Clock
    stop_s: float

    def open(self) -> Callable[[], None]:
        """The home was taken: serve others from now on, until what is returned is called."""
        until = time.monotonic() + self.stop_s
        while noted(self.home) and time.monotonic() < until:
            time.sleep(POLL_S)
        try:
            return Control(self.home, self.operations(), slow=SLOW).close
        except OSError:
            logging.getLogger(__name__).warning("no control socket can be made in %s", self.home / "run")
            return lambda: None

    def operations(self) -> Mapping[str, Operation]:
        """By the name that a request says."""
        return {"ps": self._ps, "load": self._load, "unload": self._unload, YIELD: self._yield}

    def _ps(self, _request: Mapping[str, Any], _gone: Gone) -> Mapping[str, Any]:
        picture, now = self.host.picture, self.clock.monotonic()
        # Without a model nobody keeps the picture true.
        budget = picture.budget if picture.models else self.free()
        models = [
            {
                "name": model.name,
                "state": model.phase,
                "bytes": picture.occupied.get(model.name, 0),
                "reserved": model.bytes,
                "busy": model.busy,
                "idle_s": 0.0 if model.busy else max(0.0, now - model.last_used),
                "pid": picture.pids.get(model.name),
            }
            for model in picture.models
        ]
        resting = dict(self.host.resting())
        return {
            "holder": _self(),
            "models": models,
            "budget": budget,
            "free": budget - picture.used,
            "resting": resting,
        }

    def _load(self, request: Mapping[str, Any], gone: Gone) -> Mapping[str, Any]:
        card = self.catalog.get(str(request.get("name")))
        if card is None:
            raise ModelNotFound(
                f"Process {os.getpid()} ({command()}) does not know {request.get('name')!r}.",
                mend="Start it anew: it reads its catalogue once",
            )
        return load_measured(self.host, self.books, card, should_stop=gone) | {"holder": _self()}

    def _unload(self, request: Mapping[str, Any], _gone: Gone) -> Mapping[str, Any]:
        names = [str(request.get("name"))]
        if request.get("all"):  # also what loads only now
            names = [model.name for model in self.host.picture.models]
        sizes = {name: self.host.unload(name) for name in names}
        return {"unloaded": {name: size for name, size in sizes.items() if size is not None}}

    def _yield(self, _request: Mapping[str, Any], _gone: Gone) -> Mapping[str, Any]:
        return {"yielded": self.lease.let_go(self.host.release_if_idle)}


def _self() -> dict[str, Any]:
    return {"pid": os.getpid(), "command": command()}


def ask_for_home(home: Path, should_stop: Callable[[], bool]) -> bool:
    """Ask the process that holds the models of this home to let go; whether it did."""
    try:
        answer = ask_holder(home, {"op": YIELD}, should_stop=should_stop)
    except SageError:  # it is suspended, or we are to stop: who waits knows what to make of it
        return False
    return bool(answer and answer.get("yielded"))


def load_measured(
    host: Host, books: Books, card: ModelCard, *, should_stop: Gone = lambda: False
) -> dict[str, Any]:
    """Have a model in memory, and keep what that took; ``load_s`` is 0 where it was there already."""
    took = host.load(card, should_stop=should_stop)
    books.measure(
        card.name, [("load_s", took.load_s or None), ("rss_bytes", float(took.resident_bytes) or None)]
    )
    return {"name": card.name, "load_s": took.load_s, "bytes": took.resident_bytes}
