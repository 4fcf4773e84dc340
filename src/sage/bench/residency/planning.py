"""What it costs to decide under a memory budget: the candidates, the choice, the plan of who leaves.

Owns: timing one decision at a time. Must not know: data sets.

A kernel decides, with so many sound files of weights; a tenth of the models counts as loaded and nothing else
is free, so that every cold one would push somebody out.
"""

from __future__ import annotations

import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sage.config import Settings
from sage.economy.demand import Demand
from sage.economy.selector import Selector
from sage.kernel.choosing import Choosing
from sage.kernel.sense import Request, sense
from sage.kernel.session import open_kernel
from sage.kernel.tick import Kernel
from sage.kernel.turn import Turn
from sage.memory.books import Books
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, new_id
from sage.zoo.card import ModelCard
from sage.zoo.host import Host
from sage.zoo.residency import Residency
from sage.zoo.signals import Appraised, Gone, Load, Loaded, Pressed, Requested, Served, Unload

__all__ = ["LIMIT_MODELS", "LIMIT_US", "PARTS", "measure_planning", "planning_kernel"]

SIZE = 10**9

REPEATED = 200

LIMIT_US, LIMIT_MODELS = 1000.0, 100
"""What a plan may take, and for how many models that is claimed."""

HEADER = {
    "context_length": 4096,
    "embedding_length": 64,
    "block_count": 2,
    "feed_forward_length": 128,
    "attention.head_count": 4,
}

PARTS = {
    "candidates": "the kernel looks at every model that is here (a file each) and prices it",
    "choose": "the candidates as columns, filters, trust, what loads count for, permission, the record",
    "worth": "what the loaded models are worth, and which one is wanted",
    "written": "the grant of ATP and the decision, into the database",
    "plan": "the residency's answer to a request for a cold model: who leaves",
    "planning": f"all of it but what is written; claimed: {LIMIT_US / 1000:g} ms for {LIMIT_MODELS} models",
    "whole": "all of it",
}

CLOCKED: Mapping[str, Sequence[tuple[type, str]]] = {
    "candidates": ((Choosing, "candidates"),),
    "choose": ((Selector, "choose"),),
    "worth": ((Demand, "worth"), (Demand, "wanted")),
    "written": ((Books, "grant"), (VerbatimStore, "record_decision")),
}


def measure_planning(models: Sequence[int] = (10, 100, 1000)) -> list[dict[str, Any]]:
    """One row for each part and number of models, in microseconds: the median and what 19 of 20 stay below.
    ``claim`` says of ``planning`` whether its median meets the limit; of more models than ``LIMIT_MODELS``
    nothing is claimed."""
    rows = []
    for count in models:
        took = _deciding(count) | {"plan": _planning(count)}
        decided = zip(took["whole"], took["plan"], strict=True)
        took["whole"] = [choice + plan for choice, plan in decided]
        both = zip(took["whole"], took["written"], strict=True)
        took["planning"] = [whole - written for whole, written in both]
        rows += [_row(count, part, took[part]) for part in PARTS]
    return rows


def _row(count: int, part: str, times: Sequence[float]) -> dict[str, Any]:
    median, claim = statistics.median(times), ""
    if part == "planning" and count <= LIMIT_MODELS:
        claim = "met" if median <= LIMIT_US else "missed"
    p95 = statistics.quantiles(times, n=20)[-1]
    return {
        "models": count,
        "part": part,
        "median us": round(median, 1),
        "p95 us": round(p95, 1),
        f"within {LIMIT_US / 1000:g} ms": claim,
    }


@contextmanager
def planning_kernel(count: int) -> Iterator[Kernel]:
    """A kernel with so many models that lie in files, of which a tenth fills the memory."""
    with tempfile.TemporaryDirectory(prefix="sage-planning-") as folder:
        home, settings = Path(folder), Settings()
        catalog = {card.name: card for card in _cards(home, count)}
        with open_kernel(home=home, settings=settings, catalog=catalog) as kernel:
            size = kernel.host.memory_need(catalog["model-0"])
            host = _Full(home, settings.models, free_bytes=lambda: 0, estimate=lambda _card: size)
            host.held = {f"model-{number}": size for number in range(0, count, 10)}
            kernel.host.close()
            kernel.host = kernel.choosing.host = host
            kernel.choosing.surroundings = replace(kernel.choosing.surroundings, free_bytes=lambda: 0)
            try:
                yield kernel
            finally:
                host.close()


