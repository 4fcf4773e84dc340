"""What happened, as typed values: to subscribers at once, and to a JSONL file that survives.

Owns: the event types, the bus and the file. Must not know: who listens.
Events never hold prompts or answers; those live in the verbatim store.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sage.clock import Clock, SystemClock

__all__ = [
    "AtpSettled",
    "CandidateFailed",
    "Decided",
    "Event",
    "EventBus",
    "HomeAwaited",
    "JsonlLog",
    "LoadFinished",
    "LoadProgress",
    "LoadStarted",
    "ModelPulled",
    "OutcomeRecorded",
    "PullProgress",
    "RoomAwaited",
    "StateChanged",
    "StepTaken",
    "TurnEnded",
    "TurnStarted",
    "Unloaded",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Base of every event. ``turn_id`` is empty for what belongs to no turn."""

    turn_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnStarted(Event):
    """A request was taken in."""

    kind: str
    session: str
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided(Event):
    """A model was chosen, or replaced by another: ``mode`` says which."""

    model: str
    mode: str
    reason: str
    permission: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateFailed(Event):
    """A chosen model could not answer; the next one is asked."""

    model: str
    error: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadStarted(Event):
    """A worker begins to load a model of ``bytes``."""

    model: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadProgress(Event):
    """A load goes on, after so many ``seconds``. Shown, never written to the file."""

    model: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomAwaited(Event):
    """A request waits until the models ``behind`` have made room for its own."""

    model: str
    behind: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadFinished(Event):
    """A model is in memory."""

    model: str
    seconds: float
    resident_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unloaded(Event):
    """A model left memory: asked, shutdown, died, or to make room."""

    model: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeAwaited(Event):
    """Another process holds the models of this home: ``holder`` names it, and it is waited for."""

    holder: str
    home: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTaken(Event):
    """One draft was made."""

    step: int
    model: str
    seconds: float
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeRecorded(Event):
    """Trust learned something."""

    model: str
    kind: str
    quality: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AtpSettled(Event):
    """The ATP of a turn were charged and the rest returned."""

    granted: float
    spent: float
    balance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnEnded(Event):
    """A turn is over: done, failed or interrupted."""

    status: str
    model: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StateChanged(Event):
    """The metabolic state became another."""

    state: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PullProgress(Event):
    """Bytes of a model that have arrived. Shown, never written to the file."""

    model: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPulled(Event):
    """A model's file arrived, whole and checked."""

    model: str
    bytes: int
    seconds: float


Subscriber = Callable[[Event], None]


class EventBus:
    """Calls every subscriber, in order, on the thread that emits.

    A subscriber that fails is logged and passed over: who watches must not change what is watched.
    """

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function removes it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def emit(self, event: Event) -> None:
        """Hand an event to everyone who subscribed."""
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                logging.getLogger(__name__).exception("a subscriber failed on %s", type(event).__name__)


class JsonlLog:
    """A subscriber that appends one JSON object a line, and rotates at ``max_bytes``.

    A full or read-only disk silences the log; it never stops the work.
    """

    def __init__(self, path: Path, *, max_bytes: int, clock: Clock | None = None) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._clock = clock or SystemClock()

    def __call__(self, event: Event) -> None:
        if isinstance(event, LoadProgress | PullProgress):
            return
        record = {"at": round(self._clock.time(), 3), "event": type(event).__name__}
        record.update(dataclasses.asdict(event))
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size + len(line) > self._max_bytes:
                os.replace(self.path, self.path.with_suffix(".old.jsonl"))
            # For their owner alone, like the database beside it.
            with open(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600), "ab+") as file:
                if file.tell() and not self._ends_in_newline(file):
                    line = b"\n" + line  # a crash cut off the last line: it must not take this one with it
                file.write(line)
        except OSError:
            return

    @staticmethod
    def _ends_in_newline(file: BinaryIO) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

    def read(self) -> Iterator[dict[str, Any]]:
        """Every record, oldest first; a line cut off by a crash is passed over."""
        for path in (self.path.with_suffix(".old.jsonl"), self.path):
            if not path.exists():
                continue
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        yield json.loads(line)
                    except json.JSONDecodeError:
                        continue
