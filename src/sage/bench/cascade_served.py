"""The cascade as it serves: trust from a book of trust, the weights that are shipped, no label as a mark.

Owns: what the serving kernel would believe of recorded questions. Must not know: how opinions are weighed, or
how a policy is played.

Beside :class:`sage.bench.cascade.Learned` it says what fitting anew, and knowing that answers are letters, is
worth. What serving has and a recorded data set lacks (doubt, schemas, a threshold of energy) is missing.
"""

from __future__ import annotations

import numpy as np

from sage.bench.cascade import Cascade, Questions, Recorded
from sage.bench.policies import Queries
from sage.bench.route_data import Floats, Ints
from sage.bench.sage_policy import SageExpectation
from sage.economy.context import Codebook
from sage.economy.evidence import Evidence
from sage.economy.opinions import DEFAULT_WEIGHTS, believe
from sage.kernel.weighing import ALIKE

__all__ = ["Served"]


class Served(Cascade):
    """Counters and a book of trust from the training questions, whose rows stand in ``queries`` in the same
    order. Trust in each half of the training questions is that of a book of the other half."""

    def __init__(self, train: Recorded, queries: Queries, codebook: Codebook, *, seed: int) -> None:
        self.weights = DEFAULT_WEIGHTS
        self._codebook = codebook
        self._seen, self._queries = train, queries
        self._who = np.arange(len(train.models))
        self._evidence = Evidence(train.models)
        known = np.ones(train.scores.shape, bool)
        self._evidence.observe(known, train.answers, train.scores, self._marks(train))
        trust = np.zeros_like(train.scores)
        mixed = np.random.default_rng(seed).permutation(len(trust))
        halves = mixed[::2], mixed[1::2]
        for part, other in (halves, halves[::-1]):
            trust[part] = self._trust(other, queries.part(part))
        self.train = self._ready(train, trust, train.scores)

    def new(self, test: Recorded, queries: Queries) -> Questions:
        """Questions that nothing was learned from; ``queries`` are the same, in the same order."""
        return self._ready(test, self._trust(np.arange(len(self._queries)), queries), None)

    def _trust(self, learned: Ints, asked: Queries) -> Floats:
        """Expected quality (queries, models) after the outcomes of some training questions."""
        book = SageExpectation(self._seen.models, self._codebook)
        book.fit(self._queries.part(learned), self._seen.scores[learned])
        return np.clip(book.estimate(asked), 0.0, 1.0)

    def _marks(self, data: Recorded) -> Ints:
        who = np.broadcast_to(self._who, data.answers.shape)
        marks: Ints = self._evidence.marks(who, data.answers, data.tokens)
        return marks

    def _ready(self, data: Recorded, trust: Floats, own: Floats | None) -> Questions:
        """``trust`` (Q, M); ``own``: outcomes to leave out. A call has no price but that of its ceiling."""
        evidence = self._evidence
        overall = (evidence.right + ALIKE * trust.mean(0)) / (evidence.asked + ALIKE)
        return Questions(
            data=data,
            beliefs=believe(evidence, trust, overall),
            shifts=evidence.shifts(self._who, self._marks(data), own),
            price=np.ones_like(trust),
        )
