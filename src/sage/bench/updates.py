"""`sage bench updates`: is the newest of what was told first, and is it said when nothing was told?

Owns: the measurement on generated conversations. Must not know: how recall works.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sage.bench.chatter import Told, tell
from sage.memory.db import Database
from sage.memory.embed import why_no_minilm
from sage.memory.minilm import MiniLM
from sage.memory.passages import PassageStore
from sage.memory.recall import Recall

__all__ = ["measure_updates"]

DEEP = 20

FIRST_SEED = 5000
"""No seed from here on was used for tuning."""


def measure_updates(
    *, seeds: int, turns: int, home: Path, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for recall with and one for recall without the sentence model, each for corrections in the words
    that recall was tuned on (with other seeds) and in words that it was not.

    ``newest first``: of facts that were corrected, the share whose newest telling ranks above every older
    one; ``found``: the newest telling is among the first 10. ``precision`` and ``recall`` of abstaining: of
    the questions it abstained from, those that nobody told the answer of; and of those, how many it abstained
    from. ``wrongly silent``: the share of answerable questions it abstained from.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "sage.db") as db:
        recalls = {"sage, words": Recall(db)}
        if why_no_minilm(home):
            progress("without the sentence model: it is not on this machine")
        else:
            recalls["sage"] = Recall(db, MiniLM(home))
        for wordings in ("known", "held out"):
            held_out = wordings == "held out"
            told = [
                tell(seed=FIRST_SEED + seed, turns=turns, name=f"{wordings} {seed}", held_out=held_out)
                for seed in range(seeds)
            ]
            ids = [PassageStore(db).add_many(each.conversation.said) for each in told]
            while "sage" in recalls and (made := recalls["sage"].catch_up(limit=500)):
                progress(f"read {made} messages")
            rows += [
                {"wordings": wordings, **_row(name, recall, told, ids)} for name, recall in recalls.items()
            ]
    return rows


def _row(name: str, recall: Recall, told: list[Told], ids: list[list[int]]) -> dict[str, Any]:
    updated = newest_first = found = facts = silent = absent = rightly = 0
    for each, known in zip(told, ids, strict=True):
        space = each.conversation.name
        for fact in each.facts:
            ranking = recall.rank(fact.question, namespace=space, most=DEEP).ids
            places = {ident: place for place, ident in enumerate(ranking)}
            newest = places.get(known[fact.newest], DEEP)
            facts += 1
            found += newest < 10
            silent += _abstains(recall, fact.question, space)
            if fact.stale:
                updated += 1
                newest_first += newest < min(places.get(known[at], DEEP) for at in fact.stale)
        for question in each.absent:
            absent += 1
            rightly += _abstains(recall, question, space)
    return {
        "index": name,
        "facts": facts,
        "found": round(100 * found / max(1, facts), 1),
        "updated": updated,
        "newest first": round(100 * newest_first / max(1, updated), 1),
        "absent": absent,
        "precision": round(100 * rightly / max(1, rightly + silent), 1),
        "recall": round(100 * rightly / max(1, absent), 1),
        "wrongly silent": round(100 * silent / max(1, facts), 1),
    }


def _abstains(recall: Recall, question: str, namespace: str) -> bool:
    return recall.recall(question, namespace=namespace, count_tokens=len, budget=10**9).abstained
