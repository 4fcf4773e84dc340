"""The lease of a home: one process has it, hands it over, and cannot keep it beyond its death."""

from __future__ import annotations

import errno
import fcntl
import linecache
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from sage.errors import HomeInUse, Interrupted, StoreError
from sage.zoo import lease as module
from sage.zoo.lease import Holder, Lease, Unshared, holder

LESSEE = Path(__file__).with_name("lessee.py")


class Lessee:
    """Another process on the same home."""

    def __init__(self, home: Path, wait_s: float, hold_s: float, unload_s: float) -> None:
        numbers = [str(number) for number in (wait_s, hold_s, unload_s)]
        self.process = subprocess.Popen(
            [sys.executable, str(LESSEE), str(home), *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hears() == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hears(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


class StartLessee(Protocol):
    def __call__(self, wait_s: float = 20.0, hold_s: float = 10.0, unload_s: float = 0.0) -> Lessee: ...


@pytest.fixture
def lessee(home: Path) -> Iterator[StartLessee]:
    running: list[Lessee] = []

    def start(wait_s: float = 20.0, hold_s: float = 10.0, unload_s: float = 0.0) -> Lessee:
        running.append(Lessee(home, wait_s, hold_s, unload_s))
        return running[-1]

    yield start
    for one in running:
        one.end()


def lease_of(home: Path, wait_s: float = 20.0, **more: Any) -> Lease:
    more.setdefault("ask_for_it", lambda _stop: False)
    return Lease(home, wait_s=wait_s, **more)


def never() -> bool:
    return False


def test_nothing_is_locked_before_the_first_use(home: Path) -> None:
    lease = lease_of(home)
    assert not (home / "run").exists()
    with lease.use(should_stop=never, timeout=1.0):
        assert lease.held
        found = holder(home)
        assert found is not None
        assert found.pid == os.getpid()
        assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert lease.held  # it is kept for the next use
    lease.close()
    assert holder(home) is None
    with pytest.raises(Interrupted), lease.use(should_stop=never, timeout=1.0):
        pass


def test_what_is_done_when_it_is_taken_and_given_back(home: Path) -> None:
    done: list[str] = []

    def taken() -> Any:
        done.append("taken")
        return lambda: done.append("given back")

    lease = lease_of(home, on_taken=taken)
    for _ in range(2):
        with lease.use(should_stop=never, timeout=1.0):
            done.append("used")
    lease.close()
    assert done == ["taken", "used", "used", "given back"]


def test_a_failure_while_taking_leaves_nothing_locked(home: Path) -> None:
    def taken() -> Any:
        raise RuntimeError("no")

    lease = lease_of(home, on_taken=taken)
    with pytest.raises(RuntimeError), lease.use(should_stop=never, timeout=1.0):
        pass
    assert holder(home) is None
    lease.close()


def test_threads_of_one_process_share_it(home: Path) -> None:
    lease, inside, both = lease_of(home), [], threading.Barrier(4)

    def run() -> None:
        with lease.use(should_stop=never, timeout=5.0):
            both.wait(5.0)  # all of them are inside at once
            inside.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert len(inside) == 4
    lease.close()


def test_an_idle_holder_hands_over_and_takes_it_back(lessee: StartLessee) -> None:
    first, second = lessee(), lessee()
    for one, other in ((first, second), (second, first), (first, second)):
        one.tell("use 0")
        while (said := one.hears()) != "in":
            assert said == f"waiting {other.pid}"
        assert one.hears() == "out"
        time.sleep(0.4)


def test_a_busy_holder_is_waited_for(lessee: StartLessee) -> None:
    first, second = lessee(), lessee()
    first.tell("use 0.8")
    assert first.hears() == "in"
    began = time.monotonic()
    second.tell("use 0")
    assert second.hears() == f"waiting {first.pid}"
    assert time.monotonic() - began < 0.5  # told at once
    assert second.hears() == "in"
    assert time.monotonic() - began >= 0.7
    assert first.hears() == "out"


def test_the_wait_ends_in_a_refusal(lessee: StartLessee) -> None:
    first, second = lessee(), lessee(wait_s=0.5)
    first.tell("use 30")
    assert first.hears() == "in"
    second.tell("use 0")
    assert second.hears() == f"waiting {first.pid}"
    refused = second.hears()
    assert refused.startswith(f"HomeInUse process {first.pid} (lessee.py) holds the models of ")
    assert refused.endswith("is busy.")


def test_who_does_not_wait_is_refused_at_once_but_gets_what_is_idle(lessee: StartLessee) -> None:
    first, second = lessee(unload_s=0.3), lessee(wait_s=0.0)
    first.tell("use 0.6")
    assert first.hears() == "in"
    began = time.monotonic()
    second.tell("use 0")
    assert second.hears().startswith("waiting")
    assert second.hears().startswith("HomeInUse")
    assert time.monotonic() - began < 0.5
    assert first.hears() == "out"
    time.sleep(0.4)
    second.tell("use 0")
    assert second.hears().startswith("waiting")
    assert second.hears() == "in"


def test_the_lock_ends_with_its_process(lessee: StartLessee, home: Path) -> None:
    first = lessee()
    first.tell("use 60")
    assert first.hears() == "in"
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    assert holder(home) is None
    assert (home / "run" / "control.sock").exists()  # it could not clean up
    second = lessee(wait_s=0.0)
    second.tell("use 0")
    assert second.hears() == "in"


def test_a_suspended_holder_is_named_with_what_helps(lessee: StartLessee, home: Path) -> None:
    first = lessee()
    first.tell("use 0")
    assert (first.hears(), first.hears()) == ("in", "out")
    os.kill(first.pid, signal.SIGSTOP)
    try:
        with pytest.raises(HomeInUse, match="is suspended") as refused:
            lease_of(home, wait_s=0.1)._enter(object(), never, 0.1)
        assert refused.value.mend.startswith(f"kill -CONT {first.pid}")
    finally:
        os.kill(first.pid, signal.SIGCONT)


def test_two_that_never_pause_take_turns(lessee: StartLessee) -> None:
    first, second = lessee(hold_s=0.3), lessee(hold_s=0.3)
    for one in (first, second):
        one.tell("many 4")
    counts = []
    for one in (first, second):
        while not (said := one.hears()).startswith("count"):
            assert said.startswith("waiting"), said
        counts.append(int(said.split()[1]))
    assert min(counts) > 20, counts


def test_a_wait_can_be_stopped(lessee: StartLessee, home: Path) -> None:
    first = lessee()
    first.tell("use 30")
    assert first.hears() == "in"
    told: list[Holder] = []
    lease = lease_of(home, on_wait=told.append)
    began = time.monotonic()
    with pytest.raises(Interrupted), lease.use(should_stop=lambda: bool(told), timeout=20.0):
        pass
    assert time.monotonic() - began < 1.0
    assert [one.pid for one in told] == [first.pid]
    lease.close()


def test_closing_ends_a_wait(lessee: StartLessee, home: Path) -> None:
    first = lessee()
    first.tell("use 30")
    assert first.hears() == "in"
    waiting, ended = threading.Event(), []
    lease = lease_of(home, on_wait=lambda _holder: waiting.set())

    def run() -> None:
        with pytest.raises(Interrupted), lease.use(should_stop=never, timeout=20.0):
            pass
        ended.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    assert waiting.wait(5.0)
    lease.close()
    thread.join(5.0)
    assert ended


class CtrlC:
    """Traces the code of some functions and interrupts it before the ``number``th of its lines."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._codes = {f.__code__ for f in (Lease._enter, Lease.let_go, Lease.use.__wrapped__)}  # type: ignore[attr-defined]

    def __enter__(self) -> CtrlC:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.settrace(self._before)

    @property
    def came(self) -> bool:
        return self._left < 0

    at = ""
    """The line before which it came."""

    def _trace(self, frame: Any, event: str, _arg: object) -> Any:
        if frame.f_code not in self._codes:
            return None
        if event == "line":
            if self._left == 0:
                self._left = -1
                self.at = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
                raise KeyboardInterrupt
            self._left -= 1
        return self._trace


TIDYING = ("self._change(me", "with self._changed", "if me in self._users", "self._users.remove(me)")
"""The lines that take back: whatever does not come to them is left until the end."""


def test_ctrl_c_between_any_two_lines_keeps_nobody_waiting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    monkeypatch.setattr(module, "CLOSE_S", 0.2)
    for number in range(200):
        lease = lease_of(home)
        with suppress(KeyboardInterrupt), CtrlC(number) as ctrl_c:
            for _ in range(2):
                with lease.use(should_stop=never, timeout=1.0):
                    pass
            assert lease.let_go(lambda: True)
        if not ctrl_c.came:
            break
        if not ctrl_c.at.startswith(TIDYING):
            assert not lease._users, ctrl_c.at
            assert lease.held == (holder(home) is not None), ctrl_c.at
            assert lease._changer is None, ctrl_c.at
        began = time.monotonic()
        lease.close()
        assert time.monotonic() - began < 1.0, ctrl_c.at
        assert holder(home) is None
    assert 30 < number < 199  # every line had its turn


def test_closing_does_not_wait_for_ever_for_who_changes_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    monkeypatch.setattr(module, "CLOSE_S", 0.3)
    lease, hang, begun = lease_of(home), threading.Event(), threading.Event()
    with lease.use(should_stop=never, timeout=1.0):
        pass

    def unload() -> bool:
        begun.set()
        return hang.wait(10.0)

    hanging = threading.Thread(target=lease.let_go, args=(unload,))
    hanging.start()
    assert begun.wait(5.0)
    began = time.monotonic()
    lease.close()
    assert time.monotonic() - began < 2.0
    assert holder(home) is None
    hang.set()
    hanging.join(5.0)


def test_a_deleted_lock_file_locks_nothing(home: Path) -> None:
    """Who cleans up SAGE_HOME by hand makes no second holder of the same name."""
    path = home / "run" / "owner.lock"
    path.parent.mkdir()
    held = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    path.unlink()
    lease = lease_of(home, wait_s=0.0)
    with lease.use(should_stop=never, timeout=1.0):
        assert path.exists()
    os.close(held)
    lease.close()


def test_a_file_system_without_locks_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_descriptor: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match="cannot be locked") as refused:
        lease_of(home)._enter(object(), never, 1.0)
    assert "SAGE_HOME" in refused.value.mend


def test_a_lock_without_a_note_is_waited_for_too(home: Path) -> None:
    """A full disk leaves the note empty."""
    (home / "run").mkdir()
    held = os.open(home / "run" / "owner.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(HomeInUse, match="another process holds"):
        lease_of(home)._enter(object(), never, 0.1)
    os.close(held)


def test_the_note_tells_no_questions(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for words, said in (
        (["/usr/bin/sage", "ask", "my secret"], "sage ask"),
        (["/x/sage/__main__.py", "chat"], "sage chat"),
        (["sage", "--json"], "sage"),
        (["/x/mine.py", "secret"], "mine.py"),
        ([""], "python"),
    ):
        monkeypatch.setattr(sys, "argv", words)
        lease = lease_of(home)
        with lease.use(should_stop=never, timeout=1.0):
            found = holder(home)
        assert found is not None
        assert found.command == said
        lease.close()


def test_a_home_that_nobody_shares_needs_nothing(home: Path) -> None:
    with Unshared().use(should_stop=never, timeout=0.0):
        assert not (home / "run").exists()
