"""Belief: expected quality, and how sure, read from evidence.

Owns: evidence in matrices, its fading, the fit of candidates against contexts, and the reading.
Must not know: where evidence comes from, clocks, or what is done with a belief.

Quality of candidate m in cell c is read as g_m + d_c, moved by what the cell itself has seen:

  g_m   overall quality: evidence of all cells less their difficulty, shrunk to the card's prior
  d_c   difficulty of the cell, pooled over candidates, shrunk to 0
  cell  (sum + CELL x (g + d)) / (weight + CELL), then the weighted mean over the cells of the context
  sd    sqrt(SPREAD^2 (1 / (weight here + CELL) + 1 / (weight overall + prior strength)) + APART x variance
        of what the cells say about their mean)

Without the last term the spread ends at 0, and the belief about a text does not end at the truth: its cells
hold other work too. How far they are from saying the same tells how far the text may lie from all of them.
Choices do not read ``sd``: how wide they explore is told by evidence (:mod:`sage.economy.selector`).

g and d explain each other; they are fitted by alternating ridge steps, one small step with each outcome, so
that no reading and no learning walks through history. Constants: cross-validation, docs/lab.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sage.economy.context import Codebook, Context
from sage.economy.variety import Variety

__all__ = ["SPREAD", "Beliefs", "Fit", "Sums"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Level = TypeVar("Level", float, npt.NDArray[np.float64])

CELL = 10.0
"""Outcomes that the overall belief counts for within one cell."""

FAMILY = 20.0
"""Outcomes that "no different from the card" counts for, where relatives surprised."""

LOOKS = 4
"""Outcomes between two looks at a line that had none."""

MOST_PASSES, SETTLED = 50, 1e-3
"""A fit from nothing alternates until no difficulty moves by more; four to twenty passes are usual."""

SPREAD = 0.45
"""Standard deviation of one outcome: of a right or wrong that is right 72 % of the time."""

APART = 3.0
"""Variance of a text's quality about its belief, for each unit of variance among its cells. With it 90 %
intervals hold 0.90 to 0.95 of the shares right by subject of MMLU-Pro; without, 0.54 to 0.71, less with each
outcome (docs/lab.md)."""

WIDEST = 0.5
"""No quality in [0, 1] has a larger standard deviation."""

LEAST_KEPT = 0.25
"""What learning one outcome leaves of the evidence before it, however long ago that was: one clock that is
years ahead must not wipe out what was learned."""

DIGITS = 1e12
"""Beliefs are told to twelve digits."""

NEVER = -1e18
"""The time of a line without evidence: finite, so that times can be subtracted."""


@dataclass(kw_only=True, slots=True, eq=False)
class Beliefs:
    """For each candidate asked about: expected quality in [0, 1], its standard deviation, and how many
    outcomes of such contexts (``evidence``) and of any (``total``) stand behind it.

    ``overall_variance`` is the part of sd^2 that is about overall quality. ``variety``, one number for all:
    how far quality in a context usually lies from what overall quality says of it, a standard deviation.
    """

    mean: Floats
    sd: Floats
    overall_variance: Floats
    variety: float
    evidence: Floats
    total: Floats


@dataclass(kw_only=True, slots=True)
class Sums:
    """Faded sums, one line a candidate, each as of its own time ``at``.

    ``sums`` and ``weights`` (cells, candidates): choices read a few cells of all candidates, which so lie
    together. ``total`` (candidates,) outcomes.
    """

    sums: Floats
    weights: Floats
    total: Floats
    at: Floats

    @classmethod
    def empty(cls, candidates: int, cells: int) -> Sums:
        """No evidence for anybody."""
        return cls(
            sums=np.zeros((cells, candidates)),
            weights=np.zeros((cells, candidates)),
            total=np.zeros(candidates),
            at=np.full(candidates, NEVER),
        )

    def resized(self, candidates: int) -> Sums:
        """A copy with room for more candidates."""
        wider = Sums.empty(candidates, len(self.sums))
        known = len(self.total)
        wider.sums[:, :known], wider.weights[:, :known] = self.sums, self.weights
        wider.total[:known], wider.at[:known] = self.total, self.at
        return wider

    def kept(self, lines: slice | Ints, now: float, half_life: float) -> Floats:
        """The share of each line that still counts at ``now``; a clock that went back fades nothing."""
        return np.exp2(np.minimum((self.at[lines] - now) / half_life, 0.0))

    def put(self, line: int, sums: Floats, weights: Floats, total: float, at: float) -> None:
        """Set a line."""
        self.sums[:, line], self.weights[:, line] = sums, weights
        self.total[line], self.at[line] = total, at

    def scale(self, line: int, share: float) -> None:
        """Let a line count for less."""
        self.sums[:, line] *= share
        self.weights[:, line] *= share
        self.total[line] *= share

    def fade(self, line: int, now: float, half_life: float) -> None:
        """Let a line count as it does at ``now``, or for LEAST_KEPT where that is more."""
        if now > self.at[line]:
            if self.total[line]:
                self.scale(line, max(LEAST_KEPT, math.exp2((self.at[line] - now) / half_life)))
            self.at[line] = now

    def learn(
        self, line: int, context: Context, value: float, *, weight: float, at: float, half_life: float
    ) -> None:
        """Add one outcome. One that comes late counts as if it had come in time; one older than a half-life
        was timed by a clock that is wrong, or was, when it was ahead: it counts as new and fades nothing."""
        late = float(self.at[line]) - at
        if late <= 0.0:
            self.fade(line, at, half_life)
        elif late <= half_life:
            weight *= math.exp2(-late / half_life)
        share = weight * context.membership
        # The cells of one context are distinct, so that plain indexing adds each once.
        self.weights[context.cells, line] += share
        self.sums[context.cells, line] += value * share
        self.total[line] += weight


class Fit:
    """Overall quality of candidates against difficulty of cells, kept up to date with the evidence."""

    def __init__(self, codebook: Codebook, *, prior_strength: float) -> None:
        read = [np.full(view.size, float(view.weight > 0.0)) for view in codebook.views]
        self._read = np.concatenate(read) / sum(view.weight > 0.0 for view in codebook.views)
        """Evidence of one outcome lies once in each view: the mean over the views that count."""
        self._strength = prior_strength
        self._above = np.zeros(codebook.cells)
        """Per cell: quality beyond that of the candidates that earned it, as of ``_at``."""
        self._weight = np.zeros(codebook.cells)
        """Per cell: the outcomes that it rests on."""
        self._at = np.full(codebook.cells, NEVER)
        self._surplus = np.zeros(0)
        """Per line: evidence beyond difficulty, summed over cells and averaged over views."""
        self._variety = Variety()
        self._turn = 0

    def resize(self, candidates: int) -> None:
        """Make room for more candidates."""
        self._surplus = np.concatenate([self._surplus, np.zeros(candidates - len(self._surplus))])
        self._variety.resize(candidates)

    def update(
        self,
        evidence: Sums,
        line: int,
        context: Context,
        *,
        priors: Floats,
        now: float,
        half_life: float,
    ) -> None:
        """One small step after an outcome of this line: O(candidates x cells of the context)."""
        count = len(priors)
        kept = evidence.kept(slice(count), now, half_life)
        cells = context.cells
        overall = self._overall(slice(count), kept, evidence, priors)
        weights = evidence.weights.take(cells, 0)[:, :count]
        self._above[cells] = evidence.sums.take(cells, 0)[:, :count] @ kept - weights @ (kept * overall)
        self._weight[cells] = weights @ kept
        self._at[cells] = now
        difficulty = self._difficulty(slice(None), now, half_life)
        # Difficulties have moved under the other lines too: now and then one is looked at again, in turn.
        self._turn += 1
        others = () if self._turn % LOOKS else (self._turn // LOOKS % count,)
        for moved in (*others, line):
            weights = evidence.weights[:, moved]
            excess = evidence.sums[:, moved] - weights * difficulty
            self._surplus[moved] = excess @ self._read
        surplus, total = float(self._surplus[line] * kept[line]), float(evidence.total[line] * kept[line])
        level = self._level(surplus, total, float(priors[line]))
        self._variety.look(line, excess - level * weights, weights, self._read)

    def refresh(self, evidence: Sums, *, priors: Floats, now: float, half_life: float) -> None:
        """Fit anew from all evidence: O(candidates x cells)."""
        count = len(priors)
        self._surplus = np.zeros(len(evidence.total))
        kept = evidence.kept(slice(count), now, half_life)
        sums, weights = evidence.sums[:, :count], evidence.weights[:, :count]
        self._above[:] = 0.0
        self._weight = weights @ kept
        self._at[:] = now
        for _ in range(MOST_PASSES):
            difficulty = self._difficulty(slice(None), now, half_life)
            self._surplus[:count] = self._read @ (sums - weights * difficulty[:, None])
            overall = self._overall(slice(count), kept, evidence, priors)
            self._above = sums @ kept - weights @ (kept * overall)
            if np.abs(self._difficulty(slice(None), now, half_life) - difficulty).max() < SETTLED:
                break
        difficulty = self._difficulty(slice(None), now, half_life)
        excess = sums - weights * difficulty[:, None]
        self._surplus[:count] = self._read @ excess
        overall = self._overall(slice(count), kept, evidence, priors)
        self._variety.look(slice(count), excess - weights * overall, weights, self._read)

    def read(
        self,
        evidence: Sums,
        lines: slice | Ints,
        context: Context,
        *,
        priors: Floats,
        shifts: Floats,
        families: Ints | None,
        now: float,
        half_life: float,
    ) -> Beliefs:
        """Beliefs about the candidates of ``lines`` in a context.

        ``priors`` and ``shifts`` (lines,): the card's overall figure, and how far its figure for this kind of
        work lies from it. ``families`` (lines,) numbers groups of relatives: where some of them surprise, the
        others are expected to.
        """
        kept = evidence.kept(lines, now, half_life)
        total = evidence.total[lines] * kept
        if families is not None:
            priors = priors + self._relatives(lines, kept, total, priors, families)
        overall = self._level(self._surplus[lines] * kept, total, priors)
        cells = context.cells
        weights = evidence.weights.take(cells, 0)[:, lines] * kept
        sums = evidence.sums.take(cells, 0)[:, lines] * kept
        start = overall + self._difficulty(cells, now, half_life)[:, None]
        each = (sums + CELL * start) / (weights + CELL)
        mean = context.weight @ each
        apart = context.weight @ (each - mean) ** 2
        mean += shifts
        # Equal evidence must give equal beliefs, and a product of matrices adds up in an order of its own.
        mean = np.rint(mean * DIGITS) / DIGITS
        here = context.weight @ weights
        overall_variance = SPREAD**2 / (total + self._strength)
        return Beliefs(
            mean=np.minimum(np.maximum(mean, 0.0), 1.0),
            sd=np.minimum(np.sqrt(SPREAD**2 / (here + CELL) + overall_variance + APART * apart), WIDEST),
            overall_variance=overall_variance,
            variety=self._variety.among(lines, kept),
            evidence=here,
            total=total,
        )

    def expect(
        self,
        evidence: Sums,
        line: int,
        context: Context,
        *,
        prior: float,
        shift: float,
        now: float,
        half_life: float,
    ) -> float:
        """The mean that :meth:`read` believes of one candidate without relatives, at a third of its cost."""
        kept = math.exp2(min((float(evidence.at[line]) - now) / half_life, 0.0))
        total = float(evidence.total[line]) * kept
        overall = self._level(float(self._surplus[line]) * kept, total, prior)
        cells = context.cells
        weights = evidence.weights[cells, line] * kept
        start = overall + self._difficulty(cells, now, half_life)
        mean = context.weight @ ((evidence.sums[cells, line] * kept + CELL * start) / (weights + CELL))
        return min(1.0, max(0.0, float(mean) + shift))

    def _difficulty(self, cells: slice | Ints, now: float, half_life: float) -> Floats:
        """How far quality in these cells lies from what is usual for those who worked there, at ``now``."""
        kept = np.exp2(np.minimum((self._at[cells] - now) / half_life, 0.0))
        difficulty = self._above[cells] * kept / (self._weight[cells] * kept + CELL)
        return np.asarray(np.minimum(np.maximum(difficulty, -1.0), 1.0))

    def _overall(self, lines: slice, kept: Floats, evidence: Sums, priors: Floats) -> Floats:
        return self._level(self._surplus[lines] * kept, evidence.total[lines] * kept, priors)

    def _level(self, surplus: Level, total: Level, prior: Level) -> Level:
        """Overall quality: what was earned beyond difficulty, shrunk to the card's prior."""
        return (surplus + self._strength * prior) / (total + self._strength)

    def _relatives(
        self, lines: slice | Ints, kept: Floats, total: Floats, priors: Floats, families: Ints
    ) -> Floats:
        """How far each candidate's relatives, without itself, lie from their cards."""
        surprise = self._surplus[lines] * kept - total * priors
        others = np.bincount(families, surprise)[families] - surprise
        weight = np.bincount(families, total)[families] - total
        return others / (weight + FAMILY)
