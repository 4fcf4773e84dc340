"""What past answers have shown about candidates, beyond how often they are right.

Owns: additive counters per candidate (asked, right, without an answer), per mark of an answer (its length,
its label, how doubtful its words were, whether a schema was kept) and per pair (wrong together, and then
alike); what the counters say about a new answer.
Must not know: texts, contexts (trust by context is an input of :mod:`sage.economy.opinions`), clocks, files.

Everything is a sum, so that what was stored adds up and fades by a factor. A mark without outcomes says what
its prior says: nothing, but for doubt and a broken schema.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["COUNTERS", "LABELS", "MARKS", "Evidence", "logit", "sigmoid"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

LENGTHS = 13
"""Length bins: one for each power of two from 4 to 2048 tokens (10), the two beyond, and no answer at all."""

LABELS = 32
"""Labels told apart in a closed choice (a letter, a class). What goes beyond counts as free text."""

DOUBTS = 7
"""Doubt bins: half a standard deviation each, around the model's usual doubt."""

MARKS = LENGTHS + LABELS + DOUBTS + 2
"""Rows of the table of marks: lengths, labels, doubts, schema broken, schema kept."""

MARK_STRENGTH = 20.0
"""Outcomes that a mark's prior counts for."""

AGREEMENT = 0.35
"""Prior chance that two wrong answers are the same (small models on ten options: 0.3 to 0.4)."""

AGREEMENT_STRENGTH = 20.0
"""Pairs of wrong answers that it counts for."""

DOUBT_SLOPE = -1.0
"""Prior log-odds for each standard deviation of doubt above the model's usual: models differ in how sure
they sound."""

BROKEN = -2.0
"""Prior log-odds of an answer that breaks the schema that was asked for."""

USUAL_DOUBT, DOUBT_SD, DOUBT_STRENGTH = 0.25, 0.15, 5.0
"""Mean and standard deviation of 1 - exp(mean log-probability) before a model's own are known, and how many
drafts that counts for."""


COUNTERS = ("asked", "right", "silent", "marked", "marked_right", "wrong", "same", "doubt")
"""Fields of :class:`Evidence`, all sums: what to store."""


