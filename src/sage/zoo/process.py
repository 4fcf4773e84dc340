"""A worker process, from the parent's side: start, ask, cancel, kill, reap.

Owns: one child process and its pipe. Must not know: other models, memory budgets, or the database.
A crash, a hang or a kill of the child becomes a typed error here and nothing worse.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import sage.errors
from sage.errors import DeadlineExceeded, Interrupted, LoadFailed, SageError, WorkerDied
from sage.types import Completion, GenerationRequest, new_id
from sage.zoo.backends import Score
from sage.zoo.card import PromptStyle
from sage.zoo.gauge import Occupied, occupied, peak_bytes

__all__ = ["POLL_S", "PREFILL_S_PER_TOKEN", "Worker", "WorkerGone", "WorkerLimits", "WorkerSpec"]

PREFILL_S_PER_TOKEN = 0.1
"""Silence allowed per prompt token before the first word: ten tokens a second is a very slow machine."""

POLL_S = 0.05
"""How often a wait looks at its deadline and at the caller's wish to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """What to load. ``extra`` is what only this backend reads."""

    name: str
    backend: str
    path: Path
    context: int
    threads: int
    prompt_style: PromptStyle = "chat"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLimits:
    """Seconds after which the parent stops waiting. Before the first word, ``prefill_s`` are added to
    ``silence_s`` for each token of the prompt."""

    load_s: float
    answer_s: float
    silence_s: float
    stop_s: float
    prefill_s: float = PREFILL_S_PER_TOKEN


class WorkerGone(WorkerDied):
    """The worker had ended before this request reached it: it may be loaded and asked anew."""


