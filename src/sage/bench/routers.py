"""Reference lines, and the classic routers trained on every model's outcomes.

Owns: random, best single, perfect topic label, oracle; nearest neighbours, clusters, ridge regression.
Must not know: how a benchmark splits its data, or what SAGE does.

The settings of the routers were chosen by cross-validation on the development sets, one for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from sage.bench.policies import Mode, Queries, Query
from sage.bench.route_data import Floats
from sage.economy.context import fit_centroids

__all__ = ["BestSingle", "Fitted", "Kmeans", "Knn", "Oracle", "Random", "Ridge", "Static", "Topic"]


class Static:
    """A policy that learns nothing from single outcomes."""

    modes: frozenset[Mode] = frozenset({"full"})

    def fit(self, queries: Queries, scores: Floats) -> None:
        """Nothing to learn."""

    def learn(self, query: Query, arm: int, quality: float) -> None:
        """Nothing to learn."""

    def freeze(self) -> None:
        """Nothing changes."""


class Random(Static):
    """Each model as often as any other."""

    name = "random"
    modes: frozenset[Mode] = frozenset({"full", "bandit"})

    def __init__(self, models: int, random: np.random.Generator) -> None:
        self._models, self._random = models, random

    def choose(self, _query: Query) -> int:
        """Any model."""
        return int(self._random.integers(self._models))


class Fitted(Static, ABC):
    """Chooses what it expects most of."""

    @abstractmethod
    def estimate(self, queries: Queries) -> Floats:
        """(queries, models) expected values."""

    def choose(self, query: Query) -> int:
        """The model with the highest expected value; the first of several."""
        return int(self.estimate(Queries.of(query))[0].argmax())


class BestSingle(Fitted):
    """The model with the best mean over the training questions, for everything."""

    name = "best_single"

    def fit(self, _queries: Queries, scores: Floats) -> None:
        """Mean of each model."""
        self._mean = scores.mean(0)

    def estimate(self, queries: Queries) -> Floats:
        """The same for every question."""
        return np.tile(self._mean, (len(queries), 1))


class Topic(Fitted):
    """A reference, not a rival: it is told the true task of each question. Means shrink to the overall ones;
    an unseen task gets these."""

    name = "topic"
    STRENGTH = 5.0

    def fit(self, queries: Queries, scores: Floats) -> None:
        """Mean of each model in each task."""
        self._mean = scores.mean(0)
        tasks = np.array(queries.categories)
        self._of: Mapping[str, Floats] = {
            task: (scores[tasks == task].sum(0) + self.STRENGTH * self._mean)
            / ((tasks == task).sum() + self.STRENGTH)
            for task in np.unique(tasks)
        }

    def estimate(self, queries: Queries) -> Floats:
        """Means of the question's task."""
        return np.stack([self._of.get(task, self._mean) for task in queries.categories])


class Oracle(Static):
    """A reference, not a rival: it is told the outcomes. Of equally good models the first one named best."""

    name = "oracle"

    def __init__(self, best: Mapping[str, int]) -> None:
        self._best = best

    def choose(self, query: Query) -> int:
        """The model that turned out best."""
        return self._best[query.id]


class Knn(Fitted):
    """Mean outcome of the nearest training questions (by cosine): what tuned routers hardly beat
    (arXiv 2505.12601)."""

    name = "knn"
    NEIGHBOURS = 200

    def fit(self, queries: Queries, scores: Floats) -> None:
        """Remember everything."""
        self._vectors, self._scores = queries.vectors, scores

    def estimate(self, queries: Queries) -> Floats:
        """Mean over the neighbours."""
        count = min(self.NEIGHBOURS, len(self._scores))
        found = []
        for vectors in _in_rows(queries.vectors, 512):
            cosine = vectors @ self._vectors.T
            near = np.argpartition(cosine, -count, axis=1)[:, -count:]
            found.append(self._scores[near].mean(1))
        return np.concatenate(found)


class Kmeans(Fitted):
    """Mean outcome of the training questions of the same cluster, as in Avengers (arXiv 2505.19797): clusters
    of embeddings, the best model of each. Means shrink to the overall ones."""

    name = "kmeans"
    CLUSTERS = 16
    STRENGTH = 10.0

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, queries: Queries, scores: Floats) -> None:
        """Clusters, and the mean of each model in each."""
        self._centroids = fit_centroids(queries.vectors, self.CLUSTERS, seed=self._seed)
        own = (queries.vectors @ self._centroids.T).argmax(1)
        size = np.bincount(own, minlength=len(self._centroids))[:, None]
        sums = np.zeros((len(self._centroids), scores.shape[1]))
        np.add.at(sums, own, scores)
        self._means = (sums + self.STRENGTH * scores.mean(0)) / (size + self.STRENGTH)

    def estimate(self, queries: Queries) -> Floats:
        """Means of the nearest cluster."""
        nearest = (queries.vectors @ self._centroids.T).argmax(1)
        means: Floats = self._means[nearest]
        return means


class Ridge(Fitted):
    """A ridge regression of each model's outcomes on the vector, in closed form; the constant is not
    penalised."""

    name = "ridge"
    PENALTY = 30.0

    def fit(self, queries: Queries, scores: Floats) -> None:
        """Solve for the slopes (width, models) around the means."""
        self._centre, self._mean = queries.vectors.mean(0), scores.mean(0)
        vectors = queries.vectors - self._centre
        penalty = self.PENALTY * np.eye(vectors.shape[1])
        self._slopes = np.linalg.solve(vectors.T @ vectors + penalty, vectors.T @ (scores - self._mean))

    def estimate(self, queries: Queries) -> Floats:
        """The line of each model at the question's vector."""
        estimates: Floats = self._mean + (queries.vectors - self._centre) @ self._slopes
        return estimates


def _in_rows(array: npt.NDArray[np.float32], size: int) -> Iterator[npt.NDArray[np.float32]]:
    """Pieces of at most ``size`` rows, so that products stay small in memory."""
    for start in range(0, len(array), size):
        yield array[start : start + size]
