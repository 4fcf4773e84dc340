"""What a router is, for comparison: one protocol, and what a router may look at.

Owns: the protocol and its values. Must not know: how any policy chooses, how a benchmark splits its data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sage.bench.route_data import Floats
from sage.economy.context import Context

__all__ = ["Estimator", "Mode", "Policy", "Queries", "Query"]

Mode = Literal["full", "bandit"]
"""``full``: every model's outcome on every training question. ``bandit``: the chosen model's only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One question as a policy sees it.

    ``context``: its cells in SAGE's codebook. ``vector`` (width,): all views side by side, a unit row.
    ``features`` (25,): a constant and the first principal components of the vectors of the training texts.
    ``category`` is the true task: only the reference ``topic`` looks at it; ``id`` only the oracle.
    """

    id: str
    category: str
    context: Context
    vector: npt.NDArray[np.float32]
    features: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """Many questions, row by row; see :class:`Query`."""

    ids: Sequence[str]
    categories: Sequence[str]
    contexts: Sequence[Context]
    vectors: npt.NDArray[np.float32]
    features: Floats

    @classmethod
    def of(cls, query: Query) -> Queries:
        """One question as a batch of one."""
        return cls(
            ids=[query.id],
            categories=[query.category],
            contexts=[query.context],
            vectors=query.vector[None, :],
            features=query.features[None, :],
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Query]:
        for row in range(len(self)):
            yield Query(
                id=self.ids[row],
                category=self.categories[row],
                context=self.contexts[row],
                vector=self.vectors[row],
                features=self.features[row],
            )

    def part(self, rows: npt.NDArray[np.intp]) -> Queries:
        """Some of them, in that order."""
        return Queries(
            ids=[self.ids[row] for row in rows],
            categories=[self.categories[row] for row in rows],
            contexts=[self.contexts[row] for row in rows],
            vectors=self.vectors[rows],
            features=self.features[rows],
        )


class Policy(Protocol):
    """Chooses a model (a column number) for a question."""

    name: str
    modes: frozenset[Mode]

    def fit(self, queries: Queries, scores: Floats, /) -> None:
        """Learn from every outcome: ``scores`` (queries, models) in [0, 1]. Only in mode ``full``."""
        ...

    def choose(self, query: Query, /) -> int:
        """The model for this question."""
        ...

    def learn(self, query: Query, arm: int, quality: float, /) -> None:
        """The outcome of the choice just made. Only in mode ``bandit``."""
        ...

    def freeze(self) -> None:
        """From now on no exploring and no learning."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """Expects a value for every model: learns from a matrix, answers with a matrix."""

    def fit(self, queries: Queries, scores: Floats, /) -> None:
        """``scores`` (queries, models): quality, or a price."""
        ...

    def estimate(self, queries: Queries, /) -> Floats:
        """(queries, models) expected values."""
        ...
