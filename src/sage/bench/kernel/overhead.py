"""`sage bench kernel`, first part: what the kernel adds to an answer, with a model that answers at once.

Owns: how the kernel's own time is measured, and memories of a given length. Must not know: real models.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sage.bench.kernel.person import live
from sage.bench.memory_growth import Drawn
from sage.config import Settings
from sage.kernel.sense import Request
from sage.kernel.session import open_kernel
from sage.kernel.tick import Kernel
from sage.memory.books import Ending
from sage.memory.embed import why_no_minilm
from sage.memory.recall import Recall
from sage.types import Decision, Message, Situation, new_id
from sage.zoo.card import ModelCard

__all__ = ["PARTS", "measure_overhead"]

PARTS = {
    "begin": "_begin",
    "salience": "_feel",
    "recall": "_recall",
    "locate": "_locate",
    "choose": "_choose",
    "refine": "_refine",
    "settle": "_settle",
}
"""Parts of a tick that are timed by themselves, and the kernel's methods that do them."""

BATCH = 500
"""Turns stored in one transaction."""

WARM_UP = 3
"""Ticks that are not counted: the first loads the model and reads the index."""


def measure_overhead(
    home: Path,
    *,
    ticks: int,
    models: Sequence[int],
    histories: Sequence[int],
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """A row (``what`` = ``overhead``) for each number of candidates without history and without recall, and
    for each length of history without recall, with words alone, and with MiniLM where ``home`` has it.

    Milliseconds of a tick that are not the worker's, with all its durable writes: median and 95th percentile
    of the whole, and the median of each part.
    """
    rows = []
    for count in models:
        progress(f"{count} candidates")
        rows.append(_measure(None, ticks, count, history=0, recall="none"))
    ways: list[tuple[str, Path | None]] = [("none", None), ("words", None)]
    if not why_no_minilm(home):
        ways.append(("MiniLM", home))
    for history in histories:
        for recall, models_home in ways:
            if (recall, history) != ("none", 0):
                progress(f"{history} turns, recall: {recall}")
                rows.append(_measure(models_home, ticks, models[0], history=history, recall=recall))
    return rows


def _measure(minilm: Path | None, ticks: int, count: int, *, history: int, recall: str) -> dict[str, Any]:
    catalog = {f"fake-{at}": _card(f"fake-{at}", prior=0.5 if at else 0.9) for at in range(count)}
    defaults = Settings.model_construct()
    tokens = 0 if recall == "none" else defaults.memory.recall_tokens
    settings = defaults.model_copy(
        update={"memory": defaults.memory.model_copy(update={"recall_tokens": tokens})}
    )
    asked = [ask.text for ask in live(0, days=ticks // 20 + 2)]
    own: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if minilm is not None:
            (home / "models").symlink_to(minilm / "models", target_is_directory=True)
        with open_kernel(home=home, settings=settings, catalog=catalog) as kernel:
            _remember(kernel, history)
            if recall != "none":
                kernel.stores.recall.index()
            if minilm is not None:  # the codes of the past are drawn: their number counts, not what they say
                drawn = Recall(kernel.stores.db, Drawn())
                while drawn.catch_up(limit=BATCH):
                    pass
            spent = _timed(kernel)
            for number in range(ticks + WARM_UP):
                text = asked[number % len(asked)]
                request = Request(messages=(Message(role="user", content=text),), session=f"s{number}")
                started = time.perf_counter()
                reply = kernel.tick(request)
                run_s = float(reply.usage["run_s"])
                own.append(time.perf_counter() - started - run_s)
                spent["refine"][-1] -= run_s
    own = own[WARM_UP:]
    parts = {name: 1e3 * statistics.median(spent[name][WARM_UP:]) for name in PARTS}
    median = 1e3 * statistics.median(own)
    return {
        "what": "overhead",
        "candidates": count,
        "history": history,
        "recall": recall,
        "ticks": ticks,
        "median ms": round(median, 2),
        "p95 ms": round(1e3 * statistics.quantiles(own, n=20)[-1], 2),
        **{f"{name} ms": round(value, 2) for name, value in parts.items()},
        "rest ms": round(median - sum(parts.values()), 2),
    }


def _card(name: str, *, prior: float) -> ModelCard:
    return ModelCard(
        name=name,
        source="fake",
        sha256="",
        bytes=1,
        license="none",
        context_length=4096,
        backend="fake",
        prior={"*": prior},
        script={"answer": "yes"},
    )


def _timed(kernel: Kernel) -> dict[str, list[float]]:
    """Seconds of each part, a value for each tick from now on."""
    spent: dict[str, list[float]] = defaultdict(list)

    def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                spent[name].append(time.perf_counter() - started)

        return timed

    for name, method in PARTS.items():
        setattr(kernel, method, watched(name, getattr(kernel, method)))
    return spent


def _remember(kernel: Kernel, turns: int) -> None:
    """A past of so many turns, each with its decision, ledger entries, messages and their salience."""
    stores = kernel.stores
    past = [ask for seed in range(1, turns // 200 + 2) for ask in live(seed, days=10)][:turns]
    decision = Decision(
        chosen="fake-0", mode="permission", reason="It was there.", kind="chat", candidates=()
    )
    for at in range(0, turns, BATCH):
        with stores.db.transaction():
            for number, ask in enumerate(past[at : at + BATCH], start=at):
                turn_id = new_id("turn")
                situation = Situation(
                    messages=(Message(role="user", content=ask.text),),
                    kind="chat",
                    prompt_tokens=20,
                    max_tokens=256,
                    session=f"past {number // 8}",
                )
                stores.turns.begin(turn_id, situation)
                stores.turns.record_decision(turn_id, decision)
                granted = stores.books.grant(turn_id, want=2.0, need=1.0)
                answer = f"The {ask.topic} of {ask.about} is {ask.value}."
                ending = Ending(status="done", answer=answer, model="fake-0", usage={})
                stores.books.close(turn_id, granted=granted, spent=0.01, ending=ending)
                stores.salient.hear([passage.id for passage in stores.passages.of_turn(turn_id)])
