"""The models that are in memory on this machine: load, ask, make room, unload.

Owns: the workers of this process, and the note in ``SAGE_HOME/run`` that tells other processes of them.
Must not know: which model should answer, or what answers cost.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sage.clock import Clock, SystemClock
from sage.config import ModelSettings
from sage.errors import WeightsMissing
from sage.events import EventBus, LoadFinished, LoadStarted, Unloaded
from sage.types import Completion, GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.process import Worker, WorkerLimits, WorkerSpec
from sage.zoo.residency import Loaded, make_room

__all__ = ["Answer", "Host", "fake_round_trip", "resident_models", "worker_limits", "worker_spec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A completion, and what it took to have the model loaded (0 when it was)."""

    completion: Completion
    load_s: float
    load_bytes: int
    resident_bytes: int


@dataclass(slots=True)
class _Resident:
    worker: Worker
    bytes: int
    last_used: float
    busy: int = 0


class Host:
    """Keeps workers. Thread-safe: loads are serialised, and an answer holds its own worker only."""

    def __init__(
        self,
        home: Path,
        settings: ModelSettings,
        *,
        free_bytes: Callable[[], int],
        estimate: Callable[[ModelCard], int],
        bus: EventBus | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``free_bytes`` is what models may still take; ``estimate`` what one will take, both in bytes."""
        self._home = home
        self._settings = settings
        self._free_bytes = free_bytes
        self._estimate = estimate
        self._bus = bus or EventBus()
        self._clock = clock or SystemClock()
        self._residents: dict[str, _Resident] = {}
        self._lock = threading.RLock()
        _clear_notes(home)

    def resident(self) -> dict[str, int]:
        """Bytes by name of the models that are loaded and alive."""
        with self._lock:
            self._reap()
            return {name: resident.bytes for name, resident in self._residents.items()}

    def ask(
        self,
        card: ModelCard,
        request: GenerationRequest,
        on_text: Callable[[str], None],
        *,
        should_stop: Callable[[], bool] = lambda: False,
        turn_id: str = "",
    ) -> Answer:
        """Have the model loaded, and answer.

        Raises:
            WeightsMissing, DoesNotFit, LoadFailed: before anything is asked.
            Interrupted: ``should_stop`` turned true before the model was loaded.
            WorkerDied, DeadlineExceeded, ContextTooLong, UsageError: from the worker.
        """
        with self._lock:
            resident, load_s, load_bytes = self._ensure(card, turn_id, should_stop)
            resident.busy += 1
        try:
            completion = resident.worker.ask(request, on_text, should_stop=should_stop)
        finally:
            with self._lock:
                resident.busy -= 1
                resident.last_used = self._clock.monotonic()
                if resident.worker.alive:
                    resident.bytes = max(resident.bytes, resident.worker.resident_bytes())
                else:
                    resident.worker.close()
                    if self._residents.get(card.name) is resident:  # not one loaded since
                        self._forget(card.name, "died")
        return Answer(
            completion=completion, load_s=load_s, load_bytes=load_bytes, resident_bytes=resident.bytes
        )

    def unload(self, name: str, *, reason: str = "asked") -> None:
        """End a model's worker; does nothing when it is not loaded."""
        with self._lock:
            resident = self._residents.get(name)
            if resident is not None:
                resident.worker.close()
                self._forget(name, reason)

    def close(self) -> None:
        """End every worker."""
        for name in list(self._residents):
            self.unload(name, reason="shutdown")

    def _ensure(
        self, card: ModelCard, turn_id: str, should_stop: Callable[[], bool]
    ) -> tuple[_Resident, float, int]:
        self._reap()
        if card.name in self._residents:
            return self._residents[card.name], 0.0, 0
        path = self._home / "models" / card.filename
        if card.backend != "fake" and not path.is_file():
            raise WeightsMissing(
                f"The weights of {card.name} are not here.", mend=f"sage models pull {card.name}"
            )
        loaded = [
            Loaded(name=name, bytes=r.bytes, last_used=r.last_used, busy=r.busy > 0)
            for name, r in self._residents.items()
        ]
        for victim in make_room(self._estimate(card), self._free_bytes(), loaded, name=card.name):
            self.unload(victim, reason=f"made room for {card.name}")
        self._bus.emit(LoadStarted(turn_id=turn_id, model=card.name, bytes=card.bytes))
        worker = Worker(
            worker_spec(self._home, card, self._settings),
            worker_limits(self._settings),
            log=self._log(),
            should_stop=should_stop,
        )
        resident = _Resident(worker=worker, bytes=worker.resident_bytes(), last_used=self._clock.monotonic())
        self._residents[card.name] = resident
        self._note(card.name, worker.pid)
        self._bus.emit(
            LoadFinished(
                turn_id=turn_id, model=card.name, seconds=worker.load_s, resident_bytes=resident.bytes
            )
        )
        return resident, worker.load_s, card.bytes

    def _log(self) -> Path:
        folder = self._home / "run"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "worker.log"

    def _reap(self) -> None:
        for name in [n for n, r in self._residents.items() if not r.worker.alive]:
            self._residents[name].worker.close()
            self._forget(name, "died")

    def _forget(self, name: str, reason: str) -> None:
        if self._residents.pop(name, None) is not None:
            with contextlib.suppress(OSError):
                self._note_path(name).unlink()
            self._bus.emit(Unloaded(model=name, reason=reason))

    def _note_path(self, name: str) -> Path:
        return self._home / "run" / f"{os.getpid()}-{name}.json"

    def _note(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError):
            written = self._note_path(name).with_suffix(".new")
            written.write_text(json.dumps({"model": name, "pid": pid}))
            os.replace(written, self._note_path(name))  # whole at once: others read it


def worker_spec(home: Path, card: ModelCard, settings: ModelSettings) -> WorkerSpec:
    """How this card is loaded on this machine."""
    return WorkerSpec(
        name=card.name,
        backend=card.backend,
        path=home / "models" / card.filename,
        context=min(settings.context, card.context_length),
        threads=settings.threads or max(1, (os.cpu_count() or 2) - 1),
        prompt_style=card.prompt_style,
        script=card.script,
    )


def worker_limits(settings: ModelSettings) -> WorkerLimits:
    """The patience that the settings allow."""
    return WorkerLimits(
        load_s=settings.load_timeout_s,
        answer_s=settings.answer_timeout_s,
        silence_s=settings.silence_timeout_s,
        stop_s=settings.stop_timeout_s,
    )


def resident_models(home: Path) -> set[str]:
    """Names of the models that any SAGE process on this ``SAGE_HOME`` has loaded now."""
    return {model for path in (home / "run").glob("*.json") if (model := _noted(path))}


def _noted(path: Path) -> str:
    """The model of a note whose worker lives; empty for a note that a killed process left."""
    import psutil

    try:
        note = json.loads(path.read_text())
        command = psutil.Process(note["pid"]).cmdline()
        # A process id is used again by others in time.
        return str(note["model"]) if "sage.zoo.worker" in command else ""
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return ""


def _clear_notes(home: Path) -> None:
    for path in (home / "run").glob("*.json"):
        if not _noted(path):
            with contextlib.suppress(OSError):
                path.unlink()


def fake_round_trip() -> float:
    """Seconds for a worker process to start, load the fake model, answer and end."""
    started = SystemClock().monotonic()
    spec = WorkerSpec(name="fake", backend="fake", path=Path(), context=512, threads=1)
    limits = WorkerLimits(load_s=30.0, answer_s=10.0, silence_s=10.0, stop_s=5.0)
    worker = Worker(spec, limits)
    try:
        request = GenerationRequest(messages=(Message(role="user", content="hello"),))
        answer = worker.ask(request, lambda _text: None)
    finally:
        worker.close()
    if answer.text != "You said: hello":
        raise AssertionError(f"the fake model answered {answer.text!r}")
    return SystemClock().monotonic() - started
