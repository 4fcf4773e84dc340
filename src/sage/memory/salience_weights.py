"""What each dimension of salience is worth to a namespace, learned from what was used.

Owns: the rows of ``salience_weights`` and the learning step. Must not know: how salience is computed.

Each use is compared with the neighbours that were not used: the weights move so that the used one would have
ranked higher (pairwise logistic ranking: Burges and others, "RankNet", 2005), and are drawn back to the usual
ones, so that a habit which ends is forgotten. Nothing is learned from what SAGE itself says of a message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from sage.memory.db import Database
from sage.memory.salience import Weights

__all__ = ["SalienceWeights"]

STEP, HOME = 0.2, 0.002
"""Of a comparison, in logits; the share of the distance to the usual weights that each takes back."""

MOST = 12.0
"""A weight stays from 0 to this: less than nothing would make a dimension count against a message."""

NEIGHBOURS = 2


class SalienceWeights:
    """The weights of every namespace in one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def of(self, namespace: str) -> Weights:
        """The weights of a namespace; the usual ones where nothing was learned."""
        rows = self._db.execute("SELECT data FROM salience_weights WHERE namespace = ?", (namespace,))
        return Weights(**json.loads(rows[0][0])) if rows else Weights()

    def learn(self, namespace: str, used: int) -> None:
        """One passage was used: compare it with the passages around it that never were."""
        columns = "surprise, novelty, arousal, reward, conflict"
        mine = self._db.execute(f"SELECT {columns} FROM salience WHERE passage_id = ?", (used,))  # noqa: S608
        if not mine:
            return
        values = list(self.of(namespace).values())
        for side, order in (("<", "DESC"), (">", "ASC")):
            rows = self._db.execute(
                f"SELECT {columns} FROM salience WHERE namespace = ? AND used = 0"  # noqa: S608
                f" AND passage_id {side} ? ORDER BY passage_id {order} LIMIT ?",
                (namespace, used, NEIGHBOURS),
            )
            for other in rows:
                values = _moved(values, mine[0], other)
        usual = Weights()
        learned = dict(zip(("surprise", "novelty", "arousal", "reward", "conflict"), values, strict=True))
        self._db.execute(
            "INSERT INTO salience_weights (namespace, data) VALUES (?, ?)"
            " ON CONFLICT (namespace) DO UPDATE SET data = excluded.data",
            (namespace, json.dumps({**learned, "bias": usual.bias})),
        )


def _moved(values: Sequence[float], better: Sequence[float], worse: Sequence[float]) -> list[float]:
    apart = [one - other for one, other in zip(better, worse, strict=True)]
    push = STEP / (1.0 + math.exp(sum(w * d for w, d in zip(values, apart, strict=True))))
    moved = (
        w + push * d + HOME * (usual - w)
        for w, d, usual in zip(values, apart, Weights().values(), strict=True)
    )
    return [min(MOST, max(0.0, value)) for value in moved]
