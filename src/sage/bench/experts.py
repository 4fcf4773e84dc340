"""A pool of experts under pressure: what it holds, and who chooses among them.

Owns: specialists, a generalist, a liar and a dead one; what is loaded; SAGE as it serves, and two policies
that show how a pool collapses. Must not know: what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sage.bench.bandits import Bandit
from sage.bench.policies import Query
from sage.bench.route_data import Floats
from sage.bench.sage_policy import LIMITS, SITUATION, book_of
from sage.economy.context import Codebook
from sage.economy.pool import Pool, card_overall, card_shift
from sage.economy.selector import Selector
from sage.types import ANY_KIND, Candidate, Outcome, OutcomeSource

__all__ = ["BONUS", "LOAD_S", "SLOTS", "Experts", "Serving", "WinnerTakesAll"]

SLOTS = 4
"""Experts that fit into memory; the one that was used longest ago makes room."""

LOAD_S, RUN_S, LOAD_BYTES = 1.0, 1.0, 2**30

BONUS, PRICE_SCALE = 1.2, 10.0
"""As ``selector.hot_bonus`` and ``selector.price_scale`` are by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts:
    """A pool by line: specialists, then the generalist, the liar and the dead one.

    ``quality`` (experts, topics); ``cards``: what is claimed, by kind of work; ``word`` (experts,): what each
    says of its answers.
    """

    quality: Floats
    cards: Sequence[Mapping[str, float]]
    word: Floats

    @classmethod
    def of(cls, specialists: int, *, honest: bool) -> Experts:
        """A pool with one topic for each two specialists."""
        topics = specialists // 2
        own = np.arange(specialists) % topics
        quality = np.full((specialists + 3, topics), 0.5)
        quality[np.arange(specialists), own] = 0.9
        quality[specialists:] = [[0.75], [0.1], [0.0]]
        cards = [{ANY_KIND: 0.5} | ({f"topic {topic}": 0.85} if honest else {}) for topic in own]
        cards += [{ANY_KIND: 0.9}, {ANY_KIND: 0.98}, {ANY_KIND: 0.8}]
        word = np.concatenate([np.full(specialists + 1, 0.7), [1.0, 0.7]])
        return cls(quality=quality, cards=cards, word=word)

    @property
    def generalist(self) -> int:
        """Its line; the liar's and the dead one's follow."""
        return len(self.quality) - 3

    def __len__(self) -> int:
        return len(self.quality)


class _Memory:
    """What is loaded: the generalist first, and never more than ``SLOTS``."""

    def __init__(self, experts: Experts) -> None:
        self._used = [experts.generalist]
        self.changed = True

    def use(self, expert: int) -> None:
        """Load it if need be."""
        self.changed = expert not in self._used
        self._used = [other for other in self._used if other != expert][-(SLOTS - 1) :]
        self._used.append(expert)

    def resident(self, experts: int) -> list[bool]:
        """For each expert, whether it is loaded."""
        return [expert in self._used for expert in range(experts)]


class Serving(Bandit):
    """SAGE as it serves: cards, prices, persistence, a trust book that hears verifier and self-praise."""

    def __init__(
        self,
        name: str,
        experts: Experts,
        codebook: Codebook,
        *,
        dial: float,
        random: np.random.Generator | None,
    ) -> None:
        self.name = name
        self._experts, self._dial, self._random = experts, dial, random
        self._book = book_of(codebook)
        self._selector = Selector(hot_bonus=BONUS, price_scale=PRICE_SCALE)
        self._memory = _Memory(experts)
        self._now = 0.0

    def choose(self, query: Query) -> int:
        """What the selector decides, with the prices of the moment."""
        if self._memory.changed:
            self._pool = self._priced()
        decision = self._selector.choose(
            replace(SITUATION, kind=query.category),
            query.context,
            self._pool,
            self._book,
            limits=LIMITS,
            now=self._now,
            dial=self._dial,
            random=self._random,
        )
        return self._pool.index[decision.chosen]

    def learn(self, query: Query, arm: int, quality: float) -> None:
        """The verifier's word, and the expert's own."""
        self._memory.use(arm)
        self._now += 1.0
        words: tuple[tuple[OutcomeSource, float], ...] = (
            ("verifier", quality),
            ("self", float(self._experts.word[arm])),
        )
        for source, word in words:
            event = f"{source}-{self._now:.0f}"
            outcome = Outcome(
                event_id=event,
                turn_id=event,
                candidate=self._pool.names[arm],
                kind=query.category,
                quality=word,
                source=source,
                at=self._now,
                shift=card_shift(self._experts.cards[arm], query.category),
            )
            self._book.observe(outcome, query.context)

    def _priced(self) -> Pool:
        resident = self._memory.resident(len(self._experts))
        return Pool(
            [
                Candidate(
                    name=f"expert {number}",
                    prior=self._experts.cards[number],
                    capabilities=SITUATION.needs,
                    context_length=1,
                    memory_bytes=LOAD_BYTES,
                    resident=loaded,
                    load_bytes=0 if loaded else LOAD_BYTES,
                    est_load_s=0.0 if loaded else LOAD_S,
                    est_run_s=RUN_S,
                )
                for number, loaded in enumerate(resident)
            ]
        )


class WinnerTakesAll(Bandit):
    """The highest mean so far times persistence, starting from the card; ``believes`` takes the experts' own
    word for it."""

    STRENGTH = 10.0

    def __init__(self, experts: Experts, *, believes: bool) -> None:
        self.name = "self_scores" if believes else "winner_takes_all"
        self._experts, self._believes = experts, believes
        card = np.array([card_overall(card) for card in experts.cards])
        self._sum, self._count = self.STRENGTH * card, np.full(len(experts), self.STRENGTH)
        self._memory = _Memory(experts)

    def choose(self, _query: Query) -> int:
        """Always the winner."""
        bonus = np.where(self._memory.resident(len(self._experts)), BONUS, 1.0)
        return int((bonus * self._sum / self._count).argmax())

    def learn(self, _query: Query, arm: int, quality: float) -> None:
        """Add to the mean."""
        self._memory.use(arm)
        self._sum[arm] += self._experts.word[arm] if self._believes else quality
        self._count[arm] += 1.0
