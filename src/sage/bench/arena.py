"""What policies get to see for one split of a data set: contexts, vectors and principal components.

Owns: fitting of codebooks and components on training texts. Must not know: scores, policies.

With full information the codebook is fitted on all training texts; with bandit feedback on the first thousand
of the stream, which are read without outcomes: who starts on a new machine has no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sage.bench.policies import Queries
from sage.bench.route_data import Floats, Ints, Outcomes
from sage.bench.route_views import Views
from sage.economy.context import Codebook
from sage.memory.codebook import fit_codebook

__all__ = ["COMPONENTS", "FIRST_TEXTS", "Arena", "build_arena", "principal_components"]

FIRST_TEXTS = 1000
"""Texts of the stream that the codebook is fitted on in bandit mode."""

COMPONENTS = 24
"""Principal components that linear bandits see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """``train`` in the order of the stream, and ``test``."""

    seed: int
    codebook: Codebook
    train: Queries
    test: Queries


def build_arena(
    outcomes: Outcomes, views: Views, train: Ints, test: Ints, *, first: int | None, seed: int
) -> Arena:
    """``train`` and ``test`` are row numbers; ``first``: how many training texts the cells are fitted on."""
    known = train if first is None else train[:first]
    codebook = fit_codebook(views.part(known), seed=seed)
    queries = Queries(
        ids=outcomes.ids,
        categories=outcomes.categories,
        contexts=views.place(codebook),
        vectors=views.joined,
        features=principal_components(views.joined, train, seed=seed),
    )
    return Arena(
        seed=seed,
        codebook=codebook,
        train=queries.part(train),
        test=queries.part(test),
    )


def principal_components(vectors: npt.NDArray[np.float32], fitted_on: Ints, *, seed: int) -> Floats:
    """(texts, COMPONENTS + 1): unit rows of the first components, and a constant 1. By subspace iteration
    from a random start (Halko et al. 2011)."""
    mean = vectors[fitted_on].mean(0)
    known = vectors[fitted_on] - mean
    width = min(COMPONENTS, *known.shape)
    basis = np.random.default_rng(seed).standard_normal((known.shape[1], width + 8)).astype(np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(known.T @ (known @ basis))
    _, _, rotation = np.linalg.svd(known @ basis, full_matrices=False)
    components = (vectors - mean) @ (basis @ rotation[:width].T)
    components /= np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-9)
    return np.hstack([components, np.ones((len(vectors), 1))]).astype(np.float64)
