"""`sage bench select`: what a decision and an outcome cost, and how that grows.

Owns: timing the selector and the trust book one call at a time. Must not know: texts and embedders;
contexts are drawn, in the shape that the shipped codebook gives them.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sage.economy.context import Codebook, Context, View
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook, TrustRow
from sage.types import Candidate, Message, Outcome, Situation

__all__ = ["measure_select"]

SHAPE = (("word", 32, 4, 1.0), ("char", 32, 4, 1.0), ("minilm", 32, 4, 4.0), ("structure", 144, 1, 1.0))
"""Name of a view, its cells, how many of them a text belongs to, and its weight."""

CONTEXTS = 500

NODES = 10
"""Other nodes whose evidence about every candidate is merged in."""

REPEATED = 200
"""Pools made, and outcomes learned beside other nodes' evidence."""

SITUATION = Situation(
    messages=(Message(role="user", content="?"),),
    kind="fact",
    prompt_tokens=10,
    max_tokens=64,
    session="bench",
)

LIMITS = Limits(atp=100.0, capacity=100.0, memory_bytes=2**40, explore_atp=10.0)


def measure_select(
    *, candidates: Sequence[int], outcomes: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row for each number of candidates: microseconds to choose, record and all, to make a pool, which
    each turn does once, and to learn, alone and beside what NODES others have learned; the embedding not
    counted. The last tenth against the first tells whether cost grows with history."""
    rows = []
    for count in candidates:
        progress(f"{count} candidates, {outcomes} outcomes")
        rows.append(_measure(count, outcomes))
    return rows


def _measure(count: int, outcomes: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    codebook, contexts = _contexts(random)
    candidates = [_candidate(number) for number in range(count)]
    pool = Pool(candidates)
    book = TrustBook(codebook, origin="bench", half_life=30 * 86_400.0, prior_strength=10.0)
    selector = Selector(hot_bonus=1.2, price_scale=10.0)
    chosen: list[float] = []
    learned: list[float] = []
    for number in range(outcomes):
        context = contexts[number % CONTEXTS]
        started = time.perf_counter()
        decision = selector.choose(
            SITUATION, context, pool, book, limits=LIMITS, now=float(number), random=random
        )
        chosen.append((time.perf_counter() - started) * 1e6)
        outcome = _outcome(number, decision.chosen, random)
        started = time.perf_counter()
        book.observe(outcome, context)
        learned.append((time.perf_counter() - started) * 1e6)
    pools: list[float] = []
    for _ in range(REPEATED):
        started = time.perf_counter()
        Pool(candidates)
        pools.append((time.perf_counter() - started) * 1e6)
    tenth = max(1, outcomes // 10)
    return {
        "candidates": count,
        "choose us": round(statistics.median(chosen), 1),
        "p95": round(statistics.quantiles(chosen, n=20)[-1], 1),
        "pool us": round(statistics.median(pools), 1),
        "learn us": round(statistics.median(learned), 1),
        "p95 learn": round(statistics.quantiles(learned, n=20)[-1], 1),
        f"learn us, {NODES} nodes": round(statistics.median(_beside_others(pool, codebook, contexts)), 1),
        "last tenth / first": round(
            statistics.median(chosen[-tenth:]) / statistics.median(chosen[:tenth]), 2
        ),
        "evidence MB": round(2 * 8 * codebook.cells * count / 1e6, 2),
    }


def _beside_others(pool: Pool, codebook: Codebook, contexts: Sequence[Context]) -> list[float]:
    """Microseconds of each outcome learned by a book that other nodes' were merged into."""
    random = np.random.default_rng(1)
    rows = []
    for node in range(NODES):
        for name in pool.names:
            weights = random.random(codebook.cells)
            rows.append(
                TrustRow(
                    origin=f"node {node}",
                    candidate=name,
                    since=0.0,
                    events=codebook.cells,
                    at=0.0,
                    total=float(weights.sum()) / len(SHAPE),
                    sums=0.6 * weights,
                    weights=weights,
                )
            )
    book = TrustBook(codebook, origin="bench", half_life=math.inf, prior_strength=10.0, rows=rows)
    times = []
    for number in range(REPEATED):
        outcome = _outcome(number, pool.names[int(random.integers(len(pool)))], random)
        started = time.perf_counter()
        book.observe(outcome, contexts[number % CONTEXTS])
        times.append((time.perf_counter() - started) * 1e6)
    return times


def _outcome(number: int, candidate: str, random: np.random.Generator) -> Outcome:
    return Outcome(
        event_id=str(number),
        turn_id=str(number),
        candidate=candidate,
        kind="fact",
        quality=float(random.random() < 0.6),
        source="verifier",
        at=float(number),
    )


def _contexts(random: np.random.Generator) -> tuple[Codebook, list[Context]]:
    codebook = Codebook([View(name=name, weight=weight, size=size) for name, size, _, weight in SHAPE])
    contexts = []
    for _ in range(CONTEXTS):
        cells, membership, first = [], [], 0
        for _, size, nearest, _ in SHAPE:
            cells.append(first + random.choice(size, nearest, replace=False))
            membership.append(random.dirichlet(np.ones(nearest)))
            first += size
        contexts.append(codebook.context(np.concatenate(cells), np.concatenate(membership)))
    return codebook, contexts


def _candidate(number: int) -> Candidate:
    return Candidate(
        name=f"model-{number}",
        prior={"*": 0.5},
        capabilities=SITUATION.needs,
        context_length=4096,
        memory_bytes=10**8,
        resident=number == 0,
        load_bytes=0,
        est_load_s=0.0,
        est_run_s=1.0 + number % 7,
    )