class _Full(Host):
    """Says that models are loaded for which there is no process."""

    held: dict[str, int]

    def resident(self) -> dict[str, int]:
        return dict(self.held)


def _cards(home: Path, count: int) -> Iterator[ModelCard]:
    random, weights = np.random.default_rng(0), _smallest_gguf()
    for number in range(count):
        path = home / f"model-{number}.gguf"
        path.write_bytes(weights)
        yield ModelCard(
            name=path.stem,
            source=f"path:{path}",
            sha256="",
            bytes=len(weights),
            license="none",
            context_length=4096,
            backend="llama_cpp",
            prior={"*": float(random.random())},
        )


def _smallest_gguf() -> bytes:
    """A header that passes every check, and one tensor of eight numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    pairs += [text(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in HEADER.items()]
    tensor = text("token_embd.weight") + struct.pack("<IQIQ", 1, 8, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return header + bytes(-len(header) % 32 + 32)


def _deciding(count: int) -> dict[str, list[float]]:
    """Microseconds of one decision after the other, by part; ``whole`` is the kernel's share of it."""
    took: dict[str, list[float]] = {part: [] for part in [*CLOCKED, "whole"]}
    with planning_kernel(count) as kernel, ExitStack() as clocks:
        _decide(kernel, 0)  # the first also measures the disk and reads the headers
        running = dict.fromkeys(CLOCKED, 0.0)
        for part, methods in CLOCKED.items():
            for owner, method in methods:
                clocks.enter_context(_clocked(owner, method, running, part))
        for number in range(REPEATED):
            running.update(dict.fromkeys(CLOCKED, 0.0))
            took["whole"].append(_decide(kernel, number))
            for part, passed in running.items():
                took[part].append(passed)
    return took


def _decide(kernel: Kernel, number: int) -> float:
    message = Message(role="user", content=f"What is the capital of country {number % 20}?")
    request = Request(messages=(message,), session="b")
    situation = sense(request, default_max_tokens=kernel.settings.models.max_tokens)
    turn = Turn(id=new_id("turn"), situation=situation, started=0.0)
    kernel._begin(turn)
    condition, context = kernel._feel(turn), kernel._locate(turn)
    return _timed(lambda: kernel._choose(turn, context, request, condition))


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e6


@contextmanager
def _clocked(owner: type, method: str, running: dict[str, float], part: str) -> Iterator[None]:
    """While this holds, what the method takes is added to its part."""
    plain = getattr(owner, method)

    def clocked(*args: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return plain(*args, **named)
        finally:
            running[part] += (time.perf_counter() - began) * 1e6

    setattr(owner, method, clocked)
    try:
        yield
    finally:
        setattr(owner, method, plain)


def _planning(count: int) -> list[float]:
    """Requests for one cold model after another; each load is done before the next."""
    residency, room = Residency(), max(1, count // 10)
    residency.handle(Pressed(budget=room * SIZE), 0.0)
    worth = {f"model-{number}": float(number % 13) for number in range(count)}
    residency.handle(Appraised(worth=worth), 0.0)
    took = []
    for number in range(room + REPEATED):
        now, name = float(number), f"model-{number % count}"
        request = Requested(id=str(number), model=name, bytes=SIZE, deadline=now + 100.0)
        began = time.perf_counter()
        effects = list(residency.handle(request, now))
        took.append((time.perf_counter() - began) * 1e6)
        while effects:
            match effects.pop(0):
                case Unload(model=gone):
                    effects.extend(residency.handle(Gone(model=gone), now))
                case Load(model=loading):
                    effects.extend(residency.handle(Loaded(model=loading, bytes=SIZE), now))
                case _:
                    pass
        residency.handle(Served(id=str(number), bytes=SIZE), now)
    return took[room:]
