"""What it costs to decide under a memory budget: the candidates, the choice, the plan of who leaves.

Owns: timing one call at a time. Must not know: data sets.

A tenth of the models is loaded and fills the memory, so that every cold one would push somebody out.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sage.config import Settings
from sage.economy.context import Codebook, Context, View
from sage.economy.demand import Demand
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook
from sage.kernel.session import open_kernel
from sage.types import Candidate, Message, Situation
from sage.zoo.card import ModelCard
from sage.zoo.residency import Residency
from sage.zoo.signals import Appraised, Gone, Load, Loaded, Pressed, Requested, Served, Unload

__all__ = ["PARTS", "measure_planning"]

SIZE = 10**9

REPEATED = 200

SITUATION = Situation(
    messages=(Message(role="user", content="?"),), kind="fact", prompt_tokens=10, max_tokens=64, session="b"
)

PARTS = {
    "candidates": "the kernel looks at every model that is here (a file each) and prices it",
    "choose": "the candidates as columns, filters, trust, demand, permission, the record",
    "loads": "of that, what loading each counts for (Demand.loads)",
    "plan": "the residency's answer to a request for a cold model: who leaves",
}


def measure_planning(models: Sequence[int] = (10, 100, 1000)) -> list[dict[str, Any]]:
    """One row for each part and number of models, in microseconds: the median and what 19 of 20 stay below;
    ``whole`` is candidates, choose and plan."""
    rows = []
    for count in models:
        choose, loads = _choosing(count)
        took = {"candidates": _looking(count), "choose": choose, "loads": loads, "plan": _planning(count)}
        took["whole"] = [sum(parts) for parts in zip(took["candidates"], choose, took["plan"], strict=True)]
        rows += [
            {
                "models": count,
                "part": part,
                "median us": round(statistics.median(times), 1),
                "p95 us": round(statistics.quantiles(times, n=20)[-1], 1),
            }
            for part, times in took.items()
        ]
    return rows


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e6


def _looking(count: int) -> list[float]:
    """A kernel with so many models that lie in files, one after the other as decisions come."""
    with tempfile.TemporaryDirectory(prefix="sage-planning-") as folder:
        home = Path(folder)
        catalog = {card.name: card for card in (_card(home, number) for number in range(count))}
        with open_kernel(home=home, settings=Settings(), catalog=catalog) as kernel:
            kernel._candidates(SITUATION, pinned=None)  # the first also measures the disk
            return [_timed(lambda: kernel._candidates(SITUATION, pinned=None)) for _ in range(REPEATED)]


def _card(home: Path, number: int) -> ModelCard:
    path = home / f"model-{number}.gguf"
    path.write_bytes(b"GGUF")
    return ModelCard(
        name=f"model-{number}",
        source=f"path:{path}",
        sha256="",
        bytes=4,
        license="none",
        context_length=4096,
        backend="llama_cpp",
    )


def _choosing(count: int) -> tuple[list[float], list[float]]:
    random = np.random.default_rng(0)
    codebook = Codebook([View(name="topic", weight=1.0, size=32)])
    book = TrustBook(codebook, origin="bench", half_life=1e6, prior_strength=10.0)
    selector, demand = Selector(hot_bonus=1.2, price_scale=10.0), Demand()
    limits = Limits(atp=100.0, capacity=100.0, memory_bytes=count * SIZE, free_bytes=0)
    choose, loads = [], []

    def decide(candidates: Sequence[Candidate], context: Context, now: float) -> None:
        selector.choose(SITUATION, context, Pool(candidates), book, limits=limits, now=now, demand=demand)

    for number in range(REPEATED):
        context = codebook.context(np.array([int(random.integers(32))]), np.ones(1))
        candidates = [_candidate(each, float(random.random())) for each in range(count)]
        pool = Pool(candidates)
        began = time.perf_counter()
        decide(candidates, context, float(number))
        choose.append((time.perf_counter() - began) * 1e6)
        began = time.perf_counter()
        demand.loads(pool, unit="atp", free_bytes=0)
        loads.append((time.perf_counter() - began) * 1e6)
    return choose, loads


def _candidate(number: int, prior: float) -> Candidate:
    loaded = number % 10 == 0
    return Candidate(
        name=f"model-{number}",
        prior={"*": prior},
        capabilities=SITUATION.needs,
        context_length=4096,
        memory_bytes=SIZE,
        resident=loaded,
        load_bytes=0 if loaded else SIZE,
        est_load_s=0.0 if loaded else 1.0,
        est_run_s=1.0 + number % 7,
        reload_s=1.0,
        reload_bytes=SIZE,
    )


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
