"""Trust: what outcomes have taught about a candidate, per kind of work, and how it fades.

Owns: the record, its update and its decay, and the belief computed from it.
Must not know: clocks (``now`` is passed), files, or what a candidate is.

A record is a discounted mean: evidence halves every ``half_life_s`` seconds (Garivier & Moulines 2011
call the bandit form discounted UCB), so that trust follows a candidate that changes. Belief shrinks to
the card's prior, which counts for ``prior_strength`` outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sage.types import ANY_KIND, Outcome, OutcomeSource

__all__ = ["SOURCE_WEIGHT", "Belief", "TrustBook", "TrustRecord"]

SOURCE_WEIGHT: Mapping[OutcomeSource, float] = {"verifier": 1.0, "user": 1.0, "agreement": 0.25, "self": 0.0}
"""How many outcomes one counts for. Agreement is weak evidence: two small models agree on 30 to 40 %
of questions only. A candidate's word about itself counts for nothing."""

MOST_CERTAIN = 0.98
"""No figure on a card is certain: 16 right answers of 16 are worth 0.94 (Laplace), 200 of 200 are 0.995."""

OTHER_KIND_DISCOUNT = 4.0
"""An outcome of another kind shifts the start a quarter as fast as one of this kind moves the belief."""

Key = tuple[str, str]
"""(candidate, kind)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustRecord:
    """Discounted evidence: ``weight`` outcomes with mean ``quality``, as of ``updated_at`` (epoch s)."""

    weight: float
    quality: float
    updated_at: float

    def faded(self, now: float, half_life_s: float) -> TrustRecord:
        """The same evidence as it counts at ``now``; a clock that went back fades nothing."""
        age = max(0.0, now - self.updated_at)
        weight = self.weight * math.exp2(-age / half_life_s)
        return TrustRecord(weight=weight, quality=self.quality, updated_at=max(now, self.updated_at))


@dataclass(frozen=True, kw_only=True, slots=True)
class Belief:
    """Expected quality in [0, 1], its standard deviation, and how many outcomes stand behind it."""

    mean: float
    sd: float
    evidence: float


class TrustBook:
    """All records. Size grows with candidates x kinds, never with the number of outcomes."""

    def __init__(
        self,
        records: Mapping[Key, TrustRecord] | None = None,
        *,
        prior_strength: float,
        half_life_s: float,
    ) -> None:
        self._records: dict[str, dict[str, TrustRecord]] = {}
        for (candidate, kind), record in (records or {}).items():
            self._records.setdefault(candidate, {})[kind] = record
        self._strength = prior_strength
        self._half_life_s = half_life_s

    def record(self, candidate: str, kind: str) -> TrustRecord | None:
        """What is stored for this pair, not faded; None where nothing was learned."""
        return self._records.get(candidate, {}).get(kind)

    def observe(self, outcome: Outcome) -> TrustRecord | None:
        """Learn from one outcome; returns the new record, or None for self-praise.

        Raises:
            ValueError: a quality that is not a number in [0, 1].
        """
        if not 0.0 <= outcome.quality <= 1.0:
            raise ValueError(f"quality must be in [0, 1], got {outcome.quality!r}")
        weight = SOURCE_WEIGHT[outcome.source]
        if weight == 0.0:
            return None
        old = self._faded(outcome.candidate, outcome.kind, outcome.at)
        total = old.weight + weight
        quality = (old.weight * old.quality + weight * outcome.quality) / total
        record = TrustRecord(weight=total, quality=quality, updated_at=old.updated_at)
        self._records.setdefault(outcome.candidate, {})[outcome.kind] = record
        return record

    def belief(self, candidate: str, kind: str, prior: Mapping[str, float], now: float) -> Belief:
        """Expected quality of a candidate at a kind of work.

        Outcomes of this kind move it from the card's prior. Outcomes of other kinds move the starting
        point by how far the candidate surprised there: better than its card at facts, so perhaps at sums.
        """
        start = _prior(prior, kind) + self._surprise(candidate, kind, prior, now)
        start = min(MOST_CERTAIN, max(1.0 - MOST_CERTAIN, start))
        own = self._faded(candidate, kind, now)
        total = self._strength + own.weight
        mean = (self._strength * start + own.weight * own.quality) / total
        return Belief(mean=mean, sd=math.sqrt(mean * (1.0 - mean) / (total + 1.0)), evidence=own.weight)

    def _surprise(self, candidate: str, kind: str, prior: Mapping[str, float], now: float) -> float:
        """Mean of (quality - prior) over the other kinds, shrunk to 0 while there is little evidence."""
        weight = sum_ = 0.0
        for other in self._records.get(candidate, {}):
            if other != kind:
                record = self._faded(candidate, other, now)
                weight += record.weight
                sum_ += record.weight * (record.quality - _prior(prior, other))
        return sum_ / (weight + OTHER_KIND_DISCOUNT * self._strength) if weight else 0.0

    def _faded(self, candidate: str, kind: str, now: float) -> TrustRecord:
        record = self.record(candidate, kind)
        if record is None:
            return TrustRecord(weight=0.0, quality=0.0, updated_at=now)
        return record.faded(now, self._half_life_s)


def _prior(prior: Mapping[str, float], kind: str) -> float:
    """The card's figure for a kind, else for any kind, else one half."""
    return prior.get(kind, prior.get(ANY_KIND, 0.5))
