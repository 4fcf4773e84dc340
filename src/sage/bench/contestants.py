"""Who takes part in `sage bench route`.

Owns: the list of policies of each mode. Must not know: splits, figures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sage.bench.arena import FIRST_TEXTS, Arena
from sage.bench.bandits import EpsilonGreedy, LinUcb, SquareCb, Thompson
from sage.bench.policies import Mode, Policy
from sage.bench.route_data import Outcomes
from sage.bench.routers import BestSingle, Kmeans, Knn, Oracle, Random, Ridge, Topic
from sage.bench.sage_policy import SagePolicy
from sage.errors import BackendMissing

__all__ = ["contestants"]


def contestants(outcomes: Outcomes, arena: Arena, mode: Mode) -> tuple[list[Policy], list[str]]:
    """Fresh policies for one split, and notes on those that cannot run here."""
    models = len(outcomes.models)
    best = dict(zip(outcomes.ids, outcomes.scores.argmax(1).tolist(), strict=True))

    def random(stream: int) -> np.random.Generator:
        return np.random.default_rng([arena.seed, stream])

    makers: list[Callable[[], Policy]]
    if mode == "full":
        makers = [
            lambda: Random(models, random(0)),
            BestSingle,
            Topic,
            lambda: Oracle(best),
            Knn,
            lambda: Kmeans(arena.seed),
            Ridge,
            lambda: SagePolicy(outcomes.models, arena.codebook, None),
        ]
    else:
        makers = [
            lambda: Random(models, random(0)),
            lambda: Thompson(models, random(1)),
            lambda: EpsilonGreedy(models, arena.train.vectors[:FIRST_TEXTS], random(2), seed=arena.seed),
            lambda: LinUcb(models, arena.codebook.cells),
            lambda: SquareCb(models, seed=arena.seed),
            lambda: SagePolicy(outcomes.models, arena.codebook, random(3)),
        ]
    policies, notes = [], []
    for make in makers:
        try:
            policies.append(make())
        except BackendMissing as missing:
            notes.append(f"left out: {missing.message}")
    return policies, notes
