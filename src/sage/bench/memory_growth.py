"""How the cost of memory grows: storing, the first recall of a process, every further one.

Owns: memories of a given size, drawn at random, and their times. Must not know: how recall works.

Words are drawn from a vocabulary of 20,000 by Zipf's law, 20 a message, 20 messages a session. Codes of the
sentence model are random, of as many pieces; questions go through the model itself where it is here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sage.memory.db import Database
from sage.memory.embed import why_no_minilm
from sage.memory.minilm import MiniLM
from sage.memory.passages import PassageStore, Said
from sage.memory.recall import Recall

__all__ = ["Drawn", "measure_growth"]

VOCABULARY, WORDS, SESSION, BATCH = 20_000, 20, 20, 500
QUESTIONS, SINGLES = 100, 200
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu")


class Drawn:
    """An embedder of random pieces: as many as a message has, at no cost."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(0)

    def tokens(self, text: str) -> tuple[list[str], npt.NDArray[np.float32]]:
        """See :class:`sage.memory.meaning.TokenEmbedder`."""
        pieces = text.split()
        return pieces, self._draw.standard_normal((len(pieces), 384), np.float32)


def measure_growth(
    sizes: Sequence[int], home: Path, *, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for each number of messages. ``batch/s`` and ``single/s``: messages stored a second, in batches
    of 500 with their index, and one by one, each durable. ``first_ms``: opening the database and the first
    recall; the others: later recalls, each a question of six words with quoting within 2,000 tokens."""
    rows = []
    for size in sizes:
        progress(f"a memory of {size} messages")
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_measure(size, Path(folder) / "sage.db", home))
    return rows


def _measure(size: int, path: Path, home: Path) -> dict[str, Any]:
    draw = np.random.default_rng(size)
    words = np.array(["".join(draw.choice(SYLLABLES, 3)) + str(at % 7) for at in range(VOCABULARY)])
    share = 1 / np.arange(10, VOCABULARY + 10)
    picked = draw.choice(VOCABULARY, (size, WORDS), p=share / share.sum())
    said = [
        Said(session=str(at // SESSION), speaker="AB"[at % 2], at=60.0 * at, text=" ".join(words[row]))
        for at, row in enumerate(picked)
    ]
    with Database(path) as db:
        store, recall = PassageStore(db), Recall(db, Drawn())
        started = time.perf_counter()
        for at in range(0, size, BATCH):
            store.add_many(said[at : at + BATCH])
            recall.index()
        batch = time.perf_counter() - started
        while recall.catch_up(limit=2000):
            pass
        started = time.perf_counter()
        for each in said[:SINGLES]:
            store.add(each)
        single = time.perf_counter() - started
    embedder = Drawn() if why_no_minilm(home) else MiniLM(home)
    embedder.tokens("loaded before it is timed")
    times: list[float] = []
    opened = time.perf_counter()
    with Database(path) as db:
        recall = Recall(db, embedder)
        for _ in range(QUESTIONS + 1):
            asked = " ".join(draw.choice(words, 6, p=share / share.sum()))
            started = time.perf_counter() if times else opened
            recall.recall(asked, count_tokens=lambda text: len(text) // 4)
            times.append(1e3 * (time.perf_counter() - started))
    return {
        "turns": size,
        "index": "sage",
        "batch/s": round(size / batch),
        "single/s": round(SINGLES / single),
        "first_ms": round(times[0], 1),
        "median_ms": round(float(np.median(times[1:])), 1),
        "p95_ms": round(float(np.percentile(times[1:], 95)), 1),
        "MB": round(path.stat().st_size / 1e6, 1),
    }
