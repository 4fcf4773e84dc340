"""The right to load models on a ``SAGE_HOME``: one process has it at a time, so one budget holds.

Owns: ``run/owner.lock``, who waits for whom, and when the right is handed over.
Must not know: how models are unloaded, or how one process asks another (both are handed in).

The lock is the kernel's (``flock``): it ends with its process, however that ends. It is taken with the first
use, and kept while nobody else wants it. Who finds it taken asks the holder to let go. An idle holder does so
at once; a busy one after what it is doing, or, where it is asked without a pause, once it has had its time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from sage.errors import HomeInUse, Interrupted, StoreError

__all__ = ["Holder", "HomeLease", "Lease", "Unshared", "command", "holder"]

POLL_S = 0.05
"""How often a wait looks at the lock, its deadline and the caller's wish to stop."""

ASK_S = 0.2
"""How often the holder is asked."""

UNLOAD_S = 3.0
"""Also who does not want to wait lets an idle holder end its models, which takes about two seconds."""

IDLE_S = 0.3
"""A holder counts as idle this long after its last use: a turn that asks twice is not torn in two."""

HOLD_S = 10.0
"""After this long a holder that is used without a pause lets others in. Each change of hands may cost two
loads of some seconds, so shorter turns would be spent on loading."""

WANTED_S = 1.0
"""Who waits asks several times a second; one that has not asked for so long has given up."""

GRACE_S = 0.5
"""Who handed over stands back this long, so that the one who asked comes first."""

CLOSE_S = 15.0
"""A change of hands that takes longer is not waited for at the end: the lock ends with the process."""

UNTOLD_S = 0.3
"""A lock that is held this long by nobody known is worth a word; a look at it takes far less."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who has the right now; for messages alone, because it may have changed since."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else "another process"

    @property
    def suspended(self) -> bool:
        """Stopped, as by Ctrl-Z: it will neither answer nor end by itself."""
        import psutil

        try:
            return bool(self.pid and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False


class HomeLease(Protocol):
    """What the host asks for before it loads or uses a model."""

    def use(self, *, should_stop: Callable[[], bool], timeout: float) -> AbstractContextManager[None]:
        """Have the right from entering to leaving; waits for it for ``timeout`` seconds at most."""
        ...


class Unshared:
    """A home that no other process uses."""

    @contextlib.contextmanager
    def use(self, *, should_stop: Callable[[], bool], timeout: float) -> Iterator[None]:
        del should_stop, timeout
        yield


class Lease:
    """One process's side of it. Thread-safe: many threads may use it together."""

    def __init__(
        self,
        home: Path,
        *,
        wait_s: float,
        ask_for_it: Callable[[Callable[[], bool]], bool],
        on_wait: Callable[[Holder], None] = lambda _holder: None,
        on_taken: Callable[[], Callable[[], None]] = lambda: lambda: None,
        hold_s: float = HOLD_S,
    ) -> None:
        """``wait_s`` is how long a busy holder is waited for. ``ask_for_it`` asks the holder to let go and
        says whether it did; it gives up when what it is handed turns true. ``on_wait`` is told once for each
        wait. ``on_taken`` is called when the lock has been taken; what it returns, before it is given back.
        """
        self._home = home
        self._wait_s = wait_s
        self._ask_for_it = ask_for_it
        self._on_wait = on_wait
        self._on_taken = on_taken
        self._hold_s = hold_s
        self._changed = threading.Condition()
        self._lock: int | None = None  # the descriptor, while it is held
        self._before_release: Callable[[], None] = lambda: None
        # Who changes it, and who uses it, are kept by name: Ctrl-C may come between any two steps, and then
        # each takes back what it really had.
        self._changer: object | None = None  # takes it or gives it back; the others wait
        self._users: set[object] = set()
        self._closed = False
        self._taken_at = self._used_at = self._wanted_at = self._left_at = float("-inf")

    @property
    def held(self) -> bool:
        """Whether this process has the right now."""
        return self._lock is not None

    @contextlib.contextmanager
    def use(self, *, should_stop: Callable[[], bool], timeout: float) -> Iterator[None]:
        """Have the right from entering to leaving, together with other threads of this process.

        Raises:
            HomeInUse: the holder did not let go in time. Interrupted: stopped while waiting.
            StoreError: locks do not work where the home lies.
        """
        me = object()
        try:
            self._enter(me, should_stop, min(timeout, self._wait_s))
            yield
        finally:
            with self._changed:
                if me in self._users:
                    self._users.remove(me)
                    self._used_at = time.monotonic()
                    self._changed.notify_all()

    def let_go(self, unload: Callable[[], bool]) -> bool:
        """Another process asks: give the right back if nobody uses it and ``unload`` could end every model.

        False where it is in use; once this process has had its time, new users wait until it is given back.
        """
        me, done = object(), False
        try:
            with self._changed:
                now = time.monotonic()
                self._wanted_at = now
                idle = now - self._used_at >= IDLE_S or now - self._taken_at >= self._hold_s
                if self._changer or self._users or not idle:
                    return False
                if self._lock is None:
                    return True
                self._changer = me
            done = unload()
        finally:
            self._change(me, give_back=done)
        return done

    def close(self) -> None:
        """Give the right back for good; every model has been unloaded."""
        until = time.monotonic() + CLOSE_S
        me = object()
        try:
            with self._changed:
                self._closed = True
                while self._changer and time.monotonic() < until:
                    self._changed.wait(POLL_S)
                self._changer = me
        finally:
            self._change(me, give_back=True)

    def _change(self, me: object, *, give_back: bool) -> None:
        """End the change of hands that ``me`` began; nothing where another is at it, or nobody."""
        if self._changer is not me:
            return
        try:
            if give_back and self._lock is not None:
                self._before_release()
                self._before_release = lambda: None
                _unlock(self._lock)
                self._lock = None
                self._left_at = time.monotonic()
        finally:
            with self._changed:
                self._changer = None
                self._changed.notify_all()

    def _enter(self, me: object, should_stop: Callable[[], bool], timeout: float) -> None:
        """Count ``me`` as a user, after the lock was taken where it was not held."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                with self._changed:
                    if self._closed:
                        raise Interrupted("No model is loaded any more: SAGE is ending.")
                    if not self._changer and self._lock is None:
                        self._changer = me
                        break
                    if not self._changer and not self._owed():
                        self._users.add(me)
                        return
                    self._changed.wait(POLL_S)
                self._check(should_stop, deadline, None)
            self._take(lambda: should_stop() or self._closed, deadline)
            self._before_release = self._on_taken()
            with self._changed:
                self._taken_at = self._used_at = time.monotonic()
                self._wanted_at = float("-inf")
                self._users.add(me)
        finally:
            self._change(me, give_back=me not in self._users)

    def _owed(self) -> bool:
        """Whether it is somebody else's turn: new users would keep them out for ever."""
        now = time.monotonic()
        return now - self._wanted_at < WANTED_S and now - self._taken_at >= self._hold_s

    def _take(self, should_stop: Callable[[], bool], deadline: float) -> None:
        """Lock the file, once nobody else holds it."""
        began, told = time.monotonic(), False
        while time.monotonic() < self._left_at + GRACE_S:
            self._check(should_stop, float("inf"), None)
            time.sleep(POLL_S)
        while True:
            lock = _open(self._home)
            try:
                if _try(lock, fcntl.LOCK_EX) and _is_current(lock, self._home):
                    self._lock = lock
                    _write(lock)
                    return
                found = _read(lock)
            finally:
                if self._lock != lock:
                    os.close(lock)
            known = found is not None and _lives(found.pid)
            if not told and (known or time.monotonic() >= began + UNTOLD_S):
                self._on_wait(found or Holder(pid=0, command=""))
                told = True
            until = max(deadline, time.monotonic() + UNLOAD_S)
            let_go = self._ask_for_it(lambda until=until: should_stop() or time.monotonic() >= until)  # type: ignore[misc]
            self._check(should_stop, deadline if told and not let_go else float("inf"), found)
            time.sleep(0.0 if let_go else ASK_S)

    def _check(self, should_stop: Callable[[], bool], deadline: float, found: Holder | None) -> None:
        if should_stop():
            raise Interrupted("Stopped while waiting for another process.")
        if time.monotonic() < deadline:
            return
        found = found or holder(self._home) or Holder(pid=0, command="")
        mend = "End it, wait longer (SAGE_MODELS__HOME_WAIT_S=600), or use another SAGE_HOME"
        if found.suspended:
            raise HomeInUse(
                f"{found} holds the models of {self._home} and is suspended.",
                mend=f"kill -CONT {found.pid}, or fg in its terminal",
            )
        raise HomeInUse(f"{found} holds the models of {self._home} and is busy.", mend=mend)


