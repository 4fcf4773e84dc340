"""Starts workers of the fake backend for the tests of a worker's process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from sage.types import Completion, GenerationRequest, Message
from sage.zoo.process import Worker, WorkerLimits, WorkerSpec

REQUEST = GenerationRequest(messages=(Message(role="user", content="hello there"),))

LONG = " ".join(str(i) for i in range(500))
"""With ``token_s`` = 0.01, five seconds of answer."""

Start = Callable[..., Worker]


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Start a worker with a script; keywords that name a limit replace it."""
    workers: list[Worker] = []

    def build(
        script: dict[str, Any] | None = None, *, backend: str = "fake", context: int = 4096, **changes: Any
    ) -> Worker:
        limits = {"load_s": 10.0, "answer_s": 10.0, "silence_s": 5.0, "stop_s": 1.0}
        spec = WorkerSpec(
            name="m", backend=backend, path=Path("none"), context=context, threads=1, extra=script or {}
        )
        hooks = {name: changes.pop(name) for name in ("should_stop", "on_started") if name in changes}
        workers.append(Worker(spec, WorkerLimits(**limits | changes), log=folder / "log", **hooks))
        return workers[-1]

    try:
        yield build
    finally:
        for worker in workers:
            worker.close()


def ask(worker: Worker, **changes: Any) -> tuple[Completion, list[str]]:
    pieces: list[str] = []
    return worker.ask(REQUEST, pieces.append, **changes), pieces


def gone(pid: int) -> bool:
    """No process, or one that only waits to be reaped by whoever adopted it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(what: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return what()
