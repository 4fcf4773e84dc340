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
        self._records: dict[Key, TrustRecord] = dict(records or {})
        self._strength = prior_strength
        self._half_life_s = half_life_s

    @property
    def records(self) -> Mapping[Key, TrustRecord]:
        return self._records

    def observe(self, outcome: Outcome) -> tuple[Key, ...]:
        """Learn from one outcome; returns the keys that changed (none for self-praise).

        Raises:
            ValueError: a quality that is not a number in [0, 1].
        """
        if not 0.0 <= outcome.quality <= 1.0:
            raise ValueError(f"quality must be in [0, 1], got {outcome.quality!r}")
        weight = SOURCE_WEIGHT[outcome.source]
        if weight == 0.0:
            return ()
        keys = tuple(dict.fromkeys([(outcome.candidate, outcome.kind), (outcome.candidate, ANY_KIND)]))
        for key in keys:
            old = self._faded(key, outcome.at)
            total = old.weight + weight
            quality = (old.weight * old.quality + weight * outcome.quality) / total
            self._records[key] = TrustRecord(weight=total, quality=quality, updated_at=old.updated_at)
        return keys

    def belief(self, candidate: str, kind: str, prior: Mapping[str, float], now: float) -> Belief:
        """Expected quality of a candidate at a kind of work.

        What was learned on other kinds shifts the starting point; what was learned on this kind
        decides more the more of it there is.
        """
        general = prior.get(ANY_KIND, 0.5)
        start = prior.get(kind, general)
        own = self._faded((candidate, kind), now)
        everything = self._faded((candidate, ANY_KIND), now)
        if kind == ANY_KIND:
            own = everything
        else:
            others = max(0.0, everything.weight - own.weight)
            if others > 0.0:
                rest = (everything.weight * everything.quality - own.weight * own.quality) / others
                start += others * (rest - general) / (others + self._strength)
        start = min(1.0, max(0.0, start))
        total = self._strength + own.weight
        mean = (self._strength * start + own.weight * own.quality) / total
        return Belief(mean=mean, sd=math.sqrt(mean * (1.0 - mean) / (total + 1.0)), evidence=own.weight)

    def _faded(self, key: Key, now: float) -> TrustRecord:
        record = self._records.get(key)
        if record is None:
            return TrustRecord(weight=0.0, quality=0.0, updated_at=now)
        return record.faded(now, self._half_life_s)
