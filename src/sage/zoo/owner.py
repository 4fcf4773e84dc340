"""The one thread that decides which models are in memory, and the workers it has.

Owns: the residency, the workers and their helpers' threads, and the picture that others may read.
Must not know: what models are asked, or why they are wanted; who goes for whom is ``residency.py``'s.

Whoever wants a change posts a job; jobs run one after another on the owner's thread. Starting and stopping a
worker takes seconds, so helpers do it on threads of their own and post what became of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from sage.clock import Clock
from sage.config import ModelSettings
from sage.errors import Interrupted, LoadFailed, RateLimited, RemoteFailed, SageError
from sage.events import EventBus, LoadFinished, LoadProgress, LoadStarted, RoomAwaited, Unloaded
from sage.zoo.card import ModelCard
from sage.zoo.dispatch import Dispatcher
from sage.zoo.gauge import Occupied, occupied
from sage.zoo.holding import Caller, Picture, Resident
from sage.zoo.launch import worker_limits, worker_spec
from sage.zoo.notes import erase_note, worker_log, write_note
from sage.zoo.process import Worker
from sage.zoo.remembered import Remembered, measured_of
from sage.zoo.residency import Residency
from sage.zoo.signals import (
    Effect,
    Failed,
    Gone,
    Grant,
    LetGo,
    Load,
    Loaded,
    PrefetchAsked,
    Pressed,
    Refuse,
    Requested,
    Served,
    ShutDown,
    Signal,
    Ticked,
    Unload,
    UnloadAsked,
    Wait,
    Withdrawn,
)

__all__ = ["Owner"]

T = TypeVar("T")

TICK_S = 1.0
"""How often the owner looks at its workers and at the memory while there are any."""

DIED = "died"
"""The reason why a worker left whom nobody told to."""

READINGS = 3
"""How often memory is read at once before it is left for later, while a process is giving some back."""

TELL_S = 1.0
"""How long whoever waited for a change waits for those who are told of it."""


class Owner:
    """Runs from the first job on; ends when it was closed and the last worker is gone."""

    def __init__(
        self,
        home: Path,
        settings: ModelSettings,
        *,
        free_bytes: Callable[[], int],
        bus: EventBus,
        clock: Clock,
    ) -> None:
        self._home = home
        self._settings = settings
        self._free_bytes = free_bytes
        self._bus = Dispatcher(bus)
        self._clock = clock
        self._residency = Residency(queue=settings.queue)
        self._residents: dict[str, Resident] = {}
        self._callers: dict[str, Caller] = {}
        self._cards: dict[str, ModelCard] = {}
        self._unhelped: list[Callable[[], None]] = []
        self._tick_at = 0.0
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._over = threading.Event()
        self._staying: Mapping[str, Resident] = {}
        self._occupied: Mapping[str, Occupied] = {}
        self._remembered = Remembered(home, clock)
        self._measured_of: dict[str, str] = {}
        self._refresh()
        self._picture = Picture(rests_until=self._residency.breaker.resting(clock.monotonic()))

    # Any thread may call these.

    @property
    def staying(self) -> Mapping[str, Resident]:
        """The loaded models that nobody has told to leave; a copy that does not change."""
        return self._staying

    @property
    def picture(self) -> Picture:
        """How memory stood after the last job."""
        return self._picture

    @property
    def occupied(self) -> Mapping[str, Occupied]:
        """What every worker occupied when memory was last looked at, also those that load or leave."""
        return self._occupied

    def corrected(self, card: ModelCard, estimate: int) -> int:
        """Bytes that would be set aside for a model: the estimate, corrected by what was measured of it."""
        of = measured_of(card, self._home, self._settings.context)
        if self._measured_of.get(card.name) == of:
            return self._residency.footprints.known(card.name).corrected(estimate)
        return self._remembered.footprint(card.name, of).corrected(estimate)

    def flush(self) -> None:
        """Wait until subscribers know what happened so far, but not for ever."""
        self._bus.flush(TELL_S)

    def post(self, job: Callable[[], None]) -> bool:
        """Hand over something to do; False when the owner has ended.

        Raises:
            LoadFailed: the owner had not begun, and no thread can be started.
        """
        with self._gate:
            if self._over.is_set():
                return False
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sage-owner", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise LoadFailed(f"No model can be loaded: {error}.") from error
                self._thread = thread
            self._inbox.put(job)
            return True

    def call(self, job: Callable[[], T]) -> T | None:
        """What a job answers, once the picture shows it; None when the owner has ended."""
        if threading.current_thread() is self._thread:
            return job()
        answer: Future[T] = Future()

        def work() -> None:
            try:
                found = job()
                self._publish()
                answer.set_result(found)
            except BaseException as error:
                answer.set_exception(error)

        return answer.result() if self.post(work) else None

    def close(self) -> None:
        """End every worker, and wait until they are gone; what takes too long is killed from here."""
        patience = 3 * self._settings.stop_timeout_s + TICK_S  # to obey, to be killed, to close the pipes
        with self._gate:
            self._closing = True
            if self._thread is None:
                self._over.set()
        try:
            self.post(lambda: self.feed(ShutDown()))
            if not self._over.wait(patience):
                self._kill()
        except BaseException:  # Ctrl-C again: no more patience
            self._kill()
            raise
        self.flush()

    def _kill(self) -> None:
        for resident in list(self._residents.values()):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if resident.worker:
                    resident.worker.kill()
                elif resident.pid:
                    os.killpg(resident.pid, signal.SIGKILL)
        self._over.wait(self._settings.stop_timeout_s)

    # Jobs: the owner's thread alone runs what follows, but for the two helpers that say so.

    def feed(self, what: Signal) -> None:
        """Let the residency know, and do what it wants."""
        for effect in self._residency.handle(what, self._clock.monotonic()):
            try:
                self._do(effect)
            except Exception:  # the others must not be lost with it
                logging.getLogger(__name__).exception("the owner of the models failed at %s", effect)

    def request(self, caller: Caller, signal: Requested) -> None:
        """Somebody begins to wait."""
        self._reap()
        self._callers[caller.id] = caller
        self._cards[caller.card.name] = caller.card
        if caller.card.name not in self._residents:
            self._recall(caller.card)
            self._press()
        self.feed(signal)

    def served(self, caller: Caller, size: int, failure: SageError | None, *, long: bool = False) -> None:
        """Somebody waits no more, or needs the model no more, which occupied at most ``size`` bytes."""
        self._callers.pop(caller.id, None)
        if caller.resident is None:
            self.feed(Withdrawn(id=caller.id))
            return
        if failure and caller.resident.reason not in ("", DIED):  # it was ended with its work unfinished
            failure = Interrupted(f"{caller.card.name} was told to leave.")
        self._reap()
        self.feed(Served(id=caller.id, bytes=size, long=long, failure=failure))
        rests = self._residency.breaker.state(caller.card.name, self._clock.monotonic()) == "open"
        if rests and caller.card.remote and not isinstance(failure, RateLimited):
            # Its worker is no warm model: whether the server is there is asked anew, which is soon known.
            self.dismiss(caller.card.name, "its server failed")

    def prefetch(self, card: ModelCard, size: int) -> None:
        """A model of estimated ``size`` may be wanted soon."""
        self._reap()
        self._press()
        if card.name not in self._residents:
            self._recall(card)
            self._cards[card.name] = card
            self.feed(PrefetchAsked(model=card.name, bytes=size))

    def dismiss(self, name: str, reason: str) -> Resident | None:
        """A model is to leave; returns it where it will."""
        self._reap()
        self.feed(UnloadAsked(model=name, reason=reason))
        leaves = {model.name for model in self._residency.standing() if model.leaves}
        return self._residents.get(name) if name in leaves else None

    def dismiss_all(self, reason: str) -> list[Resident] | None:
        """Every model is to leave, if nothing is in use or waited for; None where something is."""
        if not self._residency.idle:
            return None
        leaving = list(self._residents.values())
        self.feed(LetGo(reason=reason))
        return leaving

    def _run(self) -> None:
        while True:
            try:
                job = self._inbox.get(timeout=self._patience())
            except queue.Empty:
                job = self._tick
            try:
                job()
                if self._clock.monotonic() >= self._tick_at:
                    self._tick()
                self._publish()
            except Exception:  # one bad job must not leave everybody waiting
                logging.getLogger(__name__).exception("the owner of the models failed at one task")
            with self._gate:
                if self._closing and not self._residents and self._inbox.empty():
                    self._over.set()
                    return

    def _patience(self) -> float | None:
        if not self._residents and not self._callers and not self._unhelped:
            return None
        return max(0.0, min(TICK_S, self._residency.wake_at - self._clock.monotonic()))

    def _refresh(self) -> None:
        """Take in what another process of this home learned while it held the models."""
        if self._remembered.refresh():
            self._residency.breaker.recall(self._remembered.health)
            self._measured_of = {}

    def _recall(self, card: ModelCard) -> None:
        """What is known of a model that is not here, unless its weights are others by now."""
        if not self._residents:
            self._refresh()
        of = measured_of(card, self._home, self._settings.context)
        if self._measured_of.get(card.name) != of:
            self._measured_of[card.name] = of
            self._residency.footprints.recall(card.name, self._remembered.footprint(card.name, of))

    def _keep(self) -> None:
        known = self._residency.footprints.known
        footprints = {name: (of, known(name)) for name, of in self._measured_of.items() if known(name).peak}
        self._remembered.keep(self._residency.breaker.sick, footprints)

    def _publish(self) -> None:
        residency, now = self._residency, self._clock.monotonic()
        self._show_staying()
        self._picture = Picture(
            budget=residency.budget,
            used=residency.used,
            models=residency.standing(),
            occupied={name: r.bytes for name, r in self._residents.items()},
            pids={name: r.pid for name, r in self._residents.items() if r.pid},
            rests_until=residency.breaker.resting(now),
        )
        if residency.breaker.sick != self._remembered.health:
            self._keep()

    def _show_staying(self) -> None:
        self._staying = {n: r for n, r in self._residents.items() if r.worker and not r.reason}

    def _tick(self) -> None:
        now = self._clock.monotonic()
        self._tick_at = now + TICK_S
        jobs, self._unhelped = self._unhelped, []
        for job in jobs:
            self._help(job)
        self._reap()
        if self._residents:
            self._press()
            worker_log(self._home)  # cuts what has grown long
        for name, resident in self._residents.items():
            spent = now - resident.started
            if resident.worker is None and not resident.reason and spent >= TICK_S:
                self._bus.emit(LoadProgress(turn_id=resident.turn_id, model=name, seconds=spent))
        self.feed(Ticked())

    def _press(self) -> None:
        """Tell what all models may take: what is free, and what all their processes occupy, also those that
        load or leave.

        A process that gives memory back between the two readings would be counted twice: then both are read
        again, or the last figure stands until the next tick.
        """
        self._show_staying()
        for _ in range(READINGS):
            before = self._look()
            try:
                free = self._free_bytes()
            except Exception:  # no descriptors are left, say: the last figure stands
                logging.getLogger(__name__).exception("free memory cannot be read")
                return
            after = self._look()
            if all(after[name].bytes >= 0.99 * size.bytes for name, size in before.items()):
                self.feed(Pressed(budget=free + sum(size.bytes for size in before.values())))
                return

    def _look(self) -> Mapping[str, Occupied]:
        found = {name: _occupied(resident) for name, resident in self._residents.items()}
        for name, resident in self._residents.items():
            resident.bytes = found[name].bytes
        self._occupied = found  # what is free depends on it
        return found

    def _reap(self) -> None:
        """Take note of workers that died. Their processes are gone; only their pipes are left to close."""
        for name, resident in list(self._residents.items()):
            if resident.worker and not resident.reason and not resident.worker.alive:
                resident.reason = DIED
                erase_note(self._home, name)
                self._help(resident.worker.close)
                self._gone(resident)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Load():
                self._load(effect.model)
            case Unload():
                resident = self._residents[effect.model]
                resident.reason = effect.reason  # a load that sees it stops
                if resident.worker:
                    erase_note(self._home, effect.model)
                    self._help(partial(self._stop, resident, resident.worker))
            case Grant():
                self._grant(self._callers[effect.id])
            case Refuse():
                refused = self._callers[effect.id]
                refused.error = effect.error
                refused.done.set()
            case Wait():
                waiting = self._callers[effect.id]
                name = waiting.card.name
                if behind := tuple(other for other in effect.behind if other != name):
                    self._bus.emit(RoomAwaited(turn_id=waiting.turn_id, model=name, behind=behind))

    def _grant(self, caller: Caller) -> None:
        resident = self._residents[caller.card.name]
        caller.resident = resident
        if resident.unpaid and resident.worker:
            resident.unpaid = False
            caller.load_s, caller.load_bytes = resident.worker.load_s, resident.card.bytes
        caller.done.set()

    def _load(self, name: str) -> None:
        card = self._cards[name]
        turn = next((c.turn_id for c in self._callers.values() if c.card.name == name), "")
        resident = Resident(card, turn, self._clock.monotonic())
        self._residents[name] = resident
        self._bus.emit(LoadStarted(turn_id=turn, model=name, bytes=card.bytes))
        self._help(partial(self._start, resident))

    def _start(self, resident: Resident) -> None:
        """On a helper's thread: start a worker, and say what came of it."""
        card, worker = resident.card, None
        try:
            worker = Worker(
                worker_spec(self._home, card, self._settings),
                worker_limits(card, self._settings),
                log=worker_log(self._home),
                should_stop=lambda: bool(resident.reason),
                on_started=lambda pid: setattr(resident, "pid", pid),
            )
            size = worker.peak_bytes()
        except BaseException as error:
            text = f"{card.name} could not be started: {type(error).__name__}: {error}"
            failure = error if isinstance(error, SageError) else LoadFailed(text)
            if worker:
                worker.close()
            self.post(lambda: self._failed(resident, failure))
        else:
            self.post(partial(self._loaded, resident, worker, size))

    def _loaded(self, resident: Resident, worker: Worker, size: int) -> None:
        name = resident.card.name
        resident.worker = worker
        if resident.reason:
            self._help(partial(self._stop, resident, worker))
            return
        resident.unpaid = any(caller.card.name == name for caller in self._callers.values())
        write_note(self._home, name, worker.pid)
        self._press()
        self._bus.emit(
            LoadFinished(
                turn_id=resident.turn_id, model=name, seconds=worker.load_s, resident_bytes=resident.bytes
            )
        )
        self.feed(Loaded(model=name, bytes=size))

    def _failed(self, resident: Resident, error: SageError) -> None:
        name, spent = resident.card.name, self._clock.monotonic() - resident.started
        if resident.reason:  # it was stopped, which says nothing of it, unless its server kept all waiting
            error = Interrupted(f"{name} was stopped while it was loading.")
            if resident.card.remote and spent >= TICK_S:
                error = RemoteFailed(f"{name}: its server does not answer.", silent_s=spent)
        del self._residents[name]
        resident.gone.set()
        self._press()
        self.feed(Failed(model=name, error=error))

    def _stop(self, resident: Resident, worker: Worker) -> None:
        """On a helper's thread: end a worker, by force when it takes too long, and say so."""
        try:
            worker.close()
        finally:
            self.post(lambda: self._gone(resident))

    def _gone(self, resident: Resident) -> None:
        name = resident.card.name
        del self._residents[name]
        self._keep()
        self._bus.emit(Unloaded(model=name, reason=resident.reason))
        resident.gone.set()
        self._press()
        self.feed(Gone(model=name))

    def _help(self, job: Callable[[], None]) -> None:
        """Do it on a thread of its own; where none can be started, at the next tick."""
        try:
            threading.Thread(target=job, name="sage-owner-helper", daemon=True).start()
        except RuntimeError:
            if self._closing:
                job()
            else:
                self._unhelped.append(job)


def _occupied(resident: Resident) -> Occupied:
    """A process that still loads has not said yet what it holds on a GPU."""
    if resident.worker:
        return resident.worker.occupied()
    return occupied(resident.pid) if resident.pid else Occupied()