def _priors() -> Floats:
    prior = np.zeros(MARKS)
    doubt = LENGTHS + LABELS
    prior[doubt : doubt + DOUBTS] = DOUBT_SLOPE * 0.5 * (np.arange(DOUBTS) - DOUBTS // 2)
    prior[doubt + DOUBTS] = BROKEN
    return prior


PRIOR = _priors()


def logit(chance: npt.ArrayLike) -> Floats:
    """Log-odds of a chance, which is first kept within [0.01, 0.99]: no evidence here is surer than that."""
    kept = np.minimum(np.maximum(chance, 0.01), 0.99)
    return np.asarray(np.log(kept / (1.0 - kept)))


def sigmoid(odds: npt.ArrayLike) -> Floats:
    """The chance behind log-odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(odds, np.float64))))


class Evidence:
    """Counters over M named candidates: M x (MARKS + 2 M) numbers, however many outcomes there were."""

    __slots__ = (*COUNTERS, "names")

    def __init__(self, names: Sequence[str]) -> None:
        many = len(names)
        self.names = tuple(names)
        self.asked = np.zeros(many)
        """(M,) outcomes seen."""
        self.right = np.zeros(many)
        """(M,) sum of their quality."""
        self.silent = np.zeros(many)
        """(M,) of these without an answer."""
        self.marked = np.zeros((MARKS, many))
        """Outcomes of answers that bore a mark."""
        self.marked_right = np.zeros((MARKS, many))
        """Sum of their quality."""
        self.wrong = np.zeros((many, many))
        """Both answered and were wrong."""
        self.same = np.zeros((many, many))
        """Of these with the same answer."""
        self.doubt = np.zeros((3, many))
        """Drafts with a doubt, sum of the doubts, sum of their squares."""

    def notice(self, candidates: Ints, doubts: Floats) -> None:
        """Learn what doubt is usual from drafts (n,) by ``candidates`` (n,), outcome known or not."""
        for row, value in enumerate((np.ones(len(doubts)), doubts, doubts * doubts)):
            np.add.at(self.doubt[row], candidates, value)

    def marks(
        self,
        candidates: Ints,
        groups: Ints,
        tokens: npt.ArrayLike,
        *,
        labels: Ints | None = None,
        doubts: Floats | None = None,
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> Ints:
        """Rows of the table of marks that answers bear, (..., 4); -1 where nothing is known.

        All arguments have one shape. ``groups`` is -1 without an answer; ``labels`` -1 for free text;
        ``doubts`` (1 - exp(mean log-probability)) NaN where unknown.
        """
        shape = (*np.shape(groups), 4)
        rows = np.full(shape, -1, np.intp)
        size = np.log2(np.maximum(np.asarray(tokens, np.float64), 2.0)).astype(np.intp)
        none = np.asarray(groups) < 0
        rows[..., 0] = np.where(none, LENGTHS - 1, np.minimum(size, LENGTHS - 1) - 1)
        if labels is not None:
            known = (labels >= 0) & (labels < LABELS) & ~none
            rows[..., 1] = np.where(known, LENGTHS + labels, -1)
        if doubts is not None:
            mean, sd = self.usual_doubt()
            off = np.nan_to_num((doubts - mean[candidates]) / sd[candidates])
            bin_ = np.clip(np.rint(2.0 * off), -(DOUBTS // 2), DOUBTS // 2).astype(np.intp) + DOUBTS // 2
            rows[..., 2] = np.where(np.isnan(doubts), -1, LENGTHS + LABELS + bin_)
        if valid is not None:
            rows[..., 3] = MARKS - 2 + np.asarray(valid, np.intp)
        return rows

    def usual_doubt(self) -> tuple[Floats, Floats]:
        """Mean (M,) and standard deviation (M,) of each candidate's doubt."""
        n = self.doubt[0] + DOUBT_STRENGTH
        mean = (self.doubt[1] + DOUBT_STRENGTH * USUAL_DOUBT) / n
        square = (self.doubt[2] + DOUBT_STRENGTH * (USUAL_DOUBT**2 + DOUBT_SD**2)) / n
        return mean, np.sqrt(np.maximum(square - mean**2, 1e-4))

    def observe(
        self, known: npt.NDArray[np.bool_], groups: Ints, quality: Floats, marks: Ints, *, weight: float = 1.0
    ) -> None:
        """Learn from B pieces of work, all (B, M): whose outcome is ``known``, the answer groups (-1 none),
        quality in [0, 1], and marks (B, M, 4).

        Raises:
            ValueError: a known quality that is not in [0, 1].
        """
        if not ((quality >= 0.0) & (quality <= 1.0))[known].all():
            raise ValueError("quality must be in [0, 1]")
        count = known * weight
        good = np.where(known, quality, 0.0) * weight
        self.asked += count.sum(0)
        self.right += good.sum(0)
        self.silent += (count * (groups < 0)).sum(0)
        column = np.broadcast_to(np.arange(len(self.names))[:, None], marks.shape)
        seen = known[..., None] & (marks >= 0)
        np.add.at(self.marked, (marks[seen], column[seen]), weight)
        np.add.at(
            self.marked_right,
            (marks[seen], column[seen]),
            np.broadcast_to(good[..., None], marks.shape)[seen],
        )
        missed = (known & (quality < 0.5) & (groups >= 0)).astype(np.float64)
        self.wrong += weight * (missed.T @ missed)
        for group in np.unique(groups[missed > 0]):
            alike = missed * (groups == group)
            self.same += weight * (alike.T @ alike)

    def overall(self) -> Floats:
        """Expected quality (M,) over all work, shrunk to 0.4 as if five outcomes had said so."""
        return (self.right + 2.0) / (self.asked + 5.0)

    def silence(self) -> Floats:
        """Chance (M,) of no answer."""
        return (self.silent + 1.0) / (self.asked + 10.0)

    def surprise(self) -> Floats:
        """-ln of the chance that two candidates (M, M) agree when both are wrong: what agreeing is worth."""
        chance = (self.same + AGREEMENT_STRENGTH * AGREEMENT) / (self.wrong + AGREEMENT_STRENGTH)
        return np.asarray(-np.log(np.clip(chance, 0.05, 0.95)))

    def shifts(self, candidates: Ints, marks: Ints, own: Floats | None = None) -> Floats:
        """Log-odds that the marks (..., 4) of answers by ``candidates`` (...) add to trust; (...).

        ``own`` (...) leaves out one outcome of this quality for each answer: for answers that are themselves
        among the counters.
        """
        safe = np.maximum(marks, 0)
        who = np.asarray(candidates)[..., None]
        n, c = self.marked[safe, who], self.marked_right[safe, who]
        if own is not None:
            n, c = n - 1.0, c - own[..., None]
        base = logit(self.overall())[who]
        start = sigmoid(base + PRIOR[safe])
        shift = logit((c + MARK_STRENGTH * start) / (n + MARK_STRENGTH)) - base
        return np.asarray(np.where(marks >= 0, shift, 0.0).sum(-1))
