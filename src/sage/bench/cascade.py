"""The cascade on recorded outcomes: ask, weigh what was answered, ask another if it is worth it.

Owns: what a cascade may see of a data set (answers and lengths that it paid for), learning from the training
part, playing a policy over many questions, and a price of one call that keeps a ceiling on mean calls.
Must not know: how opinions are weighed (that is :mod:`sage.economy.opinions`, the code that serves).

Training rows are read with their own outcome left out, so that price and weights are chosen on beliefs like
those of new questions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sage.bench.route_data import Floats, Ints, Outcomes
from sage.economy.context import Context
from sage.economy.evidence import Evidence, sigmoid
from sage.economy.opinions import Beliefs, Opinions, Weights, believe, fit_weights

__all__ = [
    "CEILINGS",
    "Cascade",
    "Learned",
    "Played",
    "Policy",
    "Questions",
    "Recorded",
    "alpha_for",
    "at_ceilings",
    "fit_on",
    "record",
]

CEILINGS = (1.5, 2.0, 3.0, 5.0)
"""Mean calls a question may cost."""

CELL_STRENGTH = 20.0
"""Outcomes that a candidate's overall quality counts for in each cell. 10 to 50 make no difference that can
be told from noise."""

LOWEST, HIGHEST, HALVINGS = -0.02, 0.2, 10
"""Prices of a call that are searched, in units of gain. The gain looks one step ahead, so that with calls to
spare even a small loss is worth it."""

MOST = 9
"""Opinions on one question, and so the most groups of answers."""

FIRST_OPINIONS = 8
"""Opinions, in order of trust, that the weights are fitted on."""

SAMPLE = 2500
"""Training questions that prices are chosen on."""

TIMED = 100
"""Questions that are decided one by one for the time of a decision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """Questions with the outcome of every model: Q questions, M models.

    ``answers`` (Q, M) group of each answer, -1 none; ``price`` (Q, M), NaN where unknown; the cells of each
    question as (Q, n) arrays, see :class:`sage.economy.context.Context`.
    """

    models: tuple[str, ...]
    categories: tuple[str, ...]
    scores: Floats
    answers: Ints
    tokens: Floats
    price: Floats
    cells: Ints
    membership: Floats
    weight: Floats

    def models_at(self, columns: Ints) -> Recorded:
        """Some of the models."""
        return replace(
            self,
            models=tuple(self.models[column] for column in columns),
            scores=self.scores[:, columns],
            answers=self.answers[:, columns],
            tokens=self.tokens[:, columns],
            price=self.price[:, columns],
        )


