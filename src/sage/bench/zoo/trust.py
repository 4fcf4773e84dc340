"""How many requests it takes until trust knows a model, and whether its intervals can be believed.

Owns: the replay of measured outcomes into a trust book, and what counts as knowing.
Must not know: how outcomes were measured.

Questions are drawn at random, with replacement, as if the model answered each and were told: what is measured
is the whole of such work, and what a draw has seen of it a sample. The model is known when half the 90 %
interval (the normal one around the mean of the belief) is at most 0.1 at the median kind of work, as
``sage trust show`` tells it. Then every interval is held against the truth, which here is known:

  kinds   the belief about a kind of work; the share right among all questions of the kind
  texts   the belief about one question, which choices are made by; the share right among its like
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from sage.bench.report import spread
from sage.bench.sage_policy import book_of
from sage.bench.zoo.matrix import Matrix
from sage.economy.context import Codebook, Context
from sage.economy.pool import card_overall, card_shift
from sage.kernel.sense import KINDS
from sage.types import Outcome, Situation
from sage.zoo.card import ModelCard

__all__ = ["HALF_WIDTH", "convergence"]

HALF_WIDTH = 0.1
Z = 1.645
"""Standard deviations of a normal distribution that hold 90 % of it."""

MOST = 2_000
"""Requests after which a replay gives up."""


def convergence(
    matrix: Matrix,
    card: ModelCard,
    codebook: Codebook,
    situations: Sequence[Situation],
    contexts: Sequence[Context],
    *,
    seeds: int,
) -> dict[str, Any]:
    """Requests (median, lowest, highest over ``seeds`` streams; None where it never came) and the shares of
    kinds and of texts whose quality lies in its interval then. ``situations`` and ``contexts`` (Q,) are those
    of the matrix's questions."""
    runs = [_Replay(matrix, card, codebook, situations, contexts).run(seed) for seed in range(seeds)]
    known = [requests for requests, _, _ in runs if requests is not None]
    found = spread(known) if len(known) == seeds else None
    return {
        "model": card.name,
        "requests": found and round(found.median),
        "requests_low": found and found.low,
        "requests_high": found and found.high,
        "kinds_within_interval": round(float(np.mean([kinds for _, kinds, _ in runs])), 3),
        "texts_within_interval": round(float(np.mean([texts for _, _, texts in runs])), 3),
    }


class _Replay:
    """One model's stream of outcomes."""

    def __init__(
        self,
        matrix: Matrix,
        card: ModelCard,
        codebook: Codebook,
        situations: Sequence[Situation],
        contexts: Sequence[Context],
    ) -> None:
        self._card, self._contexts = card, contexts
        self._scores = matrix.scores[:, matrix.names.index(card.name)]
        self._kinds = [situation.kind for situation in situations]
        self._places = {
            kind: codebook.alone("kind", KINDS.index(kind)) for kind in dict.fromkeys(self._kinds)
        }
        self._like = [question.category for question in matrix.questions]
        self._book = book_of(codebook)

    def run(self, seed: int) -> tuple[int | None, float, float]:
        """Requests until it was known, and the shares of kinds and texts within their intervals then."""
        draw, known = np.random.default_rng(seed), None
        for request in range(1, MOST + 1):
            self._learn(int(draw.integers(len(self._scores))), f"{seed}-{request}", float(request))
            beliefs = [self._belief(kind, place) for kind, place in self._places.items()]
            if median(sd for _, sd in beliefs) * Z <= HALF_WIDTH:
                known = request
                break
        kinds = _within(beliefs, self._shares(self._kinds, list(self._places)))
        texts = [self._belief(kind, at) for kind, at in zip(self._kinds, self._contexts, strict=True)]
        return known, kinds, _within(texts, self._shares(self._like, self._like))

    def _learn(self, number: int, event: str, at: float) -> None:
        kind = self._kinds[number]
        outcome = Outcome(
            event_id=event,
            turn_id=event,
            candidate=self._card.name,
            kind=kind,
            quality=float(self._scores[number]),
            source="verifier",
            at=at,
            shift=card_shift(self._card.prior, kind),
        )
        self._book.observe(outcome, self._contexts[number])

    def _belief(self, kind: str, place: Context) -> tuple[float, float]:
        """Mean and standard deviation."""
        prior = self._card.prior
        held = self._book.beliefs(
            (self._card.name,),
            place,
            priors=np.array([card_overall(prior)]),
            shifts=np.array([card_shift(prior, kind)]),
            now=0.0,
        )
        return float(held.mean[0]), float(held.sd[0])

    def _shares(self, labels: Sequence[str], asked: Sequence[str]) -> list[float]:
        """The share right among the questions of each label that is asked for."""
        every = np.array(labels)
        share = {label: float(self._scores[every == label].mean()) for label in dict.fromkeys(labels)}
        return [share[label] for label in asked]


def _within(beliefs: Sequence[tuple[float, float]], truth: Sequence[float]) -> float:
    """How many of the truths lie in their 90 % interval, as a share."""
    return float(
        np.mean([abs(mean - share) <= Z * sd for (mean, sd), share in zip(beliefs, truth, strict=True)])
    )
