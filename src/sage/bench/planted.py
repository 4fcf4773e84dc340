"""Worlds whose truth is known: streams of questions with a topic, and models whose quality was planted.

Owns: making them, and running a policy through one. Must not know: any policy, or what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sage.bench.policies import Policy, Queries
from sage.bench.route_data import Floats, Ints
from sage.economy.context import Codebook, View, fit_centroids

__all__ = ["World", "plant", "run"]

WIDTH = 24
"""Numbers of a question's vector."""

NOISE = 0.12
"""Standard deviation of each number of the vector around its topic, which has length 1: a cosine of about
0.86 with its own topic, and about 0 with the others."""

FIRST_TEXTS = 500
"""Questions the codebook is fitted on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """``queries``: the stream; ``quality`` (requests, models): the chance of a right answer at each request;
    ``luck`` (requests,): an answer is right where its quality is above the luck of the request. The
    categories of the queries are the true topics; the codebook, fitted on vectors, does not know them."""

    queries: Queries
    codebook: Codebook
    quality: Floats
    luck: Floats

    @property
    def models(self) -> int:
        """How many there are."""
        return len(self.quality[0])


def plant(quality: Floats, *, requests: int, seed: int) -> World:
    """A stream over the topics of ``quality`` (models, topics), each as often as any other."""
    random = np.random.default_rng([seed, 1])
    count = quality.shape[1]
    centres, _ = np.linalg.qr(random.standard_normal((max(WIDTH, count), max(WIDTH, count))))
    topics = random.integers(count, size=requests)
    vectors = centres[topics] + NOISE * random.standard_normal((requests, centres.shape[1]))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    cells = fit_centroids(vectors[:FIRST_TEXTS], 2 * count, seed=seed)
    codebook = Codebook([View(name="text", weight=1.0, size=len(cells), centroids=cells)])
    queries = Queries(
        ids=[str(number) for number in range(requests)],
        categories=[f"topic {topic}" for topic in topics],
        contexts=codebook.place_all({"text": vectors}, {}),
        vectors=vectors,
        features=np.hstack([vectors.astype(np.float64), np.ones((requests, 1))]),
    )
    return World(
        queries=queries,
        codebook=codebook,
        quality=quality.T[topics],
        luck=random.random(requests),
    )


def run(policy: Policy, world: World) -> Ints:
    """(requests,) who was chosen; the policy learns the outcome of each choice, and of no other."""
    chosen = np.empty(len(world.queries), np.intp)
    for number, query in enumerate(world.queries):
        arm = policy.choose(query)
        chosen[number] = arm
        policy.learn(query, arm, float(world.luck[number] < world.quality[number, arm]))
    return chosen
