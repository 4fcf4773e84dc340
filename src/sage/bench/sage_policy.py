"""SAGE among the policies: the classes that serve users, fed with recorded outcomes.

Owns: the adapter, from queries to situations and from recorded scores to outcomes.
Must not know: rivals, splits, figures.

Models have no cards here (every prior is one half), cost nothing and are all loaded: trust alone is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sage.bench.policies import Mode, Queries, Query
from sage.bench.route_data import Floats
from sage.economy.context import Codebook
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook, TrustRow
from sage.types import ANY_KIND, Candidate, Message, Outcome, Situation

__all__ = ["SageExpectation", "SagePolicy", "book_of"]

PRIOR_STRENGTH = 10.0
"""As ``trust.prior_strength`` is by default."""

ORIGIN = "bench"

LIMITS = Limits(atp=math.inf, capacity=math.inf, memory_bytes=2**62, explore_atp=math.inf)

SITUATION = Situation(
    messages=(Message(role="user", content=""),),
    kind=ANY_KIND,
    prompt_tokens=0,
    max_tokens=1,
    session=ORIGIN,
)
"""The selector reads the context, not the words."""


class SagePolicy:
    """The selector with its dial at best quality; with bandit feedback it explores as it does in serving,
    without a limit on what that may cost."""

    name = "sage"
    modes: frozenset[Mode] = frozenset({"full", "bandit"})

    def __init__(self, models: Sequence[str], codebook: Codebook, random: np.random.Generator | None) -> None:
        self._pool = Pool([_candidate(name) for name in models])
        self._book = book_of(codebook)
        self._selector = Selector(hot_bonus=1.0, price_scale=1.0)
        self._random = random
        self._seen = 0

    def fit(self, queries: Queries, scores: Floats, /) -> None:
        """Every outcome at once: the book holds sums, so that they can be added up beforehand."""
        self._book = book_of(self._book.codebook, queries, scores, self._pool.names)
        self._seen = scores.size

    def choose(self, query: Query, /) -> int:
        """What the selector decides."""
        decision = self._selector.choose(
            SITUATION,
            query.context,
            self._pool,
            self._book,
            limits=LIMITS,
            now=float(self._seen),
            dial=1.0,
            random=self._random,
        )
        return self._pool.index[decision.chosen]

    def learn(self, query: Query, arm: int, quality: float, /) -> None:
        """One outcome of a verifier."""
        self._seen += 1
        event = f"{ORIGIN}-{self._seen}"
        outcome = Outcome(
            event_id=event,
            turn_id=event,
            candidate=self._pool.names[arm],
            kind=ANY_KIND,
            quality=quality,
            source="verifier",
            at=float(self._seen),
        )
        self._book.observe(outcome, query.context)

    def freeze(self) -> None:
        """No more exploring."""
        self._random = None


class SageExpectation:
    """What a trust book expects of every model: of quality, or of a price, which is read and shrunk the
    same way."""

    def __init__(self, models: Sequence[str], codebook: Codebook) -> None:
        self._models = tuple(models)
        self._book = book_of(codebook)
        self._unit = 1.0

    def fit(self, queries: Queries, scores: Floats, /) -> None:
        """``scores`` (queries, models), 0 or more; a book keeps shares of the largest."""
        self._unit = float(scores.max()) or 1.0
        self._prior = np.clip(scores.mean(0) / self._unit, 0.0, 1.0)
        self._book = book_of(self._book.codebook, queries, scores / self._unit, self._models)

    def estimate(self, queries: Queries, /) -> Floats:
        """(queries, models) expected values, in the unit of ``scores``."""
        nothing = np.zeros(len(self._models))
        rows = [
            self._book.beliefs(self._models, context, priors=self._prior, shifts=nothing, now=0.0).mean
            for context in queries.contexts
        ]
        return self._unit * np.stack(rows)


def book_of(
    codebook: Codebook,
    queries: Queries | None = None,
    scores: Floats | None = None,
    models: Sequence[str] = (),
) -> TrustBook:
    """A book that never forgets, and that has seen every model's outcome on these queries."""
    rows = []
    if queries is not None and scores is not None:
        member = np.zeros((len(queries), codebook.cells))
        for line, context in zip(member, queries.contexts, strict=True):
            line[context.cells] = context.membership
        sums, weights = scores.T @ member, member.sum(0)
        rows = [
            TrustRow(
                origin=ORIGIN,
                candidate=name,
                since=0.0,
                events=len(queries),
                at=0.0,
                total=float(len(queries)),
                sums=column,
                weights=weights.copy(),
            )
            for name, column in zip(models, sums, strict=True)
        ]
    return TrustBook(codebook, origin=ORIGIN, half_life=math.inf, prior_strength=PRIOR_STRENGTH, rows=rows)


def _candidate(name: str) -> Candidate:
    return Candidate(
        name=name,
        prior={},
        capabilities=SITUATION.needs,
        context_length=1,
        memory_bytes=0,
        resident=True,
        load_bytes=0,
        est_load_s=0.0,
        est_run_s=0.0,
    )
