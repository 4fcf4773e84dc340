"""What the tests of the command line share: fake models in SAGE_HOME, a terminal, a running `sage`."""

from __future__ import annotations

import json
import os
import pty
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

SIX_SECONDS = {"answer": " ".join(f"word{i}" for i in range(300)), "token_s": 0.02}
"""The script of a model that is still answering when something happens to it."""


class Fakes(Protocol):
    def __call__(self, **scripts: dict[str, Any]) -> None: ...


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {_toml(v)}' for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _tiny_gguf(path: Path, *, layers: int = 2) -> Path:
    """A sound GGUF file: four figures and one tensor of 32 f32."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    figures = {
        "block_count": layers,
        "context_length": 512,
        "embedding_length": 32,
        "attention.head_count": 2,
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1 + len(figures))
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, value in figures.items():
        head += text(f"llama.{key}") + struct.pack("<II", 4, value)
    head += text("output.weight") + struct.pack("<IQIQ", 1, 32, 0, 0)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + b"\0" * 128)
    return path


@pytest.fixture
def tiny_gguf() -> Callable[..., Path]:
    return _tiny_gguf


@pytest.fixture
def fakes(home: Path) -> Fakes:
    """Write cards of fake models: name=script. The script key ``prior`` (default 0.6) goes on the card."""

    def write(**scripts: dict[str, Any]) -> None:
        cards = []
        for name, script in scripts.items():
            script = dict(script)
            prior = script.pop("prior", 0.6)
            cards.append(
                f'[[model]]\nname = "{name}"\nsource = "fake"\nbackend = "fake"\nbytes = 1000\n'
                f'license = "MIT"\ncontext_length = 4096\nprior = {{ "*" = {prior} }}\n'
                f"script = {_toml(script)}\n"
            )
        (home / "catalog.toml").write_text("\n".join(cards), encoding="utf-8")
        # Measured once and kept, so that no test waits for the disk.
        record = {"disk_read_bytes_per_s": 10**9, "measured_at": round(time.time())}
        (home / "hardware.json").write_text(json.dumps(record))

    return write


class Sage:
    """A running `sage` in a session of its own; everything it leaves behind can be found."""

    def __init__(
        self, args: tuple[str | bytes, ...], *, tty: bool, stdin_pipe: bool, env: dict[str, str]
    ) -> None:
        command = [sys.executable, "-m", "sage", *args]
        self.screen = b""
        if tty:
            self._terminal, side = pty.openpty()
            self.process = subprocess.Popen(
                command, stdin=side, stdout=side, stderr=side, env=env, preexec_fn=_own_terminal
            )
            os.close(side)
            self._open = [self._terminal]
        else:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin_pipe else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
            )
            self._open = []

    def worker(self, seconds: float = 10.0) -> psutil.Process:
        """The worker process, once there is one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            children = psutil.Process(self.process.pid).children()
            if children:
                return children[0]
            time.sleep(0.01)
        raise AssertionError("no worker came up")

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def read_until(self, sign: str, seconds: float = 15.0) -> str:
        """Read the terminal until ``sign`` has appeared since the last call; returns what came."""
        return self._read(lambda fresh: sign.encode() in fresh, seconds, sign)

    def read_rest(self, seconds: float = 15.0) -> str:
        return self._read(lambda _fresh: False, seconds, "the end")

    def _read(self, enough: Callable[[bytes], bool], seconds: float, what: str) -> str:
        fresh, end = b"", time.monotonic() + seconds
        while not enough(fresh):
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{what!r} did not come; there was {fresh!r}")
            try:
                piece = os.read(self._terminal, 65536)
            except OSError:  # the other side is closed
                piece = b""
            if not piece:
                break
            fresh += piece
        self.screen += fresh
        return fresh.decode("utf-8", "replace").replace("\r\n", "\n")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        for descriptor in self._open:
            os.close(descriptor)


def _own_terminal() -> None:
    """In the child: a session whose terminal is its stdin, so that Ctrl-C typed there reaches it."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class StartSage(Protocol):
    def __call__(
        self, *args: str | bytes, tty: bool = False, stdin_pipe: bool = False, **env: str
    ) -> Sage: ...


@pytest.fixture
def start_sage(home: Path) -> Iterator[StartSage]:
    """Start `sage` and go on at once; with ``tty``, on a terminal of 120 columns."""
    running: list[Sage] = []

    def start(*args: str | bytes, tty: bool = False, stdin_pipe: bool = False, **env: str) -> Sage:
        # An empty NO_COLOR counts as none.
        full = {**os.environ, "COLUMNS": "120", "TERM": "xterm-256color", **env}
        running.append(Sage(args, tty=tty, stdin_pipe=stdin_pipe, env=full))
        return running[-1]

    yield start
    for sage in running:
        sage.end()


def ended(process: psutil.Process, seconds: float = 3.0) -> bool:
    """Whether the process is gone within that time; one that nobody has reaped yet counts as gone."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def is_ended() -> Callable[..., bool]:
    return ended


@pytest.fixture
def slow() -> dict[str, Any]:
    """The script of a fake model that takes six seconds for its answer."""
    return dict(SIX_SECONDS)
