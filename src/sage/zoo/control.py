"""The control socket of a ``SAGE_HOME``: other commands speak with the process that holds its models.

Owns: ``run/control.sock``, one JSON object a line each way, and what a bad client may cost (nothing).
Must not know: what the operations do; they are handed in.

Out: {"op": "load", ...}. Back: {"ok": true, ...}, or {"error", "message", "mend"}. One request a connection,
which stays open both ways until the answer has come.
Only the holder's own user may connect: the folder is closed to others, and Linux names who connects.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sage.errors import HomeInUse, Interrupted, SageError, UsageError
from sage.zoo.process import ERRORS

__all__ = ["Control", "Operation", "ask_holder"]

Operation = Callable[[Mapping[str, Any], Callable[[], bool]], Mapping[str, Any]]
"""Takes the request, and what tells whether its client has given up; returns what to answer. A SageError
reaches the client as itself."""

MAX_LINE = 64 * 1024
"""Bytes of a request: the longest holds one model's name. Answers may be longer, for a thousand models."""

MAX_ANSWER = 4 * 1024 * 1024

REQUEST_S = 5.0
"""A client that takes longer to write its line, or to read the answer, is let down."""

MAX_CLIENTS = 64

MAX_SLOW = 16
"""Clients whose operation may wait for models; the others' are done in milliseconds."""

BACKLOG = 128
"""Linux refuses a connection at once when the queue is full, and it fills while the holder is suspended."""

SLICE_S = 0.1
"""How often a waiting client looks whether it should stop."""

PATH_BYTES = 103
"""A socket's path may have so many bytes: 104 with the closing zero on macOS, 108 on Linux."""

ELSEWHERE = "control.path"
"""The note in ``run`` that says where the socket lies, if the home's own path is too long."""


