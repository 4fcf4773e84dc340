"""The models that are in memory on this machine: load, ask, make room, unload.

Owns: what a caller of a model sees: waiting, stopping, deadlines, what it took.
Must not know: which model should answer, or what answers cost; who is loaded is decided by ``owner.py``.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sage.clock import Clock, SystemClock
from sage.config import ModelSettings
from sage.errors import DeadlineExceeded, Interrupted, RemoteFailed, SageError, WeightsMissing, WorkerDied
from sage.events import EventBus
from sage.types import Completion, GenerationRequest
from sage.zoo.card import ModelCard
from sage.zoo.holding import Caller, Picture, Resident
from sage.zoo.lease import HomeLease, Unshared
from sage.zoo.notes import clear_notes
from sage.zoo.owner import Owner
from sage.zoo.process import POLL_S, WorkerGone
from sage.zoo.signals import Appraised, Requested, Ticked
from sage.zoo.sources import state

__all__ = ["Answer", "Host", "Taken"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What it took to have a model loaded (0 when it was), and what it occupies."""

    load_s: float
    load_bytes: int
    resident_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Taken):
    """A completion, and what it took to have the model loaded."""

    completion: Completion


class Host:
    """Keeps workers. Thread-safe: a load, an answer or an unload holds up only those that need its model."""

    def __init__(
        self,
        home: Path,
        settings: ModelSettings,
        *,
        free_bytes: Callable[[], int],
        estimate: Callable[[ModelCard], int],
        bus: EventBus | None = None,
        clock: Clock | None = None,
        lease: HomeLease | None = None,
    ) -> None:
        """``free_bytes`` is what models may still take; ``estimate`` what one will take, both in bytes."""
        self._home = home
        self._settings = settings
        self._estimate = estimate
        self._clock = clock or SystemClock()
        self._lease = lease or Unshared()
        self._owner = Owner(home, settings, free_bytes=free_bytes, bus=bus or EventBus(), clock=self._clock)
        clear_notes(home)

    def resident(self) -> dict[str, int]:
        """Bytes by name of the models that are loaded and alive."""
        return {
            name: resident.bytes
            for name, resident in self._owner.staying.items()
            if resident.worker and resident.worker.alive
        }

    def reclaimable(self) -> int:
        """Bytes that unloading every idle model would give back."""
        busy = {model.name for model in self._owner.picture.models if model.busy}
        return sum(size for name, size in self.resident().items() if name not in busy)

    def mapped_bytes(self) -> int:
        """The part of ``occupied_bytes`` that belongs to files: the system counts them as available."""
        return sum(found.mapped for found in self._owner.occupied.values())

    def occupied_bytes(self) -> int:
        """What every worker occupies, also those that load or leave, when memory was last looked at."""
        return sum(found.bytes for found in self._owner.occupied.values())

    def memory_need(self, card: ModelCard) -> int:
        """Bytes that would be set aside for this model, were it asked for. Raises as ``estimate`` does."""
        return self._owner.corrected(card, self._estimate(card))

    def resting(self) -> Mapping[str, float]:
        """Models that failed too often to be asked now, and for how many seconds more."""
        now, until = self._clock.monotonic(), self._owner.picture.rests_until
        return {name: end - now for name, end in until.items() if end > now}

    @property
    def picture(self) -> Picture:
        """How memory stands: the budget, what takes it, and who waits."""
        return self._owner.picture

    def ask(
        self,
        card: ModelCard,
        request: GenerationRequest,
        on_text: Callable[[str], None],
        *,
        should_stop: Callable[[], bool] = lambda: False,
        turn_id: str = "",
        head_start_s: float = 0.0,
    ) -> Answer:
        """Have the model loaded, and answer. The request's deadline counts from this call; among those that
        wait it stands as if it had waited ``head_start_s`` already.

        Raises:
            WeightsMissing, UnsafeFile, DoesNotFit, LoadFailed: before anything is asked.
            HomeInUse: another process has the models of this home.
            Interrupted: ``should_stop`` turned true before the model was loaded.
            WorkerDied, DeadlineExceeded, ContextTooLong, UsageError: from the worker.
        """
        deadline = self._deadline(request.deadline_s)
        with self._lease.use(should_stop=should_stop, timeout=deadline - self._clock.monotonic()):
            for again in (True, False):
                caller = Caller(card, turn_id, deadline, head_start_s)
                try:
                    return self._ask(caller, request, on_text, should_stop)
                except WorkerGone:  # it died idle, and nobody had noticed
                    if not again:
                        raise
        raise AssertionError("unreachable")

    def load(
        self, card: ModelCard, *, should_stop: Callable[[], bool] = lambda: False, turn_id: str = ""
    ) -> Taken:
        """Have the model loaded, without asking anything. Raises as ``ask`` does before it asks."""
        deadline = self._deadline(None)
        with self._lease.use(should_stop=should_stop, timeout=deadline - self._clock.monotonic()):
            caller = Caller(card, turn_id, deadline)
            try:
                resident = self._wait_for(caller, should_stop, uses=False)
            finally:
                self._let_go(caller, Interrupted("Nothing was asked."))
            return Taken(load_s=caller.load_s, load_bytes=caller.load_bytes, resident_bytes=resident.bytes)

    def prefetch(self, card: ModelCard) -> None:
        """Load a model that may be wanted soon, if nothing else is going on; returns at once.

        It takes free room, or that of models which are worth less (``appraise``). A request for it joins
        the load, any other load stops it. Before the first request, and after the memory was let go until the
        next one, nothing is done: the home may be another process's.
        """
        if card.name not in self._owner.staying:
            with contextlib.suppress(SageError):
                size = self._need(card)
                self._owner.post(lambda: self._owner.prefetch(card, size))

    def appraise(self, worth: Mapping[str, float]) -> None:
        """Say what permission would be lost without each model; what is not named is worth nothing."""
        kept = dict(worth)
        self._owner.post(lambda: self._owner.feed(Appraised(worth=kept)))

    def unload(self, name: str, *, reason: str = "asked") -> int | None:
        """End a model's worker after the answer it is giving, or while it loads; returns the bytes that it
        occupied, None where it was not in memory."""
        resident = self._owner.call(lambda: self._owner.dismiss(name, reason))
        if resident is None:
            return None
        resident.gone.wait()
        self._owner.flush()
        return resident.bytes

    def release_if_idle(self) -> bool:
        """Unload every model if nothing is in use or waited for; False where something is."""
        leaving = self._owner.call(lambda: self._owner.dismiss_all("another process asked"))
        for resident in leaving or ():
            resident.gone.wait()
        self._owner.flush()
        return leaving is not None

    def close(self) -> None:
        """End every worker, also those that load or answer. Nothing is loaded from then on."""
        self._owner.close()

    def _deadline(self, seconds: float | None) -> float:
        """Without one of its own, a request waits as long as a load and an answer before it may take."""
        patience = self._settings.load_timeout_s + self._settings.answer_timeout_s
        return self._clock.monotonic() + (patience if seconds is None else min(seconds, patience))

    def _ask(
        self,
        caller: Caller,
        request: GenerationRequest,
        on_text: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> Answer:
        failure: SageError | None = Interrupted("Nobody waits any more.")
        long, asked = False, math.inf
        try:
            resident = self._wait_for(caller, should_stop, uses=True)
            assert resident.worker is not None  # noqa: S101  granted, so loaded
            if request.deadline_s is not None:
                left = max(POLL_S, caller.deadline - self._clock.monotonic())
                request = replace(request, deadline_s=left)
            asked = self._clock.monotonic()
            completion = resident.worker.ask(request, on_text, should_stop=should_stop)
            if completion.text or completion.finish_reason != "cancelled":  # else it showed nothing yet
                failure = None
            used = completion.prompt_tokens + completion.completion_tokens
            long = used >= caller.card.room(self._settings.context) / 2
        except SageError as error:
            failure = error
            waited = self._clock.monotonic() - asked
            if isinstance(error, DeadlineExceeded) and caller.card.remote and waited > 0:
                failure = RemoteFailed(f"{caller.card.name} said nothing.", silent_s=waited)
            raise
        finally:
            self._let_go(caller, failure, long=long)
        return Answer(
            completion=completion,
            load_s=caller.load_s,
            load_bytes=caller.load_bytes,
            resident_bytes=resident.bytes,
        )

    def _wait_for(self, caller: Caller, should_stop: Callable[[], bool], *, uses: bool) -> Resident:
        """The loaded model, this caller's own until ``_let_go``."""
        name, size, unfit = caller.card.name, 0, None
        try:
            size = self._need(caller.card)
        except SageError as error:
            unfit = error  # a file that was deleted does not matter to a model that is loaded
        stopped = Interrupted(f"Stopped while {name} was loading.")
        if should_stop():
            raise stopped
        signal = Requested(
            id=caller.id,
            model=name,
            bytes=size,
            deadline=caller.deadline,
            uses=uses,
            unfit=unfit,
            head_start_s=caller.head_start_s,
        )
        if not self._owner.post(lambda: self._owner.request(caller, signal)):
            raise Interrupted(f"{name} is not loaded any more: SAGE is ending.")
        while not caller.done.wait(POLL_S):
            if should_stop():
                raise stopped
            if self._clock.monotonic() >= caller.deadline:
                self._owner.post(lambda: self._owner.feed(Ticked()))
        self._owner.flush()
        if caller.error:
            # A copy for each, or the tracebacks of many threads would grow into one.
            raise copy.copy(caller.error) from caller.error
        assert caller.resident is not None  # noqa: S101  granted or refused
        return caller.resident

    def _let_go(self, caller: Caller, failure: SageError | None, *, long: bool = False) -> None:
        """Make place for the next one, and say what the model was like."""
        size, worker = 0, caller.resident.worker if caller.resident else None
        try:
            if worker:
                size = worker.peak_bytes()
                if isinstance(failure, DeadlineExceeded) and not worker.alive:
                    failure = WorkerDied(f"{caller.card.name} hung.")
        finally:
            self._owner.call(lambda: self._owner.served(caller, size, failure, long=long))
        self._owner.flush()

    def _need(self, card: ModelCard) -> int:
        if state(card, self._home) == "absent":
            raise WeightsMissing(
                f"The weights of {card.name} are not here.", mend=f"sage models pull {card.name}"
            )
        return self._estimate(card)
