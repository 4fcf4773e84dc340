"""One model in one worker, asked one thing after another, with what each answer took.

Owns: opening a worker for a measurement, and counting its processor time. Must not know: which questions.

CPU seconds are those of the worker process, all threads together, in steps of a hundredth. Other programs
disturb them less than seconds on a clock, but do: threads that wait for each other spin meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sage.config import Settings
from sage.types import Completion, GenerationRequest
from sage.zoo.card import ModelCard
from sage.zoo.launch import worker_limits, worker_spec
from sage.zoo.process import Worker

__all__ = ["Asked", "ask", "open_worker"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An answer, and the CPU seconds its worker took for it."""

    completion: Completion
    cpu_s: float


@contextmanager
def open_worker(
    home: Path, card: ModelCard, settings: Settings, *, backend: str | None = None
) -> Iterator[Worker]:
    """A worker with this model, as it would be loaded to serve, or by another backend; it ends on leaving.

    Raises:
        LoadFailed, WorkerDied, BackendMissing: it could not be loaded.
    """
    spec = worker_spec(home, card, settings.models)
    worker = Worker(replace(spec, backend=backend or spec.backend), worker_limits(card, settings.models))
    try:
        yield worker
    finally:
        worker.close()


def ask(worker: Worker, request: GenerationRequest) -> Asked:
    """One answer.

    Raises:
        SageError: as :meth:`Worker.ask`.
    """
    before = worker.cpu_seconds()
    completion = worker.ask(request, lambda _text: None)
    return Asked(completion=completion, cpu_s=max(0.0, worker.cpu_seconds() - before))
