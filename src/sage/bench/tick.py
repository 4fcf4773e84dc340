"""`sage bench tick`: what SAGE adds to an answer, with a model that answers at once.

Owns: how the kernel's own cost is measured. Must not know: real models.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sage.config import Settings
from sage.kernel.sense import Request
from sage.kernel.session import open_kernel
from sage.types import Message
from sage.zoo.card import ModelCard

__all__ = ["measure_tick"]


def measure_tick(*, ticks: int, models: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row for each number of candidates: milliseconds of a tick that are not the worker's.

    Every tick is complete, with its durable writes of turn, grant, decision, rates and end. Turns
    accumulate, so the last tenth against the first shows whether cost grows with history.
    """
    return [_measure(ticks, count) for count in models]


def _measure(ticks: int, count: int) -> dict[str, Any]:
    catalog = {
        name: ModelCard(
            name=name,
            source="fake",
            sha256="",
            bytes=1,
            license="none",
            context_length=4096,
            backend="fake",
            prior={"*": 0.9 if index == 0 else 0.5},
            script={"answer": "yes"},
        )
        for index in range(count)
        for name in [f"fake-{index}"]
    }
    own: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_kernel(home=Path(folder), settings=Settings(), catalog=catalog) as kernel,
    ):
        for number in range(ticks + 1):
            request = Request(messages=(Message(role="user", content="Is it so?"),), session=f"s{number}")
            started = time.perf_counter()
            reply = kernel.tick(request)
            seconds = time.perf_counter() - started - float(reply.usage["run_s"])
            if number:  # the first tick loads the model
                own.append(seconds * 1e3)
    tenth = max(1, len(own) // 10)
    return {
        "candidates": count,
        "ticks": len(own),
        "median ms": round(statistics.median(own), 2),
        "p95 ms": round(statistics.quantiles(own, n=20)[-1], 2),
        "last tenth / first": round(statistics.median(own[-tenth:]) / statistics.median(own[:tenth]), 2),
    }
