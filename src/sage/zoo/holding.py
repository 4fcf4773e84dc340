"""What the owner of the models deals with: workers, those who wait for them, and the picture for others.

Owns: these values. Must not know: who decides, or how workers are started.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from sage.errors import SageError
from sage.types import new_id
from sage.zoo.card import ModelCard
from sage.zoo.process import Worker
from sage.zoo.signals import Standing

__all__ = ["Caller", "Picture", "Resident"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """How memory stands, in bytes. ``used`` is what is set aside for all models, ``occupied`` what each takes
    now. ``pids`` are those of the workers; ``rests_until`` is on the clock of the host: when each model that
    failed too often may be asked again."""

    budget: int = 0
    used: int = 0
    models: tuple[Standing, ...] = ()
    occupied: Mapping[str, int] = field(default_factory=dict)
    pids: Mapping[str, int] = field(default_factory=dict)
    rests_until: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Resident:
    """A worker, from the order to load it until its process is gone. ``reason`` says why it leaves, ``bytes``
    is what it occupied when memory was last looked at."""

    card: ModelCard
    turn_id: str
    started: float
    worker: Worker | None = None
    pid: int = 0
    bytes: int = 0
    unpaid: bool = False
    reason: str = ""
    gone: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class Caller:
    """One who waits for a model, as if for ``head_start_s`` already, and what came of it: ``resident`` or
    ``error``, and then ``done``.

    The one for whom the model was loaded finds what that took in ``load_s`` and ``load_bytes``.
    """

    card: ModelCard
    turn_id: str
    deadline: float
    head_start_s: float = 0.0
    id: str = field(default_factory=lambda: new_id("req"))
    done: threading.Event = field(default_factory=threading.Event)
    resident: Resident | None = None
    load_s: float = 0.0
    load_bytes: int = 0
    error: SageError | None = None