class Worker:
    """One loaded model in its own process. One order at a time: ``ask`` and ``score`` hold a lock."""

    def __init__(
        self,
        spec: WorkerSpec,
        limits: WorkerLimits,
        *,
        log: Path | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        on_started: Callable[[int], None] = lambda _pid: None,
    ) -> None:
        """Start the process and wait until the model is loaded. ``on_started`` hears its id before that.

        Raises:
            LoadFailed: the backend refused, or took longer than ``limits.load_s``.
            WorkerDied: the process ended while loading.
            Interrupted: ``should_stop`` turned true before that; the process was killed.
        """
        self.spec = spec
        self._limits = limits
        self._lock = threading.Lock()
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._unsent = b""
        self._ended = False
        self._device_bytes = 0
        with open(log or "/dev/null", "ab") as stderr:
            self._process = subprocess.Popen(
                # -P: or a file such as ./queue.py, wherever the user stands, would be imported
                [sys.executable, "-P", "-m", "sage.zoo.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C in the terminal is for SAGE, which then tells the worker
            )
        assert self._process.stdin is not None  # noqa: S101  opened with PIPE above
        # A stopped worker empties no pipe, and a prompt can be larger than one: no write may wait for ever.
        os.set_blocking(self._process.stdin.fileno(), False)
        self._reader = threading.Thread(target=self._read, daemon=True)
        started = time.monotonic()
        order = {**asdict(spec), "path": str(spec.path), "op": "load"}
        try:
            self._reader.start()
            on_started(self.pid)
            self._send(order, started + limits.load_s, should_stop)
            event = self._next(started + limits.load_s, should_stop)
        except _Silent as error:
            self.kill()
            raise LoadFailed(f"{spec.name} did not load within {limits.load_s:.0f} s") from error
        except _Stopped:
            self.kill()
            raise Interrupted(f"Stopped while {spec.name} was loading.") from None
        except BaseException:
            self.kill()
            raise
        if event["ev"] == "error":
            self.kill()
            raise _typed(event)
        self.load_s = time.monotonic() - started
        self._device_bytes = int(event["device_bytes"])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def occupied(self) -> Occupied:
        """What it occupies now, with what it holds on a GPU as it last said; nothing when it is gone."""
        found = occupied(self.pid)
        return replace(found, bytes=found.bytes + self._device_bytes) if found.bytes else found

    def resident_bytes(self) -> int:
        """Memory it occupies now, pages of its files included; 0 when it is gone."""
        return self.occupied().bytes

    def peak_bytes(self) -> int:
        """The most that it ever occupied; 0 when it is gone. With a GPU, what it occupies now.

        Weights on their way to the GPU lie in both memories: the most would count them twice for good."""
        return self.resident_bytes() if self._device_bytes else peak_bytes(self.pid)

    def cpu_seconds(self) -> float:
        """Processor time of all its threads since it was started, loading included; 0 when it is gone."""
        import psutil

        try:
            times = psutil.Process(self.pid).cpu_times()
        except (psutil.Error, OSError):  # OSError: no descriptors are left, say
            return 0.0
        return float(times.user + times.system)

    def ask(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None],
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Completion:
        """Answer one request, handing over text as it comes.

        When ``should_stop`` turns true the generation is cancelled and what was made is returned with
        ``finish_reason`` ``cancelled``; at the deadline, which counts from this call, likewise with
        ``deadline``. A worker that does not obey in ``limits.stop_s``, or is silent for too long, is killed.

        Raises:
            WorkerGone: the process had ended before. WorkerDied: it ended now.
            DeadlineExceeded: no text until the deadline, or the worker had to be killed.
            ContextTooLong, UsageError: the backend refused the request.
        """
        wait = self._wait(request.deadline_s, should_stop)
        pieces: list[str] = []

        def take(text: str) -> None:
            pieces.append(text)
            on_text(text)

        order = {"op": "generate", "request": asdict(request)}
        try:
            done = self._exchange(order, wait, sum(len(m.content) for m in request.messages), take)
        except _Stopped as stop:
            return _completion(stop.done) if stop.done else _cancelled(pieces, wait.spent)
        except _TimeUp as late:
            made = _completion(late.done) if late.done else None
            if made and made.text:
                return replace(made, finish_reason="deadline") if made.finish_reason == "cancelled" else made
            raise self._too_late(wait, late.what) from None
        return _completion(done)

    def score(
        self,
        prompt: str,
        continuations: Sequence[str],
        *,
        deadline_s: float | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> tuple[Score, ...]:
        """How likely each continuation is after ``prompt``, as the model reads it: no chat template.

        ``deadline_s`` counts from this call. A worker is killed as for ``ask``.

        Raises:
            WorkerGone, WorkerDied, DeadlineExceeded: as ``ask``. Interrupted: ``should_stop`` turned true.
            UsageError: the backend cannot score. ContextTooLong: a text does not fit.
        """
        wait = self._wait(deadline_s, should_stop)
        order = {"op": "score", "prompt": prompt, "continuations": list(continuations)}
        # The prompt may be read anew for each of them.
        characters = len(prompt) * len(continuations) + sum(map(len, continuations))
        try:
            done = self._exchange(order, wait, characters, lambda _text: None)
        except _Stopped:
            raise Interrupted(f"Stopped while {self.spec.name} was scoring.") from None
        except _TimeUp as late:
            raise self._too_late(wait, late.what) from None
        return tuple(Score(**score) for score in done["scores"])

    def _wait(self, deadline_s: float | None, should_stop: Callable[[], bool]) -> _Wait:
        started, allowed = time.monotonic(), self._limits.answer_s
        deadline = started + (allowed if deadline_s is None else min(deadline_s, allowed))
        return _Wait(started=started, deadline=deadline, should_stop=should_stop)

    def _exchange(
        self, order: Mapping[str, Any], wait: _Wait, characters: int, on_text: Callable[[str], None]
    ) -> dict[str, Any]:
        """Send an order, once those of others are served, and wait for its last event.

        ``characters`` are to be read before the first word. Raises ``_Stopped`` or ``_TimeUp`` with what the
        worker still made, and the errors it describes.
        """
        while not self._lock.acquire(timeout=POLL_S):
            if wait.should_stop():
                raise _Stopped
            if time.monotonic() >= wait.deadline:
                raise _TimeUp(None, "was busy with other requests")
        try:
            if wait.should_stop():  # nothing was sent yet: the worker need not know
                raise _Stopped
            return self._serve(order, wait, characters, on_text)
        finally:
            self._lock.release()

    def _serve(
        self, order: Mapping[str, Any], wait: _Wait, characters: int, on_text: Callable[[str], None]
    ) -> dict[str, Any]:
        silence = self._limits.silence_s + characters / 3 * self._limits.prefill_s
        turn, over = new_id("ask"), False
        try:
            self._submit({**order, "id": turn}, wait.deadline, wait.should_stop)
            while True:
                event = self._next(min(time.monotonic() + silence, wait.deadline), wait.should_stop)
                if event.get("id") != turn:
                    continue  # the tail of an earlier request that was cancelled
                if event["ev"] == "text":
                    silence = self._limits.silence_s
                    on_text(event["text"])
                elif event["ev"] == "done":
                    self._device_bytes = int(event["device_bytes"])
                    return event
                else:
                    over = True
                    raise _typed(event)
        except _Stopped:
            raise _Stopped(self._cancel(turn)) from None
        except _Silent:
            done = None
            if time.monotonic() >= wait.deadline:
                done = self._cancel(turn)
            else:  # silence: it hangs
                self.kill()
            raise _TimeUp(done, "did not finish") from None
        except BaseException:  # Ctrl-C, or a failing on_text: leave the worker idle, not running on
            if not over:
                self._cancel(turn)
            raise

    def _too_late(self, wait: _Wait, what: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self.spec.name} {what}; stopped after {wait.spent:.1f} s",
            mend="Allow more time (models.answer_timeout_s, models.silence_timeout_s), or ask for less",
        )

    def close(self) -> None:
        """End the process: politely when it is idle, else by force. Safe to call twice."""
        if not self._lock.acquire(blocking=False):
            self.kill()
            return
        try:
            if self._process.stdin and not self._process.stdin.closed:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            try:
                self._process.wait(self._limits.stop_s)
            except subprocess.TimeoutExpired:
                self.kill()
            except BaseException:  # Ctrl-C again: no more patience
                self.kill()
                raise
            self._finish()
        finally:
            self._lock.release()

    def kill(self) -> None:
        """End the process and all that it started, at once. One that the system cannot end is left to it."""
        self._end_group()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._limits.stop_s)
        self._finish()

    def _finish(self) -> None:
        """After the process: end what it started, and close the pipes."""
        self._end_group()
        self._ended = True
        if self._reader.ident is not None:  # it closes what it reads; nobody else may while it does
            self._reader.join(self._limits.stop_s)
        elif self._process.stdout:
            self._process.stdout.close()
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _end_group(self) -> None:
        """Only once: later the number may be that of a stranger's group."""
        if not self._ended:
            with contextlib.suppress(OSError):  # nobody is left in it
                os.killpg(self.pid, signal.SIGKILL)

    def _cancel(self, turn: str) -> dict[str, Any] | None:
        """Stop an order; returns its last event, or None where it failed or the worker had to be killed."""
        deadline = time.monotonic() + self._limits.stop_s
        try:
            self._send({"op": "cancel", "id": turn}, deadline)
            while True:
                event = self._next(deadline, lambda: False)
                if event.get("id") == turn and event["ev"] in ("done", "error"):
                    return event if event["ev"] == "done" else None
        except (_Silent, SageError):
            self.kill()
            return None

    def _submit(self, order: Mapping[str, Any], deadline: float, should_stop: Callable[[], bool]) -> None:
        try:
            self._send(order, deadline, should_stop)
        except WorkerDied as error:
            raise WorkerGone(error.message, mend=error.mend) from error

    def _send(
        self,
        order: Mapping[str, Any],
        deadline: float,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Write a line; one that was broken off is finished first, so that the worker can read the next."""
        self._unsent += json.dumps(order).encode() + b"\n"
        stdin = self._process.stdin
        try:
            if stdin is None or not self.alive:
                raise BrokenPipeError
            ready = select.poll()
            ready.register(stdin, select.POLLOUT)
            while self._unsent:
                if should_stop():
                    raise _Stopped
                if time.monotonic() >= deadline:
                    raise _Silent
                if ready.poll(POLL_S * 1000):
                    with contextlib.suppress(BlockingIOError):
                        self._unsent = self._unsent[os.write(stdin.fileno(), self._unsent) :]
        except (OSError, ValueError) as error:  # ValueError: closed by another thread
            raise self._death() from error

    def _next(self, deadline: float, should_stop: Callable[[], bool]) -> dict[str, Any]:
        while True:
            if should_stop():
                raise _Stopped
            try:
                event = self._events.get(timeout=max(0.0, min(POLL_S, deadline - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    raise _Silent from None
                continue
            if event is None:
                self._events.put(None)  # the end stays visible to the next call
                raise self._death()
            return event

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  opened with PIPE above
        # A line that cannot be read was cut off: the process is dying, or is treated as if it were.
        with contextlib.suppress(ValueError, OSError), stdout:
            for line in stdout:
                event = json.loads(line)
                if not isinstance(event, dict):
                    break
                self._events.put(event)
        self._events.put(None)

    def _death(self) -> WorkerDied:
        try:
            code = self._process.wait(self._limits.stop_s)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -signal.SIGKILL
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        hint = "Ask again; where memory is short, lower models.context or choose a smaller model"
        return WorkerDied(f"The worker of {self.spec.name} died ({how}).", mend=hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wait:
    """How long one order may take (``time.monotonic()``), and whether its caller still wants it."""

    started: float
    deadline: float
    should_stop: Callable[[], bool]

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started


class _Stopped(Exception):  # noqa: N818  a signal between two methods, never seen outside
    """``done`` is the last event of what was stopped, where there is one."""

    def __init__(self, done: dict[str, Any] | None = None) -> None:
        self.done = done


class _Silent(Exception):  # noqa: N818  likewise
    """No word came, or none was read, until the time that was set for it."""


class _TimeUp(Exception):  # noqa: N818  likewise
    """The deadline passed, or the worker was silent for too long."""

    def __init__(self, done: dict[str, Any] | None, what: str) -> None:
        self.done, self.what = done, what


def _completion(done: dict[str, Any]) -> Completion:
    value = done["completion"]
    return Completion(**{**value, "logprobs": tuple(value["logprobs"])})


def _cancelled(pieces: list[str], seconds: float) -> Completion:
    """What there is of an answer whose worker can no longer tell."""
    return Completion(
        text="".join(pieces),
        prompt_tokens=0,
        completion_tokens=len(pieces),
        finish_reason="cancelled",
        run_s=seconds,
    )


ERRORS = {
    name: kind
    for name, kind in vars(sage.errors).items()
    if isinstance(kind, type) and issubclass(kind, SageError)
}


def _typed(event: Mapping[str, Any]) -> SageError:
    """The error the child described, as the class it named."""
    kind = ERRORS.get(str(event.get("error")), LoadFailed)
    error = kind(str(event.get("message", "")), mend=str(event.get("mend", "")))
    for name, value in vars(error).items():
        if isinstance(value, float):
            setattr(error, name, float(event.get(name, value)))
    return error
