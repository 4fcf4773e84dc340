"""`sage bench memory`: does recall bring back the messages that hold the answer?

Owns: the measurement of SAGE's recall and of its peers on the same conversations.
Must not know: how any of them works inside.

any@k: at least one message of the evidence is among the first k; all@10: every one is among the first 10.
Each share comes with its 95 % interval after Wilson. ``p95_ms`` is the time of ranking.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sage.bench.chatter import tell
from sage.bench.conversations import Conversation, Question
from sage.memory.db import Database
from sage.memory.embed import why_no_minilm
from sage.memory.minilm import MiniLM
from sage.memory.passages import PassageStore
from sage.memory.recall import Recall

__all__ = ["generated", "measure_memory", "wilson"]

Ranker = Callable[[str, str], list[int]]
"""From a question and a namespace to the best passages' ids, best first."""

MEASURES = ("any@5", "any@10", "any@20", "all@10")
MOST = 20


def generated(seeds: int) -> list[Conversation]:
    """One conversation a seed; see :mod:`sage.bench.chatter`."""
    return [tell(seed=seed, name=f"generated-{seed}").conversation for seed in range(seeds)]


def measure_memory(
    conversations: Sequence[Conversation], home: Path, *, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for each index and category: SAGE's recall, the same without the sentence model (``sage,
    words``), SQLite's full-text search, mean vectors, and reciprocal rank fusion of the last two."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "sage.db") as db:
        store = PassageStore(db)
        ids = {talk.name: store.add_many(talk.said) for talk in conversations}
        rankers: dict[str, Ranker] = {"sage, words": _sage(Recall(db)), "fts5": _fts5(db)}
        if why_no_minilm(home):
            progress("without the sentence model: it is not on this machine")
        else:
            model = MiniLM(home)
            recall = Recall(db, model)
            for talk in conversations:
                progress(f"reading {talk.name}")
                while recall.catch_up(limit=200, namespace=talk.name):
                    pass
            vector = _vector(model, conversations, ids)
            rankers = {
                "sage": _sage(recall),
                **rankers,
                "vector": vector,
                "rrf": _fused(vector, rankers["fts5"]),
            }
        for name, ranker in rankers.items():
            progress(f"asking {name}")
            rows += _rows(name, ranker, conversations, ids)
    return rows


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), in percent."""
    if not count:
        return 0.0, 100.0
    z = 1.959964
    share, spread = hits / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def _rows(
    name: str, ranker: Ranker, conversations: Sequence[Conversation], ids: dict[str, list[int]]
) -> list[dict[str, Any]]:
    found: dict[str, list[list[bool]]] = {"all": []}
    times: dict[str, list[float]] = {"all": []}
    for talk in conversations:
        place = {ident: at for at, ident in enumerate(ids[talk.name])}
        for question in talk.questions:
            started = time.perf_counter()
            best = ranker(question.text, talk.name)
            seconds = time.perf_counter() - started
            hits = _hits(question, [place[ident] for ident in best])
            for category in ("all", question.category):
                found.setdefault(category, []).append(hits)
                times.setdefault(category, []).append(1e3 * seconds)
    rows = []
    for category, hits_of in found.items():
        row: dict[str, Any] = {"index": name, "category": category, "questions": len(hits_of)}
        sums = np.array(hits_of).sum(0).tolist()
        row |= {key: round(100 * got / len(hits_of), 1) for key, got in zip(MEASURES, sums, strict=True)}
        row["p95_ms"] = round(float(np.percentile(times[category], 95)), 2)
        for key, got in zip(MEASURES, sums, strict=True):
            low, high = wilson(got, len(hits_of))
            row |= {f"{key}_low": round(low, 1), f"{key}_high": round(high, 1)}
        rows.append(row)
    return rows


def _hits(question: Question, best: Sequence[int]) -> list[bool]:
    anywhere = [bool(question.evidence & set(best[:k])) for k in (5, 10, 20)]
    return [*anywhere, question.evidence <= set(best[:10])]


def _sage(recall: Recall) -> Ranker:
    return lambda question, namespace: list(recall.rank(question, namespace=namespace, most=MOST).ids)


def _fts5(db: Database) -> Ranker:
    def rank(question: str, namespace: str) -> list[int]:
        words = re.findall(r"\w+", question)
        if not words:
            return []
        rows = db.execute(
            "SELECT p.id FROM passages_fts f JOIN passages p ON p.id = f.rowid"
            " WHERE passages_fts MATCH ? AND p.namespace = ? ORDER BY bm25(passages_fts) LIMIT ?",
            (" OR ".join(f'"{word}"' for word in words), namespace, MOST),
        )
        return [row[0] for row in rows]

    return rank


def _vector(model: MiniLM, conversations: Sequence[Conversation], ids: dict[str, list[int]]) -> Ranker:
    matrices = {
        talk.name: model.embed([f"{each.speaker}: {each.text}" for each in talk.said])["minilm"]
        for talk in conversations
    }

    def rank(question: str, namespace: str) -> list[int]:
        order = np.argsort(-(matrices[namespace] @ model.embed([question])["minilm"][0]), kind="stable")
        return [ids[namespace][at] for at in order[:MOST]]

    return rank


def _fused(*rankers: Ranker) -> Ranker:
    def rank(question: str, namespace: str) -> list[int]:
        scores: dict[int, float] = {}
        for ranker in rankers:
            for place, ident in enumerate(ranker(question, namespace)):
                scores[ident] = scores.get(ident, 0.0) + 1.0 / (60 + place)
        return sorted(scores, key=lambda ident: -scores[ident])[:MOST]

    return rank