def record(outcomes: Outcomes, contexts: Sequence[Context], rows: Ints) -> Recorded | None:
    """The questions ``rows`` of a data set, ``contexts`` being theirs in the same order; None where answers
    or lengths were not recorded, or only one model was: there is nothing to cascade."""
    if outcomes.answers is None or outcomes.tokens is None or len(outcomes.models) < 2:
        return None
    price = outcomes.price
    return Recorded(
        models=outcomes.models,
        categories=tuple(outcomes.categories[row] for row in rows),
        scores=outcomes.scores[rows],
        answers=outcomes.answers[rows],
        tokens=outcomes.tokens[rows],
        price=np.full((len(rows), len(outcomes.models)), np.nan) if price is None else price[rows],
        cells=np.stack([context.cells for context in contexts]),
        membership=np.stack([context.membership for context in contexts]),
        weight=np.stack([context.weight for context in contexts]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """``first``: what a unit of price counts in quality when the first model is chosen; ``further``: what it
    counts in gain when another is; inf never asks another."""

    first: float
    further: float
    alpha: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """For each question: score of the answer returned, calls, and price paid."""

    score: Floats
    calls: Floats
    price: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Questions:
    """Recorded questions with what is believed before anyone is asked: trust, and the price of each call; and
    what the marks of an answer will add once it is paid for."""

    data: Recorded
    beliefs: Beliefs
    shifts: Floats
    price: Floats

    def sample(self, seed: int) -> Questions:
        """At most SAMPLE of them."""
        many = len(self.shifts)
        if many <= SAMPLE:
            return self
        return self.part(np.sort(np.random.default_rng(seed).choice(many, SAMPLE, replace=False)))

    def part(self, rows: Ints) -> Questions:
        """Some of them."""
        return Questions(
            data=_part(self.data, rows),
            beliefs=replace(self.beliefs, context=self.beliefs.context[rows]),
            shifts=self.shifts[rows],
            price=self.price[rows],
        )


class Cascade:
    """Asks, weighs and asks another with the weights that it has; ``train``: what is believed of the training
    questions, where a price of calls is chosen."""

    train: Questions
    weights: Weights

    def alpha(self, _ceiling: float) -> float:
        """How far to look ahead under a ceiling on mean calls."""
        return self.weights.alpha

    def play(self, ready: Questions, policy: Policy, price: Floats | None = None) -> Played:
        """Play a policy over all questions; ``price`` (Q, M) of each call, by default what is expected."""
        price = ready.price if price is None else price
        data, weights = ready.data, replace(self.weights, alpha=policy.alpha)
        rows = np.arange(len(data.scores))
        opinions = Opinions(ready.beliefs, MOST)
        paid = np.zeros(len(rows))
        slots = _Slots(data.answers)
        asked = (sigmoid(opinions.trust) - policy.first * price).argmax(1)
        for _ in range(MOST):
            opinions.hear(rows, asked, slots.of(rows, asked), ready.shifts[rows, asked])
            paid[rows] += data.price[rows, asked]
            if policy.further == np.inf or opinions.asked.all():
                break
            asked = opinions.next_opinion(weights, policy.further * price[rows], rows)
            rows, asked = rows[asked >= 0], asked[asked >= 0]
            if len(rows) == 0:
                break
        speaker = opinions.answer(weights)
        score = np.where(speaker >= 0, data.scores[np.arange(len(speaker)), speaker], 0.0)
        return Played(score=score, calls=opinions.heard, price=paid)

    def seconds(self, test: Questions) -> list[float]:
        """Times of decisions (weigh, and whom to ask next) of one question at a time."""
        price, row = np.full(len(test.data.models), 0.001), np.zeros(1, np.intp)
        times = []
        for number in range(min(TIMED, len(test.shifts))):
            one = test.part(np.array([number]))
            opinions = Opinions(one.beliefs, MOST)
            asked = opinions.trust.argmax(1)
            slots = _Slots(one.data.answers)
            for _ in range(3):
                opinions.hear(row, asked, slots.of(row, asked), one.shifts[row, asked])
                began = time.perf_counter()
                asked = opinions.next_opinion(self.weights, price)
                times.append(time.perf_counter() - began)
                if asked[0] < 0:
                    break
        return times


class Learned(Cascade):
    """What the training questions have taught: counters, quality and price in each cell, weights. Which
    option was chosen is a mark of an answer."""

    def __init__(self, train: Recorded) -> None:
        self._who = np.arange(len(train.models))
        self.evidence = Evidence(train.models)
        self.evidence.observe(
            np.ones(train.scores.shape, bool), train.answers, train.scores, self._marks(train)
        )
        self._quality = _Cells(train, train.scores, self.evidence.overall())
        self._price = _Cells(train, train.price, train.price.mean(0))
        self.train = self._ready(train, train.scores, train.price)
        self.weights = fit_on(self.train)

    def new(self, test: Recorded) -> Questions:
        """Questions that nothing was learned from."""
        return self._ready(test, None, None)

    def alpha(self, ceiling: float) -> float:
        """See :func:`alpha_for`."""
        return alpha_for(ceiling)

    def _marks(self, data: Recorded) -> Ints:
        who = np.broadcast_to(self._who, data.answers.shape)
        marks: Ints = self.evidence.marks(who, data.answers, data.tokens, labels=data.answers)
        return marks

    def _ready(self, data: Recorded, own: Floats | None, own_price: Floats | None) -> Questions:
        return Questions(
            data=data,
            beliefs=believe(self.evidence, self._quality.read(data, own)),
            shifts=self.evidence.shifts(self._who, self._marks(data), own),
            price=self._price.read(data, own_price),
        )


def fit_on(ready: Questions) -> Weights:
    """Weights from questions with their outcomes, on the first opinions in order of trust."""
    data, opinions = ready.data, Opinions(ready.beliefs, MOST)
    rows = np.arange(len(data.scores))
    order = np.argsort(-opinions.trust, 1)
    slots = _Slots(data.answers)
    designs, there, right = [], [], []
    for asked in order.T[:FIRST_OPINIONS]:
        opinions.hear(rows, asked, slots.of(rows, asked), ready.shifts[rows, asked])
        design, full = opinions.design(rows)
        designs.append(design)
        there.append(full)
        right.append(_right(data, opinions.asked, slots.slots))
    return fit_weights(
        np.concatenate(designs), np.concatenate(there), np.concatenate(right), alpha=alpha_for(3.0)
    )


def at_ceilings(
    learned: Cascade, test: Questions, ceilings: Sequence[float], *, seed: int
) -> dict[float, Played]:
    """What the cascade did on the test questions under each ceiling on mean calls.

    The price of a call is chosen on a sample of the training questions, for a ceiling lowered by two standard
    errors of both means: it has to hold on questions nobody has seen.
    """
    ready = learned.train.sample(seed)
    ones = np.ones_like(ready.price)
    chosen = {}
    for ceiling in ceilings:
        low, high = LOWEST, HIGHEST
        for _ in range(HALVINGS):
            policy = Policy(first=0.0, further=(low + high) / 2.0, alpha=learned.alpha(ceiling))
            calls = learned.play(ready, policy, ones).calls
            slack = 2.0 * calls.std() * (1.0 / len(ready.shifts) + 1.0 / len(test.shifts)) ** 0.5
            if calls.mean() + slack > ceiling:
                low = policy.further
            else:
                high = policy.further
        policy = Policy(first=0.0, further=high, alpha=learned.alpha(ceiling))
        chosen[ceiling] = learned.play(test, policy, np.ones_like(test.price))
    return chosen


def alpha_for(ceiling: float) -> float:
    """How far to look ahead when about ``ceiling`` calls may be made: with few, the next must settle it; with
    many, opinions that each move the odds a little are worth having."""
    return 1.0 + 2.0 / ceiling


class _Cells:
    """Means (M,) of a value in each cell, shrunk to the mean over all."""

    def __init__(self, train: Recorded, values: Floats, overall: Floats) -> None:
        cells = int(train.cells.max()) + 1
        self._overall = overall
        self._count = np.bincount(train.cells.ravel(), train.membership.ravel(), minlength=cells)
        self._sum = np.zeros((cells, len(overall)))
        for at, share in zip(train.cells.T, train.membership.T, strict=True):
            np.add.at(self._sum, at, share[:, None] * values)

    def read(self, data: Recorded, own: Floats | None) -> Floats:
        """(Q, M) means over the cells of each question, without its own value where it is among them."""
        mean = np.zeros((len(data.cells), len(self._overall)))
        start = CELL_STRENGTH * self._overall
        for at, share, weight in zip(data.cells.T, data.membership.T, data.weight.T, strict=True):
            known = at < len(self._count)
            at = np.where(known, at, 0)
            total = np.where(known[:, None], self._sum[at], 0.0) + start
            count = np.where(known, self._count[at], 0.0) + CELL_STRENGTH
            if own is not None:
                total, count = total - share[:, None] * own, count - share
            mean += weight[:, None] * total / count[:, None]
        return mean


class _Slots:
    """Numbers the answers to each question as they appear."""

    def __init__(self, answers: Ints) -> None:
        self._answers = answers
        self._many = np.zeros(len(answers), np.intp)
        self.slots = np.full((len(answers), int(answers.max(initial=0)) + 1), -1)
        """(Q, answers) number of each answer, -1 before it is given."""

    def of(self, rows: Ints, models: Ints) -> Ints:
        """Numbers (r,) of the answers of ``models`` to the questions ``rows``, distinct; -1 for none."""
        answer = self._answers[rows, models]
        new = (answer >= 0) & (self.slots[rows, answer] < 0)
        self.slots[rows[new], answer[new]] = self._many[rows[new]]
        self._many[rows[new]] += 1
        return np.where(answer >= 0, self.slots[rows, answer], -1)


def _right(data: Recorded, asked: npt.NDArray[np.bool_], slots: Ints) -> Floats:
    """(Q, MOST + 1) one-hot: the group with a right answer among those asked, last if there is none."""
    right = np.zeros((len(asked), MOST + 1))
    row, model = np.nonzero(asked & (data.answers >= 0) & (data.scores >= 0.5))
    right[row, slots[row, data.answers[row, model]]] = 1.0
    right /= np.maximum(right.sum(1, keepdims=True), 1.0)
    right[:, -1] = 1.0 - right[:, :-1].sum(1)
    return right


def _part(data: Recorded, rows: Ints) -> Recorded:
    """Some of the questions."""
    return replace(
        data,
        categories=tuple(data.categories[row] for row in rows),
        scores=data.scores[rows],
        answers=data.answers[rows],
        tokens=data.tokens[rows],
        price=data.price[rows],
        cells=data.cells[rows],
        membership=data.membership[rows],
        weight=data.weight[rows],
    )