class Control:
    """Serves the socket from its own threads until it is closed. Call it only while the home is held."""

    def __init__(
        self, home: Path, operations: Mapping[str, Operation], *, slow: Collection[str] = ()
    ) -> None:
        """``slow`` names the operations that may wait. Raises OSError where no socket can be made; models run
        without one, but nobody can ask for them.
        """
        self._run = home / "run"
        self._operations = operations
        self._slow = slow
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)
        self._slow_slots = threading.BoundedSemaphore(MAX_SLOW)
        self._waker, self._wakened = socket.socketpair()
        try:
            self._clear()  # the home is ours: what lies there was left by a process that was killed
            self._path = self._place()
            self._listener = _listen(self._path)
        except BaseException:
            self._waker.close()
            self._wakened.close()
            self._clear()
            raise
        self._thread = threading.Thread(target=self._accept, name="sage-control", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            for one in (self._waker, self._wakened, self._listener):
                one.close()
            self._clear()
            raise OSError(f"the control socket cannot be served: {error}") from error

    def close(self) -> None:
        """Stop listening and take the socket away. Requests that are being answered go on."""
        self._waker.close()
        self._thread.join()
        self._clear()

    def _place(self) -> Path:
        path = self._run / "control.sock"
        if len(os.fsencode(path)) <= PATH_BYTES:
            return path
        path = Path(tempfile.mkdtemp(prefix="sage-control-")) / "s"  # for its owner alone
        (self._run / ELSEWHERE).write_bytes(os.fsencode(path))
        return path

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            (self._run / "control.sock").unlink()
        path = _address(self._run)
        if path is not None and path.parent.name.startswith("sage-control-") and _mine(path.parent):
            shutil.rmtree(path.parent, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._run / ELSEWHERE).unlink()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as ready, self._wakened, self._listener as listener:
            ready.register(listener, selectors.EVENT_READ)
            ready.register(self._wakened, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._wakened for key, _events in ready.select()):
                    return
                try:
                    client, _from = listener.accept()
                except OSError:  # it went away, or there are no descriptors left
                    time.sleep(SLICE_S)
                    continue
                if not _same_user(client):
                    client.close()
                elif not self._slots.acquire(blocking=False):
                    _say(client, _described(_busy()), 0.0)
                else:
                    try:
                        threading.Thread(target=self._serve, args=(client,), daemon=True).start()
                    except RuntimeError:  # the system has no more threads
                        self._slots.release()
                        _say(client, _described(_busy()), 0.0)

    def _serve(self, client: socket.socket) -> None:
        try:
            request = _read_line(client, MAX_LINE, time.monotonic() + REQUEST_S, lambda: False)
            if not _gone(client):  # who has given up wants nothing done any more
                _say(client, self._answer(request, lambda: _gone(client)), REQUEST_S)
        except OSError:
            pass  # the client's trouble
        finally:
            client.close()
            self._slots.release()

    def _answer(self, line: bytes, gone: Callable[[], bool]) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
            name = request["op"]
            operation = self._operations[name]
        except (ValueError, TypeError, KeyError, RecursionError):
            known = ", ".join(sorted(self._operations))
            return _described(UsageError("This is no request.", mend=f"Known operations: {known}"))
        if name in self._slow and not self._slow_slots.acquire(blocking=False):
            return _described(_busy())
        try:
            return {"ok": True, **operation(request, gone)}
        except SageError as error:
            return _described(error)
        except Exception as error:
            logging.getLogger(__name__).exception("the control operation %s failed", name)
            return _described(SageError(f"{type(error).__name__}: {error}"))
        finally:
            if name in self._slow:
                self._slow_slots.release()


def ask_holder(
    home: Path,
    request: Mapping[str, Any],
    *,
    timeout: float = REQUEST_S,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """What the process that holds this home's models answers; None where there is none to ask.

    Raises:
        SageError: as the holder describes it. HomeInUse: it did not answer in ``timeout`` seconds, or too
            many ask.
        Interrupted: ``should_stop`` turned true.
    """
    path = _address(home / "run")
    if path is None or not _mine(path):
        return None
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(min(timeout, REQUEST_S))
        try:
            line.connect(os.fspath(path))
            with contextlib.suppress(BrokenPipeError):  # it has answered already: it is busy
                line.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_read_line(line, MAX_ANSWER, deadline, should_stop))
        except TimeoutError as error:
            raise HomeInUse(
                f"The process that holds the models of {home} did not answer in {timeout:.0f} s.",
                mend="sage models ps",
            ) from error
        except (OSError, ValueError):  # it ended meanwhile
            return None
    if not isinstance(answer, dict):
        return None
    if "error" in answer:
        kind = ERRORS.get(str(answer["error"]), SageError)
        raise kind(str(answer.get("message", "")), mend=str(answer.get("mend", "")))
    return answer


def _address(run: Path) -> Path | None:
    """Where the socket of this home lies, if there is one."""
    try:
        path = Path(os.fsdecode((run / ELSEWHERE).read_bytes()))
    except OSError:
        path = run / "control.sock"
    return path if path.exists() else None


def _mine(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _same_user(client: socket.socket) -> bool:
    """Whether our own user connects. Where the system does not tell, the folder's mode keeps others out."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    try:
        _pid, uid, _gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    except OSError:
        return False
    return bool(uid == os.geteuid())


def _gone(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _say(client: socket.socket, answer: Mapping[str, Any], timeout: float) -> None:
    """Send the answer and close; who takes it in too slowly, or not at all, gets none."""
    with client, contextlib.suppress(OSError):
        client.settimeout(timeout)
        client.sendall(json.dumps(answer).encode() + b"\n")


def _busy() -> HomeInUse:
    return HomeInUse(
        f"Process {os.getpid()}, which holds the models, has too many requests to look at one more.",
        mend="Ask again in some seconds",
    )


def _read_line(source: socket.socket, most: int, deadline: float, should_stop: Callable[[], bool]) -> bytes:
    """One line without its end. OSError: it was cut off, too long, or (TimeoutError) too late."""
    source.settimeout(SLICE_S)
    read = b""
    while b"\n" not in read:
        if should_stop():
            raise Interrupted("Stopped while waiting for another process.")
        if time.monotonic() >= deadline:
            raise TimeoutError
        with contextlib.suppress(TimeoutError):
            piece = source.recv(MAX_LINE)
            read += piece
            if not piece or len(read) > most:
                raise ConnectionError("the line was cut off")
    return read.partition(b"\n")[0]


def _described(error: SageError) -> dict[str, str]:
    return {"error": error.name, "message": error.message, "mend": error.mend}
