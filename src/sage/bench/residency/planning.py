"""What it costs to decide under a memory budget: choosing with demand, and the plan of who leaves.

Owns: timing one call at a time. Must not know: data sets.

A tenth of the models is loaded and fills the memory, so that every cold one would push somebody out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from sage.economy.context import Codebook, View
from sage.economy.demand import Demand
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook
from sage.types import Candidate, Message, Situation
from sage.zoo.residency import Residency
from sage.zoo.signals import Appraised, Gone, Load, Loaded, Pressed, Requested, Served, Unload

__all__ = ["measure_planning"]

SIZE = 10**9

REPEATED = 200

SITUATION = Situation(
    messages=(Message(role="user", content="?"),), kind="fact", prompt_tokens=10, max_tokens=64, session="b"
)


def measure_planning(models: Sequence[int] = (10, 100, 1000)) -> list[dict[str, Any]]:
    """One row for each number of models, in microseconds: ``choose us``, the pool made and the choice;
    ``plan us``, the residency's answer to a request for a cold model: who leaves."""
    return [
        {
            "models": count,
            "choose us": round(statistics.median(_choosing(count)), 1),
            "plan us": round(statistics.median(_planning(count)), 1),
        }
        for count in models
    ]


def _choosing(count: int) -> list[float]:
    random = np.random.default_rng(0)
    codebook = Codebook([View(name="topic", weight=1.0, size=32)])
    book = TrustBook(codebook, origin="bench", half_life=1e6, prior_strength=10.0)
    selector, demand = Selector(hot_bonus=1.2, price_scale=10.0), Demand()
    limits = Limits(atp=100.0, capacity=100.0, memory_bytes=count * SIZE, free_bytes=0)
    took = []
    for number in range(REPEATED):
        context = codebook.context(np.array([int(random.integers(32))]), np.ones(1))
        candidates = [_candidate(each, float(random.random())) for each in range(count)]
        began = time.perf_counter()
        pool = Pool(candidates)
        selector.choose(SITUATION, context, pool, book, limits=limits, now=float(number), demand=demand)
        took.append((time.perf_counter() - began) * 1e6)
    return took


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
