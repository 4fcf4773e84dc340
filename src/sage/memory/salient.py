"""Salient memory: which passages are worth being found again, under a bound.

Owns: the rows of ``salience``, how strength decays and grows, what is dropped.
Must not know: how recall ranks.

A passage that is dropped stays in the verbatim store, as context of what is kept; it is no longer a hit.
Strength goes from 0 to 1 and begins as the salience; its odds halve every ``HALF_LIFE_S`` and grow with use.
Since all odds fade at one rate, the order never changes by itself: it is kept as one number, log2(odds) plus
time in half-lives, and nothing needs rewriting. (Fading the strength itself drops the best old messages for
any new ones, because the salient ones are all close to 1.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sage.memory.db import Database
from sage.memory.familiar import Familiar, word_keys
from sage.memory.passages import DEFAULT_NAMESPACE, Passage, PassageStore
from sage.memory.salience import Context, Reading, Salience, Weights, appraise
from sage.memory.salience_weights import SalienceWeights

__all__ = ["FAINT", "HALF_LIFE_S", "Appraisal", "SalientMemory"]

HALF_LIFE_S = 365 * 86_400.0
"""A guess; forgetting by time alone is slow, the bound is what drops."""

FAINT = 0.01
"""Strength below which a passage is dropped whatever the room."""

GROWTH_BITS = 2.0
"""A use makes the odds four times as high, as if the passage were two half-lives younger."""

MOST_BITS = 10.0
"""Odds of a thousand to one: beyond that, use adds nothing, or what was used much could never be dropped."""

EVERY = 64
"""The bound is enforced when a passage whose id this divides is heard: seldom, and in every process alike."""

NOTHING: Mapping[int, Context] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Appraisal:
    """The salience of a text that was not stored, what it was read from, whether it would be ``kept`` and the
    strength it would have to have (``least``)."""

    salience: Salience
    reading: Reading
    kept: bool
    least: float


class SalientMemory:
    """The salient memory of one database, at most ``bound`` passages a namespace (None: no bound)."""

    def __init__(self, db: Database, *, bound: int | None = None) -> None:
        self._db = db
        self._bound = bound
        self._store = PassageStore(db)
        self._familiar: dict[str, Familiar] = {}
        self._weights = SalienceWeights(db)

    def look(
        self, text: str, *, namespace: str = DEFAULT_NAMESPACE, now: float, context: Context | None = None
    ) -> Appraisal:
        """What a text would count as; nothing is stored. Raises StoreError."""
        reading = self._of(namespace).look(word_keys(text))
        salience = appraise(text, reading, context or Context(), self._weights.of(namespace))
        least = FAINT
        if self._bound is not None:
            rows = self._db.execute(
                "SELECT rank FROM salience WHERE namespace = ? AND rank IS NOT NULL"
                " ORDER BY rank DESC LIMIT 1 OFFSET ?",
                (namespace, self._bound - 1),
            )
            least = max([FAINT, *(_strength(row[0], now) for row in rows)])
        return Appraisal(salience=salience, reading=reading, kept=salience.total >= least, least=least)

    def hear(self, ids: Sequence[int], *, contexts: Mapping[int, Context] = NOTHING) -> list[Salience]:
        """Appraise stored passages in their order and keep them; returns the salience of those that exist.

        ``contexts`` tells what is known beside the text; without one, whether the passage before it in its
        session asked something is read from there. A passage that was heard before keeps what it has.

        Raises:
            StoreError: the database fails.
        """
        heard = []
        with self._db.transaction():
            for passage in self._store.get(sorted(ids)):
                context = contexts.get(passage.id) or Context(asked=self._asked(passage))
                weights = self._weights.of(passage.namespace)
                words = word_keys(passage.text)
                found = appraise(passage.text, self._of(passage.namespace).look(words), context, weights)
                self._keep(passage, words, found)
                heard.append(found)
                if self._bound is not None and passage.id % EVERY == 0:
                    self.prune(passage.namespace, now=passage.at)
        return heard

    def kept(self, ids: Sequence[int]) -> frozenset[int]:
        """Those of these passages that may be hits: the kept ones, and those nobody has appraised yet."""
        rows = self._db.execute(
            "SELECT passage_id FROM salience WHERE rank IS NULL"
            " AND passage_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        )
        return frozenset(ids) - {int(row[0]) for row in rows}

    def used(self, ids: Sequence[int], *, now: float) -> None:
        """These passages served an answer: they grow stronger, dropped ones come back, the weights learn."""
        with self._db.transaction():
            for ident in ids:
                rows = self._db.execute(
                    "SELECT namespace, total, rank FROM salience WHERE passage_id = ?", (ident,)
                )
                for namespace, first, rank in rows:
                    strength = first if rank is None else _strength(rank, now)
                    self._db.execute(
                        "UPDATE salience SET used = used + 1, rank = ? WHERE passage_id = ?",
                        (min(MOST_BITS + now / HALF_LIFE_S, _rank(strength, now) + GROWTH_BITS), ident),
                    )
                    self._weights.learn(namespace, ident)

    def prune(self, namespace: str = DEFAULT_NAMESPACE, *, now: float, bound: int | None = None) -> int:
        """Drop what is faint and what exceeds the bound (or this ``bound``); returns how many it dropped."""
        bound = self._bound if bound is None else bound
        return len(
            self._db.execute(
                "UPDATE salience SET rank = NULL WHERE namespace = ?1 AND rank IS NOT NULL AND (rank < ?2"
                " OR passage_id IN (SELECT passage_id FROM salience WHERE namespace = ?1 AND rank IS NOT NULL"
                " ORDER BY rank DESC, passage_id DESC LIMIT -1 OFFSET ?3)) RETURNING 1",
                (namespace, _rank(FAINT, now), 2**62 if bound is None else bound),
            )
        )

    def strengths(
        self, namespace: str = DEFAULT_NAMESPACE, *, now: float, most: int
    ) -> list[tuple[int, float]]:
        """The strongest passages, ids and strength now (0..1)."""
        rows = self._db.execute(
            "SELECT passage_id, rank FROM salience WHERE namespace = ? AND rank IS NOT NULL"
            " ORDER BY rank DESC, passage_id DESC LIMIT ?",
            (namespace, most),
        )
        return [(int(ident), _strength(rank, now)) for ident, rank in rows]

    def counts(self, namespace: str = DEFAULT_NAMESPACE) -> tuple[int, int]:
        """How many passages are kept, and how many were appraised."""
        rows = self._db.execute(
            "SELECT count(rank), count(*) FROM salience WHERE namespace = ?", (namespace,)
        )
        return int(rows[0][0]), int(rows[0][1])

    def weights(self, namespace: str = DEFAULT_NAMESPACE) -> Weights:
        """Those that use has taught, or the usual ones."""
        return self._weights.of(namespace)

    def _of(self, namespace: str) -> Familiar:
        return self._familiar.setdefault(namespace, Familiar(self._db, namespace))

    def _asked(self, passage: Passage) -> bool:
        rows = self._db.execute(
            "SELECT text FROM passages WHERE namespace = ? AND session = ? AND id < ?"
            " ORDER BY id DESC LIMIT 1",
            (passage.namespace, passage.session, passage.id),
        )
        return bool(rows) and "?" in rows[0][0]

    def _keep(self, passage: Passage, words: Mapping[int, str], found: Salience) -> None:
        self._db.execute(
            "INSERT INTO salience (passage_id, namespace, words, surprise, novelty, arousal, reward,"
            " conflict, total, rank) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (passage_id) DO NOTHING",
            (
                passage.id,
                passage.namespace,
                json.dumps(list(words)),
                *found.values(),
                found.total,
                _rank(found.total, passage.at),
            ),
        )


def _rank(strength: float, at: float) -> float:
    held = min(1.0 - 1e-6, max(1e-6, strength))
    return math.log2(held / (1.0 - held)) + at / HALF_LIFE_S


def _strength(rank: float, now: float) -> float:
    bits: float = min(60.0, max(-60.0, rank - now / HALF_LIFE_S))
    return 1.0 / (1.0 + math.exp2(-bits))
