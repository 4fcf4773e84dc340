"""`sage bench zoo`: what each present model takes and gives on this machine.

Owns: how load time, speed and memory are measured. Must not know: how a model is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sage.bench.report import spread
from sage.config import Settings
from sage.errors import WeightsMissing
from sage.kernel.session import memory_need
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.catalog import load_catalog
from sage.zoo.host import worker_limits, worker_spec
from sage.zoo.process import Worker
from sage.zoo.sources import present

__all__ = ["measure_zoo"]

PROMPT = "Tell a story about a lighthouse keeper and the ships that pass by. " * 20
"""About 300 tokens: long enough for a steady rate, short enough for every context."""

ANSWER_TOKENS = 128


def measure_zoo(
    home: Path, settings: Settings, *, repeats: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row a present model: medians over ``repeats`` fresh workers, with the lowest and highest rate.

    Raises:
        WeightsMissing: no model is present.
    """
    cards = [card for card in load_catalog(home).values() if card.backend != "fake" and present(card, home)]
    if not cards:
        raise WeightsMissing("No model is on this machine.", mend="sage models pull")
    rows = []
    for card in cards:
        progress(f"{card.name}: {repeats} fresh workers")
        rows.append(_row(card, [_run(home, card, settings) for _ in range(repeats)], home, settings))
    return rows


def _run(home: Path, card: ModelCard, settings: Settings) -> dict[str, float]:
    """Load, read a prompt, write an answer, and look at what the process occupies then."""
    worker = Worker(worker_spec(home, card, settings.models), worker_limits(settings.models))
    try:
        request = GenerationRequest(
            messages=(Message(role="user", content=PROMPT),), max_tokens=ANSWER_TOKENS, stop=()
        )
        completion = worker.ask(request, lambda _text: None)
        return {
            "load_s": worker.load_s,
            "prompt_tok_s": completion.prompt_tok_s or 0.0,
            "generate_tok_s": completion.generate_tok_s or 0.0,
            "rss": float(worker.resident_bytes()),
        }
    finally:
        worker.close()


def _row(card: ModelCard, runs: list[dict[str, float]], home: Path, settings: Settings) -> dict[str, Any]:
    def middle(name: str) -> float:
        return spread([run[name] for run in runs]).median

    rates = spread([run["generate_tok_s"] for run in runs])
    rss = middle("rss")
    estimate = memory_need(home, card, settings.models.context)
    return {
        "model": card.name,
        "load s": round(middle("load_s"), 2),
        "prompt tok/s": round(middle("prompt_tok_s")),
        "generate tok/s": round(rates.median),
        "lowest-highest": f"{rates.low:.0f}-{rates.high:.0f}",
        "resident MB": round(rss / 1e6),
        "estimated MB": round(estimate / 1e6),
        "error": f"{(estimate - rss) / rss:+.0%}",
    }
