"""The models that are in memory on this machine: load, ask, make room, unload.

Owns: the workers of this process, and the note in ``SAGE_HOME/run`` that tells other processes of them.
Must not know: which model should answer, or what answers cost.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sage.clock import Clock, SystemClock
from sage.config import ModelSettings
from sage.errors import DeadlineExceeded, DoesNotFit, Interrupted, SageError, WeightsMissing
from sage.events import EventBus, LoadFinished, LoadStarted, Unloaded
from sage.hardware.probe import usable_cores
from sage.types import Completion, GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.eviction import Loaded, make_room
from sage.zoo.process import POLL_S, Worker, WorkerGone, WorkerLimits, WorkerSpec
from sage.zoo.remote import remote_options

__all__ = ["Answer", "Host", "fake_round_trip", "resident_models", "worker_limits", "worker_spec"]


LOG_BYTES = 10_000_000
"""Native libraries are chatty: weeks of their lines would fill a small disk."""


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


@dataclass(slots=True)
class _Load:
    """A load in progress. ``bytes`` is what it has reserved, 0 until it has made room."""

    bytes: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    error: SageError | None = None


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long one request waits: until its caller stops it, or its time is up."""

    clock: Clock
    should_stop: Callable[[], bool]
    deadline: float

    @property
    def over(self) -> bool:
        return self.should_stop() or self.clock.monotonic() >= self.deadline

    def check(self, name: str) -> None:
        if self.should_stop():
            raise Interrupted(f"Stopped while {name} was loading.")
        if self.clock.monotonic() >= self.deadline:
            raise DeadlineExceeded(f"{name} was not loaded in time.", mend="Allow more time")

    def wait(self, ready: Callable[[float], bool], name: str) -> None:
        """Until ``ready``, which waits itself for as many seconds as it is given."""
        while not ready(POLL_S):
            self.check(name)

    def left_of(self, request: GenerationRequest) -> GenerationRequest:
        if request.deadline_s is None:
            return request
        return replace(request, deadline_s=max(POLL_S, self.deadline - self.clock.monotonic()))


