"""Rivals that learn from the chosen model's outcome alone.

Owns: Thompson sampling, epsilon-greedy, LinUCB, and SquareCB as Vowpal Wabbit makes it.
Must not know: how a benchmark splits its data, or what SAGE does.

Their settings were chosen by cross-validation on the development sets, one setting for all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sage.bench.policies import Mode, Queries, Query
from sage.bench.route_data import Floats
from sage.economy.context import Context, fit_centroids
from sage.errors import BackendMissing

__all__ = ["Bandit", "EpsilonGreedy", "LinUcb", "SquareCb", "Thompson"]


class Bandit:
    """A policy that learns from one outcome at a time."""

    modes: frozenset[Mode] = frozenset({"bandit"})
    frozen = False

    def fit(self, queries: Queries, scores: Floats) -> None:
        """Nothing: it learns from what it chose, one outcome at a time."""

    def freeze(self) -> None:
        """From now on the best expected model, no exploring."""
        self.frozen = True


class Thompson(Bandit):
    """Thompson sampling with one Beta posterior a model and no context. A fractional quality
    counts as a fraction of a success."""

    name = "thompson"

    def __init__(self, models: int, random: np.random.Generator) -> None:
        self._good, self._bad = np.ones(models), np.ones(models)
        self._random = random

    def choose(self, _query: Query) -> int:
        """The highest draw; frozen, the highest mean."""
        if self.frozen:
            return int((self._good / (self._good + self._bad)).argmax())
        return int(self._random.beta(self._good, self._bad).argmax())

    def learn(self, _query: Query, arm: int, quality: float) -> None:
        """Count it."""
        self._good[arm] += quality
        self._bad[arm] += 1.0 - quality


class EpsilonGreedy(Bandit):
    """The best mean so far in the question's cluster, in one case of ten any model. Means of a cluster shrink
    to the model's own overall mean, which starts at one half."""

    name = "epsilon_greedy"
    EPSILON = 0.1
    CLUSTERS = 32
    STRENGTH = 10.0

    def __init__(
        self, models: int, texts: npt.NDArray[np.float32], random: np.random.Generator, *, seed: int
    ) -> None:
        """``texts`` (n, width): the vectors that clusters are fitted on."""
        self._centroids, self._random = fit_centroids(texts, self.CLUSTERS, seed=seed), random
        self._sum, self._count = np.zeros((2, len(self._centroids), models))
        self._all, self._times = np.full(models, 0.5), np.ones(models)

    def choose(self, query: Query) -> int:
        """The best in this cluster, or any."""
        if not self.frozen and self._random.random() < self.EPSILON:
            return int(self._random.integers(len(self._all)))
        own = self._cluster(query)
        overall = self._all / self._times
        shrunk = (self._sum[own] + self.STRENGTH * overall) / (self._count[own] + self.STRENGTH)
        return int(shrunk.argmax())

    def learn(self, query: Query, arm: int, quality: float) -> None:
        """Add to the means."""
        own = self._cluster(query)
        self._sum[own, arm] += quality
        self._count[own, arm] += 1.0
        self._all[arm] += quality
        self._times[arm] += 1.0

    def _cluster(self, query: Query) -> int:
        return int((self._centroids @ query.vector).argmax())


class LinUcb(Bandit):
    """Disjoint LinUCB (Li et al. 2010): a ridge regression for each model, and a bonus of ``ALPHA`` standard
    deviations. It sees how much of a question lies in each cell of the codebook, and a constant. What it
    regresses is quality less difficulty: the mean quality of whoever was chosen in these cells before."""

    name = "linucb"
    ALPHA = 0.4
    STRENGTH = 10.0
    """Outcomes that the mean over all counts for in each cell, and that one half counts for in that."""

    def __init__(self, models: int, cells: int) -> None:
        """``cells``: how many the codebook has."""
        self._inverse = np.tile(np.eye(cells + 1), (models, 1, 1))
        self._theta = np.zeros((models, cells + 1))
        self._sum, self._count = np.zeros((2, cells))
        self._all, self._times = 0.5 * self.STRENGTH, self.STRENGTH

    def choose(self, query: Query) -> int:
        """The highest upper bound; frozen, the highest mean."""
        at, x = self._features(query)
        mean = self._theta[:, at] @ x
        if self.frozen:
            return int(mean.argmax())
        inverse = self._inverse[:, at[:, None], at]
        variance = np.einsum("mij,i,j->m", inverse, x, x, optimize=False)
        return int((mean + self.ALPHA * np.sqrt(np.maximum(variance, 0.0))).argmax())

    def learn(self, query: Query, arm: int, quality: float) -> None:
        """One step of recursive least squares (Sherman and Morrison)."""
        at, x = self._features(query)
        target = quality - self._difficulty(query.context, quality)
        row = self._inverse[arm][:, at] @ x
        gain = row / (1.0 + x @ row[at])
        self._theta[arm] += gain * (target - self._theta[arm, at] @ x)
        self._inverse[arm] -= np.outer(gain, row)

    def _features(self, query: Query) -> tuple[npt.NDArray[np.intp], Floats]:
        """Places that are not 0, the constant last, and what stands there."""
        context = query.context
        return np.append(context.cells, len(self._sum)), np.append(context.weight, 1.0)

    def _difficulty(self, context: Context, quality: float) -> float:
        """The mean quality that was to be expected of anybody, before this outcome is counted."""
        cells, mean = context.cells, self._all / self._times
        expected = (self._sum[cells] + self.STRENGTH * mean) / (self._count[cells] + self.STRENGTH)
        self._sum[cells] += quality * context.membership
        self._count[cells] += context.membership
        self._all, self._times = self._all + quality, self._times + 1.0
        return float(context.weight @ expected)


class SquareCb(Bandit):
    """SquareCB (Foster and Rakhlin 2020) as Vowpal Wabbit implements it, on the principal components of the
    vectors.

    Raises:
        BackendMissing: vowpalwabbit is not installed.
    """

    name = "squarecb"
    SETTINGS = "--cb_explore_adf --squarecb --cb_type mtr --interactions xa --gamma_scale 1000"

    def __init__(self, models: int, *, seed: int) -> None:
        try:
            import vowpalwabbit
        except ImportError:
            raise BackendMissing(
                "squarecb needs Vowpal Wabbit.", mend="pip install 'sage-kernel[bench]'"
            ) from None
        self._random = np.random.default_rng(seed)
        self._actions = [f"|a m{number}" for number in range(models)]
        self._vw: Any = vowpalwabbit.Workspace(f"{self.SETTINGS} --quiet --random_seed {seed}")
        self._odds = np.ones(models) / models

    def choose(self, query: Query) -> int:
        """A draw from Vowpal Wabbit's distribution; frozen, its most likely model."""
        self._shared = "shared |x " + " ".join(f"{i}:{v:.5f}" for i, v in enumerate(query.features))
        odds = np.array(self._vw.predict([self._shared, *self._actions]))
        self._odds = odds / odds.sum()
        return int(self._odds.argmax() if self.frozen else self._random.choice(len(odds), p=self._odds))

    def learn(self, _query: Query, arm: int, quality: float) -> None:
        """Tell it the cost, 1 - quality, and how likely the choice was."""
        lines = [self._shared, *self._actions]
        lines[arm + 1] = f"0:{1.0 - quality:.5f}:{self._odds[arm]:.5f} {lines[arm + 1]}"
        self._vw.learn(lines)