def holder(home: Path) -> Holder | None:
    """Who has the right on this home now; None where nobody has.

    To look, the lock is shared for some microseconds; who takes it at that moment tries again.

    Raises:
        StoreError: locks do not work where the home lies.
    """
    try:
        lock = os.open(home / "run" / "owner.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _try(lock, fcntl.LOCK_SH):
            return None
        return _read(lock) or Holder(pid=0, command="")
    finally:
        os.close(lock)


def _open(home: Path) -> int:
    run = home / "run"
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.chmod(0o700)  # the control socket lies here
        return os.open(run / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"{run / 'owner.lock'} cannot be written: {error.strerror}", mend="sage doctor"
        ) from error


def _try(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise StoreError(
                f"Files cannot be locked where SAGE_HOME lies: {error.strerror}",
                mend="export SAGE_HOME=/folder/on/a/local/disk",
            ) from error
        raise
    return True


def _is_current(lock: int, home: Path) -> bool:
    """False for a file that was deleted meanwhile: another process may hold the new one."""
    try:
        return os.path.samestat(os.fstat(lock), os.stat(home / "run" / "owner.lock"))
    except OSError:
        return False


def _write(lock: int) -> None:
    note = json.dumps(asdict(Holder(pid=os.getpid(), command=command()))).encode()
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a note
        os.ftruncate(lock, 0)
        os.pwrite(lock, note, 0)


def _read(lock: int) -> Holder | None:
    try:
        note = json.loads(os.pread(lock, 4096, 0))
        return Holder(pid=int(note["pid"]), command=str(note["command"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _unlock(lock: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
    # Not by closing alone: a process that is being started just now has a copy until it has begun.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def command() -> str:
    """What this process is called, without what it was asked: ``sage chat``, or a script's name."""
    name = Path(sys.argv[0]).name
    if name not in ("sage", "__main__.py"):
        return name or "python"
    return " ".join(["sage", *(word for word in sys.argv[1:2] if word.isalpha())])