class Host:
    """Keeps workers. Thread-safe: a load, an answer or an unload holds up only those that need its model.

    ``_lock`` guards the tables and is never held while waiting. ``_room`` is held by one load at a time
    while it makes room, so that two loads do not count on the same bytes.
    """

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
        self._loads: dict[str, _Load] = {}
        self._closed = False
        self._lock = threading.RLock()
        self._room = threading.Lock()
        _clear_notes(home)

    def resident(self) -> dict[str, int]:
        """Bytes by name of the models that are loaded and alive."""
        with self._lock:
            self._reap()
            return {name: resident.bytes for name, resident in self._residents.items()}

    def reclaimable(self) -> int:
        """Bytes that unloading every idle model would give back."""
        with self._lock:
            self._reap()
            return sum(resident.bytes for resident in self._residents.values() if not resident.busy)

    def mapped_bytes(self) -> int:
        """Bytes of files that loaded models hold in memory: the system counts them as available."""
        with self._lock:
            workers = [resident.worker for resident in self._residents.values()]
        return sum(worker.mapped_bytes() for worker in workers)

    def ask(
        self,
        card: ModelCard,
        request: GenerationRequest,
        on_text: Callable[[str], None],
        *,
        should_stop: Callable[[], bool] = lambda: False,
        turn_id: str = "",
    ) -> Answer:
        """Have the model loaded, and answer. The request's deadline counts from this call.

        Raises:
            WeightsMissing, DoesNotFit, LoadFailed: before anything is asked.
            Interrupted: ``should_stop`` turned true before the model was loaded.
            WorkerDied, DeadlineExceeded, ContextTooLong, UsageError: from the worker.
        """
        seconds = float("inf") if request.deadline_s is None else request.deadline_s
        patience = _Patience(self._clock, should_stop, self._clock.monotonic() + seconds)
        try:
            return self._ask(card, request, on_text, patience, turn_id)
        except WorkerGone:  # lost to another request, before this one had its turn
            return self._ask(card, request, on_text, patience, turn_id)

    def _ask(
        self,
        card: ModelCard,
        request: GenerationRequest,
        on_text: Callable[[str], None],
        patience: _Patience,
        turn_id: str,
    ) -> Answer:
        resident, load_s, load_bytes = self._take(card, turn_id, patience)
        try:
            completion = resident.worker.ask(
                patience.left_of(request), on_text, should_stop=patience.should_stop
            )
        finally:
            self._give_back(card.name, resident)
        return Answer(
            completion=completion, load_s=load_s, load_bytes=load_bytes, resident_bytes=resident.bytes
        )

    def unload(self, name: str, *, reason: str = "asked") -> None:
        """End a model's worker; does nothing when it is not loaded."""
        with self._lock:
            resident = self._forget(name) if name in self._residents else None
        if resident:
            self._end(name, resident, reason)

    def close(self) -> None:
        """End every worker, also those that are loading. Nothing is loaded from then on."""
        with self._lock:
            self._closed = True
            loads = list(self._loads.values())
        try:
            for name in list(self._residents):
                self.unload(name, reason="shutdown")
        except BaseException:  # Ctrl-C again: no more patience
            for resident in self._residents.values():
                resident.worker.kill()
            raise
        for load in loads:
            load.done.wait(self._settings.stop_timeout_s)

    def _take(self, card: ModelCard, turn_id: str, patience: _Patience) -> tuple[_Resident, float, int]:
        """The loaded model, counted as busy from now on; seconds and bytes if it was loaded for this."""
        while True:
            with self._lock:
                self._reap()
                if resident := self._residents.get(card.name):
                    resident.busy += 1
                    return resident, 0.0, 0
                if self._closed:
                    raise Interrupted(f"{card.name} is not loaded any more: SAGE is ending.")
                mine = card.name not in self._loads
                load = self._loads.setdefault(card.name, _Load())
            if mine:
                return self._load(card, load, turn_id, patience)
            patience.wait(load.done.wait, card.name)
            if load.error:  # a load that was only stopped has none: one of those who wait tries anew
                raise type(load.error)(load.error.message, mend=load.error.mend) from load.error

    def _give_back(self, name: str, resident: _Resident) -> None:
        alive = resident.worker.alive
        with self._lock:
            resident.busy -= 1
            resident.last_used = self._clock.monotonic()
            resident.bytes = max(resident.bytes, resident.worker.resident_bytes())
        if not alive:
            self._drop(name, resident)

    def _load(
        self, card: ModelCard, load: _Load, turn_id: str, patience: _Patience
    ) -> tuple[_Resident, float, int]:
        """Load for everyone who waits for ``load``."""
        try:
            path = self._home / "models" / card.filename
            if card.backend != "fake" and not card.remote and not path.is_file():
                raise WeightsMissing(
                    f"The weights of {card.name} are not here.", mend=f"sage models pull {card.name}"
                )
            self._make_room(card, load, patience)
            self._bus.emit(LoadStarted(turn_id=turn_id, model=card.name, bytes=card.bytes))
            worker = self._start(card, patience)
            resident = _Resident(
                worker=worker, bytes=worker.resident_bytes(), last_used=self._clock.monotonic(), busy=1
            )
            with self._lock:
                if not self._closed:
                    self._residents[card.name] = resident
                    self._note(card.name, worker.pid)
            if self._closed:
                worker.close()
                raise Interrupted(f"Stopped while {card.name} was loading.")
        except (Interrupted, DeadlineExceeded):
            raise
        except SageError as error:
            load.error = error
            raise
        finally:
            with self._lock:
                del self._loads[card.name]
            load.done.set()
        self._bus.emit(
            LoadFinished(
                turn_id=turn_id, model=card.name, seconds=worker.load_s, resident_bytes=resident.bytes
            )
        )
        return resident, worker.load_s, card.bytes

    def _start(self, card: ModelCard, patience: _Patience) -> Worker:
        try:
            return Worker(
                worker_spec(self._home, card, self._settings),
                worker_limits(self._settings),
                log=self._log(),
                should_stop=lambda: self._closed or patience.over,
            )
        except Interrupted:
            patience.check(card.name)  # says so where it was the deadline
            raise

    def _make_room(self, card: ModelCard, load: _Load, patience: _Patience) -> None:
        """Reserve what the model needs, and unload whom that takes.

        What fits only without models that are loading or busy now waits for them, but no longer than an
        answer may take. A request whose time is over unloads nobody.
        """
        need = self._estimate(card)
        give_up = self._clock.monotonic() + self._settings.answer_timeout_s
        while True:
            patience.wait(lambda seconds: self._room.acquire(timeout=seconds), card.name)
            try:
                patience.check(card.name)
                may_wait = self._clock.monotonic() < give_up
                victims = self._plan(card.name, need, load, may_wait=may_wait)
                for name, victim in (victims or {}).items():
                    self._end(name, victim, f"made room for {card.name}")
            finally:
                self._room.release()
            if victims is not None:
                return
            time.sleep(POLL_S)

    def _plan(self, name: str, need: int, load: _Load, *, may_wait: bool) -> dict[str, _Resident] | None:
        """Whom to unload, no longer to be asked; None where waiting could help."""
        with self._lock:
            loading = sum(other.bytes for other in self._loads.values())
            free = self._free_bytes() - loading
            loaded = [
                Loaded(name=name, bytes=r.bytes, last_used=r.last_used, busy=r.busy > 0)
                for name, r in self._residents.items()
            ]
            try:
                names = make_room(need, free, loaded, name=name)
            except DoesNotFit:
                if not may_wait:
                    raise
                idle = [replace(model, busy=False) for model in loaded]
                make_room(need, free + loading, idle, name=name)  # raises where waiting would not help
                return None
            load.bytes = need
            return {victim: self._forget(victim) for victim in names}

    def _log(self) -> Path:
        folder = self._home / "run"
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "worker.log"
        with contextlib.suppress(OSError):
            if log.stat().st_size > LOG_BYTES:
                os.truncate(log, 0)  # those that write to it append
        return log

    def _reap(self) -> None:
        for name, resident in list(self._residents.items()):
            if not resident.worker.alive:
                self._drop(name, resident)

    def _drop(self, name: str, resident: _Resident) -> None:
        """Forget a worker that died, but not one that was loaded since under the same name."""
        with self._lock:
            known = self._residents.get(name) is resident
            if known:
                self._forget(name)
        if known:
            self._end(name, resident, "died")

    def _forget(self, name: str) -> _Resident:
        with contextlib.suppress(OSError):
            self._note_path(name).unlink()
        return self._residents.pop(name)

    def _end(self, name: str, resident: _Resident, reason: str) -> None:
        resident.worker.close()
        self._bus.emit(Unloaded(model=name, reason=reason))

    def _note_path(self, name: str) -> Path:
        return self._home / "run" / f"{os.getpid()}-{name}.json"

    def _note(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError):
            written = self._note_path(name).with_suffix(".new")
            written.write_text(json.dumps({"model": name, "pid": pid}))
            os.replace(written, self._note_path(name))  # whole at once: others read it


def worker_spec(home: Path, card: ModelCard, settings: ModelSettings) -> WorkerSpec:
    """How this card is loaded on this machine.

    Raises:
        ConfigError: a server runs it, and that server may not be asked.
    """
    return WorkerSpec(
        name=card.name,
        backend=card.backend,
        path=home / "models" / card.filename,
        context=min(settings.context, card.context_length),
        threads=settings.threads or max(1, usable_cores() - 1),
        prompt_style=card.prompt_style,
        extra=remote_options(card, settings) if card.remote else card.script,
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
