"""What the history teaches everybody: a router, a price of answers, the best model, the best set.

Owns: the split of the questions, and the tables of who answers what. Must not know: memory, streams, figures.

All of it is learned from the history alone; what the router expects of the other questions is told from their
texts, what they take from the length of the question and the mean length of a model's answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sage.bench.arena import Arena, build_arena
from sage.bench.residency.contender import Sage
from sage.bench.residency.world import World
from sage.bench.route_data import Floats, Ints, Outcomes
from sage.bench.route_views import Views
from sage.bench.routers import Knn
from sage.bench.sage_policy import book_of
from sage.config import SelectorSettings
from sage.economy.permission import cheapness, price_scale_at, usual_scale

__all__ = ["SELECTOR", "Trained", "best_set", "train"]

SHARE_NEAR = 20
"""Neighbours of the router: one in so many of the history, 10 at least, at most what suits thousands."""

SELECTOR = SelectorSettings()
"""What a user gets who sets nothing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """``history`` and ``rest`` are rows. ``expected`` (questions, models): the router's estimates;
    ``run_s``, seconds that answers are expected to take; ``best``, the best model overall."""

    world: World
    arena: Arena
    history: Ints
    rest: Ints
    expected: Floats
    run_s: Floats
    best: int

    @property
    def routed(self) -> Ints:
        """(questions,) the model of which the router expects most."""
        return np.asarray(self.expected.argmax(1))

    @property
    def permitted(self) -> Floats:
        """(questions, models) expected quality x cheapness, as SAGE weighs them."""
        scale = price_scale_at(self.usual_scale, SELECTOR.dial)
        return np.asarray(self.expected * cheapness(self.run_s, scale=scale))

    @property
    def usual_scale(self) -> float:
        """The price scale of a new installation, ATP."""
        given = SELECTOR.price_scale
        return given if isinstance(given, float) else usual_scale(self.run_s.mean(0))

    def sage(self, name: str = "sage", *, dial: float = SELECTOR.dial) -> Sage:
        """SAGE as of the end of the history, with nothing loaded; without more, as a new installation."""
        world, queries = self.world, self.arena.train
        return Sage(
            world,
            self.history,
            self.arena.test.contexts,
            book_of(self.arena.codebook, queries, world.scores[self.history], [m.name for m in world.models]),
            dial=dial,
            price_scale=self.usual_scale,
            hot_bonus=SELECTOR.hot_bonus,
            name=name,
        )

    def thrifty(self) -> Ints:
        """(questions,) the model with the most permission, were all of them loaded."""
        return np.asarray(self.permitted.argmax(1))

    def within_best_set(self, budget: int) -> Ints:
        """(questions,) the same among the models of the one set that is best for the history."""
        kept = best_set(self.permitted[self.history], [m.bytes for m in self.world.models], budget)
        return np.asarray(np.array(kept)[self.permitted[:, kept].argmax(1)])


def train(world: World, views: Views, seed: int) -> Trained:
    """Draw half of the questions as history, and learn from it."""
    order = np.random.default_rng(seed).permutation(len(world.ids))
    history, rest = order[: len(order) // 2], np.sort(order[len(order) // 2 :])
    every = np.arange(len(order))
    arena = build_arena(_outcomes(world), views, history, every, first=None, seed=seed)
    router = Knn()
    router.NEIGHBOURS = min(Knn.NEIGHBOURS, max(10, len(history) // SHARE_NEAR))
    router.fit(arena.train, world.scores[history])
    return Trained(
        world=world,
        arena=arena,
        history=history,
        rest=rest,
        expected=router.estimate(arena.test),
        run_s=world.seconds(np.broadcast_to(world.tokens[history].mean(0), world.tokens.shape)),
        best=int(world.scores[history].mean(0).argmax()),
    )


def best_set(worth: Floats, sizes: Sequence[int], budget: int) -> list[int]:
    """The models that fit together in ``budget`` bytes and serve best, each question by the one that is worth
    most: ``worth`` (questions, models). Ascending.

    From every single model one is added, or exchanged for another, while that helps; the best end is taken.
    """

    def value(kept: list[int]) -> float:
        return float(worth[:, kept].max(1).sum())

    def steps(kept: Sequence[int]) -> list[list[int]]:
        others = [model for model in range(len(sizes)) if model not in kept]
        found = [[*kept, new] for new in others]
        found += [[*(k for k in kept if k != old), new] for old in kept for new in others]
        return [step for step in found if sum(sizes[model] for model in step) <= budget]

    ends = []
    for start in (model for model in range(len(sizes)) if sizes[model] <= budget):
        kept = [start]
        while (better := max([kept, *steps(kept)], key=value)) is not kept:
            kept = better
        ends.append(kept)
    best = max(ends, key=value)
    return sorted(best)


def _outcomes(world: World) -> Outcomes:
    """The world as the arena reads it."""
    return Outcomes(
        name=world.name,
        ids=world.ids,
        texts=world.texts,
        categories=world.categories,
        models=tuple(model.name for model in world.models),
        params_b=(None,) * len(world.models),
        scores=world.scores,
    )
