"""Keeps a kernel alive between requests: the state follows the readings, idle time becomes background work.

Owns: the loop, and what may be done in which state. Must not know: what that work is; terminals, signals.

Requests come before everything: background work is done in pieces of some tens of milliseconds, and stops
between two of them when one comes, in this process or in another.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sage.errors import HomeInUse, StoreDamaged, StoreError
from sage.kernel.sleeping import LIGHT, Report, Sleep, backlog
from sage.kernel.tick import Kernel
from sage.kernel.vitals import Condition

__all__ = ["POLL_S", "RETRY_S", "Alive", "only_one"]

POLL_S = 1.0
"""How often the loop looks around."""

FAILED_S = 30.0
"""How long it waits where the database cannot be used."""

RETRY_S = 3600.0
"""After a sleep in which a part failed (a full disk) the next one is not tried before."""


class Alive:
    """The loop of one kernel. ``on_state`` is told of each new state, ``on_sleep`` of each sleep's report."""

    def __init__(
        self,
        kernel: Kernel,
        *,
        on_state: Callable[[Condition], None] = lambda _condition: None,
        on_sleep: Callable[[Report], None] = lambda _report: None,
    ) -> None:
        self._kernel = kernel
        self._on_state = on_state
        self._on_sleep = on_sleep
        self._sleep = Sleep(kernel.stores, kernel.settings, kernel.clock)
        self._state = ""
        self._turns = self._newest_turn()
        self._served = -1
        """The newest message when there was last nothing left to do for the next request."""
        self._retry_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set. Where the database fails, it goes on when that is over.

        Raises:
            StoreDamaged: the database is.
        """
        wait = 0.0
        while not stop.wait(wait):
            wait = POLL_S
            try:
                self.look(stop)
            except StoreDamaged:
                raise
            except StoreError as error:
                logging.getLogger(__name__).warning("%s %s", error.message, error.mend)
                wait = FAILED_S

    def look(self, stop: threading.Event) -> Condition:
        """Once around: follow the readings, tell of a new state, do what it allows until something is asked
        or ``stop`` is set."""
        waiting = 0 if self._kernel.clock.monotonic() < self._retry_at else backlog(self._kernel.stores.db)
        condition = self._kernel.vitals.update(queue=self._asked(), backlog=waiting)
        if condition.standing.state != self._state:
            self._state = condition.standing.state
            self._on_state(condition)

        def wanted() -> bool:
            return stop.is_set() or self._running() > 0 or self._newest_turn() != self._turns

        background = condition.regime.background
        if background == "full" and waiting:
            report = self._sleep.run(should_stop=wanted)
            if any(part.error for part in report.parts):
                self._retry_at = self._kernel.clock.monotonic() + RETRY_S
            if any(part.count or part.error for part in report.parts):
                self._on_sleep(report)
        elif background == "light" and (newest := self._newest_message()) != self._served:
            report = self._sleep.run(should_stop=wanted, only=LIGHT)
            if report.ended or any(part.error for part in report.parts):
                self._served = newest
        return condition

    def _asked(self) -> int:
        """Requests being answered, by any process, and one where some came since the last look."""
        before, self._turns = self._turns, self._newest_turn()
        if self._running():
            self._kernel.tidy()  # a process may have been killed
        return max(self._running(), int(self._turns != before))

    def _running(self) -> int:
        return self._number("SELECT count(*) FROM turns WHERE status = 'running'")

    def _newest_turn(self) -> int:
        return self._number("SELECT coalesce(max(rowid), 0) FROM turns")

    def _newest_message(self) -> int:
        return self._number("SELECT coalesce(max(id), 0) FROM passages")

    def _number(self, sql: str) -> int:
        return int(self._kernel.stores.db.execute(sql)[0][0])


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """One loop for a home: two would sleep over each other's work.

    Raises:
        HomeInUse: another process keeps this home alive. StoreError: no lock can be made there.
    """
    path = home / "run" / "alive.lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", mend="sage doctor") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise HomeInUse(
                f"{home} is kept alive already, by process {holder}.",
                mend=f"Leave it to that one, or end it: kill {holder}",
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a note
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)
