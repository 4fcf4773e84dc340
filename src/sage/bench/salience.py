"""`sage bench salience`: does salient memory keep the messages that will be asked for?

Owns: the measurement, and the orders it is held against. Must not know: how salience is computed.

Messages are heard in order, as they would be when they were said; then each order keeps its best share of
them, ``bound``, and only those may be hits (recall still reads the others as context). ``evidence_kept`` is
the share of the messages that some question needs, ``any@10`` the share of questions with at least one of its
messages among the first 10 hits, ``loss`` what that is below recall over everything (points), ``auc`` the
chance that a message of the evidence stands above another one. All but ``stored`` and ``auc`` in percent.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sage.bench.conversations import Conversation
from sage.memory.db import Database
from sage.memory.embed import why_no_minilm
from sage.memory.minilm import MiniLM
from sage.memory.passages import PassageStore
from sage.memory.recall import Recall
from sage.memory.salience import DIMENSIONS
from sage.memory.salient import SalientMemory

__all__ = ["BOUNDS", "auc", "measure_salience"]

BOUNDS = (0.75, 0.6, 0.4)
"""Shares of the messages that are kept."""

SEED = 7

Order = Mapping[str, list[int]]
"""For each conversation the ids of its messages, best first."""


def measure_salience(
    conversations: Sequence[Conversation], home: Path, *, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each order and bound; and more: the AUC of each dimension alone, ``ms`` to hear a message,
    and whether recall had its sentence model."""
    with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "sage.db") as db:
        store, memory = PassageStore(db), SalientMemory(db)
        ids = {talk.name: store.add_many(talk.said) for talk in conversations}
        needed = {
            ids[talk.name][place]
            for talk in conversations
            for each in talk.questions
            for place in each.evidence
        }
        progress("hearing")
        started = time.perf_counter()
        heard = {talk.name: memory.hear(ids[talk.name]) for talk in conversations}
        total = sum(map(len, ids.values()))
        more: dict[str, Any] = {"ms": round(1e3 * (time.perf_counter() - started) / max(1, total), 3)}
        for number, name in enumerate(DIMENSIONS):
            values = [{i: s.values()[number] for i, s in zip(ids[n], heard[n], strict=True)} for n in ids]
            more[f"auc_{name}"] = _mean_auc(values, needed)
        model = None if why_no_minilm(home) else MiniLM(home)
        more["sentence model"] = model is not None
        recall = Recall(db, model)
        for talk in conversations:
            while recall.catch_up(limit=200, namespace=talk.name):
                progress(f"reading {talk.name}")
            recall.index(talk.name)
        orders = _orders(conversations, ids, memory)
        whole = _found(recall, conversations, ids, {name: frozenset[int]() for name in ids})
        rows = [_row("all", 1.0, ids, needed, whole, whole, None)]
        for name, order in orders.items():
            ranks = [{ident: -place for place, ident in enumerate(best)} for best in order.values()]
            for bound in BOUNDS:
                progress(f"asking {name} at {bound:.0%}")
                held = {talk: best[: round(bound * len(best))] for talk, best in order.items()}
                dropped = {talk: frozenset(ids[talk]) - frozenset(held[talk]) for talk in held}
                found = _found(recall, conversations, ids, dropped)
                rows.append(_row(name, bound, held, needed, found, whole, _mean_auc(ranks, needed)))
    return rows, more


def auc(values: Mapping[int, float], needed: set[int]) -> float | None:
    """The chance that a needed one has the higher value, ties as half; None where all or none are needed."""
    scores = np.array(list(values.values()))
    right = np.array([ident in needed for ident in values])
    if right.all() or not right.any():
        return None
    above = np.searchsorted(np.sort(scores[~right]), scores[right], side="left")
    upto = np.searchsorted(np.sort(scores[~right]), scores[right], side="right")
    return float((above + upto).mean() / 2 / (~right).sum())


def _mean_auc(values: Sequence[Mapping[int, float]], needed: set[int]) -> float | None:
    found = [share for each in values if (share := auc(each, needed)) is not None]
    return round(float(np.mean(found)), 3) if found else None


def _orders(
    conversations: Sequence[Conversation], ids: Mapping[str, list[int]], memory: SalientMemory
) -> dict[str, Order]:
    """Salience as salient memory ranks it when all has been said, and its rivals."""
    draw = random.Random(SEED)  # noqa: S311
    orders: dict[str, dict[str, list[int]]] = {"salience": {}, "length": {}, "recency": {}, "random": {}}
    for talk in conversations:
        mine = ids[talk.name]
        strengths = memory.strengths(talk.name, now=talk.said[-1].at, most=len(mine))
        length = {ident: len(said.text) for ident, said in zip(mine, talk.said, strict=True)}
        orders["salience"][talk.name] = [ident for ident, _ in strengths]
        orders["length"][talk.name] = sorted(mine, key=lambda ident: -length[ident])
        orders["recency"][talk.name] = mine[::-1]
        orders["random"][talk.name] = draw.sample(mine, len(mine))
    return dict(orders)


def _found(
    recall: Recall,
    conversations: Sequence[Conversation],
    ids: Mapping[str, list[int]],
    dropped: Mapping[str, frozenset[int]],
) -> list[bool]:
    """For each question whether a message of its evidence is among the first 10 hits."""
    return [
        bool({ids[talk.name][place] for place in each.evidence} & set(ranking.ids))
        for talk in conversations
        for each in talk.questions
        for ranking in [recall.rank(each.text, namespace=talk.name, exclude=dropped[talk.name], most=10)]
    ]


def _row(
    name: str,
    bound: float,
    held: Mapping[str, list[int]],
    needed: set[int],
    found: Sequence[bool],
    whole: Sequence[bool],
    share: float | None,
) -> dict[str, Any]:
    kept = {ident for best in held.values() for ident in best}
    any_10, before = float(np.mean(found)), float(np.mean(whole))
    return {
        "order": name,
        "bound": round(100 * bound),
        "stored": len(kept),
        "evidence_kept": round(100 * len(kept & needed) / max(1, len(needed)), 1),
        "any@10": round(100 * any_10, 1),
        "loss": round(100 * (before - any_10), 1),
        "auc": share,
    }
