"""How many requests it takes until trust knows a model.

Owns: the replay of measured outcomes into a trust book, and what counts as knowing.
Must not know: how outcomes were measured.

A model's measured outcomes come in random order, again and again, as if it answered everything and were
told. After each, its 90 % interval in every kind of work is read (the normal one around the mean of the
belief). The model is known when half the interval is at most 0.1 at the median kind; how many measured shares
of right answers then lie within their interval says whether the interval can be believed. A measured share of
16 answers is itself uncertain by up to 12 points, which is taken into account.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from sage.bench.report import spread
from sage.bench.sage_policy import book_of
from sage.bench.zoo.matrix import Matrix
from sage.economy.context import Codebook, Context
from sage.economy.pool import card_overall
from sage.types import ANY_KIND, Outcome
from sage.zoo.card import ModelCard

__all__ = ["HALF_WIDTH", "convergence"]

HALF_WIDTH = 0.1
Z = 1.645
"""Standard deviations of a normal distribution that hold 90 % of it."""

MOST = 2_000
"""Requests after which a replay gives up."""


def convergence(
    matrix: Matrix, card: ModelCard, codebook: Codebook, contexts: Sequence[Context], *, seeds: int
) -> dict[str, Any]:
    """Requests (median, lowest, highest over ``seeds`` orders; None where it never came) and the share of
    kinds whose measured quality lies in its interval then. ``contexts`` (Q,) of the matrix's questions."""
    column = matrix.names.index(card.name)
    scores = matrix.scores[:, column]
    kinds = list(dict.fromkeys(question.category for question in matrix.questions))
    rows = [matrix.rows_of(kind) for kind in kinds]
    runs = [_replay(card, codebook, contexts, scores, rows, seed) for seed in range(seeds)]
    known = [requests for requests, _ in runs if requests is not None]
    found = spread(known) if len(known) == seeds else None
    covered = [share for _, share in runs if share is not None]
    return {
        "model": card.name,
        "requests": found and round(found.median),
        "requests_low": found and found.low,
        "requests_high": found and found.high,
        "within_interval": round(float(np.mean(covered)), 3) if covered else None,
    }


def _replay(
    card: ModelCard,
    codebook: Codebook,
    contexts: Sequence[Context],
    scores: np.ndarray[Any, np.dtype[np.float64]],
    rows: Sequence[np.ndarray[Any, np.dtype[np.intp]]],
    seed: int,
) -> tuple[int | None, float | None]:
    book, draw = book_of(codebook), np.random.default_rng(seed)
    prior, shift = np.array([card_overall(card.prior)]), np.zeros(1)
    order: list[int] = []
    for request in range(1, MOST + 1):
        if not order:
            order = draw.permutation(len(scores)).tolist()
        number = order.pop()
        book.observe(
            Outcome(
                event_id=f"{seed}-{request}",
                turn_id=f"{seed}-{request}",
                candidate=card.name,
                kind=ANY_KIND,
                quality=float(scores[number]),
                source="verifier",
                at=float(request),
            ),
            contexts[number],
        )
        beliefs = [
            book.beliefs((card.name,), contexts[some[0]], priors=prior, shifts=shift, now=float(request))
            for some in rows
        ]
        if median(float(belief.sd[0]) for belief in beliefs) * Z <= HALF_WIDTH:
            inside = [
                _agrees(float(belief.mean[0]), float(belief.sd[0]), scores[some])
                for belief, some in zip(beliefs, rows, strict=True)
            ]
            return request, sum(inside) / len(inside)
    return None, None


def _agrees(mean: float, sd: float, seen: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """Whether a measured share and a belief differ by no more than both together leave open."""
    share = float(seen.mean())
    smooth = (float(seen.sum()) + 1.0) / (len(seen) + 2.0)
    error = math.sqrt(smooth * (1.0 - smooth) / len(seen))
    return abs(share - mean) <= Z * math.hypot(sd, error)
