"""Weighing opinions: how likely each answer is right, and whether another opinion is worth its price.

Owns: the posterior over groups of equal answers, the expected gain of asking one more candidate, the fit of
the weights. Must not know: texts, how answers were found equal, where trust comes from.

The posterior is a conditional logit (McFadden 1974) over the groups and "none of these". Votes of models
are dependent, so evidence is weighted by numbers fitted to outcomes, and agreement counts by how rarely
these two agree when both are wrong. The same code decides one piece of work (B = 1) and a whole benchmark.

Cost for each piece of work: O(M K) time and numbers, for M candidates and K groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sage.economy.evidence import Evidence, logit, sigmoid

__all__ = ["DEFAULT_WEIGHTS", "FEATURES", "Beliefs", "Opinions", "Weights", "believe", "fit_weights"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

FEATURES = ("overall", "context", "marks", "surprise", "members", "strongest")
"""Of a group, summed over its members: trust over all work and what the context adds to it (log-odds), what
the marks of the answers add, how surprising the agreement is, how many; and the trust in the strongest."""

PLAIN = 5
"""Features that are sums over members; the one after them is a maximum."""

SIZE = 2 * len(FEATURES) + 3
"""Weights: each feature, each again times 1 - 1/n after n opinions, and three of "none of these"."""

RIDGE = 1e-3

MARKS_IN_STRENGTH = 0.5
"""How much the marks of an answer count when the strongest member of a group is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """``values`` (SIZE,), and ``alpha``: asking raises the sum of P^alpha over the groups. Near 1, opinions
    that each hardly change the answer are still worth it; a large one wants the next to settle the matter."""

    values: tuple[float, ...]
    alpha: float


DEFAULT_WEIGHTS = Weights(
    values=(0.77, 0.71, 0.40, 0.97, 0.08, 0.5, 0.64, -0.65, -0.2, 0.34, -0.19, 0.2, 0.17, -0.03, -0.16),
    alpha=1.5,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beliefs:
    """What is believed before anyone is asked, about M candidates for B pieces of work.

    ``overall`` (M,) and ``context`` (B, M): trust over all work, and what the context adds; log-odds.
    ``surprise`` (M, M); ``silence`` (M,): see :class:`sage.economy.evidence.Evidence`.
    """

    overall: Floats
    context: Floats
    surprise: Floats
    silence: Floats


def believe(evidence: Evidence, trust: Floats) -> Beliefs:
    """Beliefs from the counters and the expected quality (B, M) in each context."""
    overall = logit(evidence.overall())
    return Beliefs(
        overall=overall,
        context=logit(trust) - overall,
        surprise=evidence.surprise(),
        silence=evidence.silence(),
    )


class Opinions:
    """What has been answered so far in B pieces of work, in at most K groups of equal answers."""

    def __init__(self, beliefs: Beliefs, groups: int) -> None:
        rows, many = beliefs.context.shape
        self.beliefs = beliefs
        self.trust = beliefs.overall + beliefs.context
        self.sums = np.zeros((rows, groups, PLAIN))
        self.strongest = np.full((rows, groups), -np.inf)
        self.nearest = np.full((rows, groups, many), np.inf)
        """Least surprise at which a candidate would join the group; inf while it is empty."""
        self.speaker = np.full((rows, groups), -1, np.intp)
        """The strongest member: its words are the answer."""
        self.heard = np.zeros(rows)
        self.shift = np.zeros(rows)
        self.asked = np.zeros((rows, many), bool)

    def hear(self, rows: Ints, candidates: Ints, groups: Ints, shifts: Floats) -> None:
        """One answer in each of ``rows`` (r,), distinct: whose, its group (-1 none), what its marks add."""
        self.heard[rows] += 1.0
        self.shift[rows] += shifts
        self.asked[rows, candidates] = True
        spoke = groups >= 0
        if not spoke.all():
            rows, candidates, groups, shifts = rows[spoke], candidates[spoke], groups[spoke], shifts[spoke]
        surprise = self.nearest[rows, groups, candidates]
        sums = self.sums[rows, groups]
        sums[:, 0] += self.beliefs.overall[candidates]
        sums[:, 1] += self.beliefs.context[rows, candidates]
        sums[:, 2] += shifts
        sums[:, 3] += np.where(np.isinf(surprise), 0.0, surprise)
        sums[:, 4] += 1.0
        self.sums[rows, groups] = sums
        self.nearest[rows, groups] = np.minimum(self.nearest[rows, groups], self.beliefs.surprise[candidates])
        strength = self.trust[rows, candidates] + MARKS_IN_STRENGTH * shifts
        better = strength > self.strongest[rows, groups]
        rows, groups = rows[better], groups[better]
        self.strongest[rows, groups] = strength[better]
        self.speaker[rows, groups] = candidates[better]

    def posterior(self, weights: Weights) -> tuple[Floats, Floats]:
        """Chance of each group (B, K) to be the right one, 0 for empty ones, and of none of them (B,)."""
        group, none, _ = self._odds(np.asarray(weights.values), np.arange(len(self.heard)), 0)
        top = np.maximum(group.max(1), none)
        group, none = np.exp(group - top[:, None]), np.exp(none - top)
        total = group.sum(1) + none
        return group / total[:, None], none / total

    def gain(self, weights: Weights, rows: Ints | None = None) -> Floats:
        """Expected rise of sum_g P_g^alpha by asking each candidate, (r, M) for ``rows`` (all B without);
        -inf for those asked.

        A candidate joins group g if it is right and g is, or if both are wrong and they agree by accident;
        else it opens a group of its own or gives no answer.
        """
        rows = np.arange(len(self.heard)) if rows is None else rows
        values, alpha = np.asarray(weights.values), weights.alpha
        group, none, _ = self._odds(values, rows, 0)
        top = np.maximum(group.max(1), none)
        now = np.exp(group - top[:, None])
        now /= (now.sum(1) + np.exp(none - top))[:, None]
        value = (now**alpha).sum(1)

        group, none, scale = self._odds(values, rows, 1)
        top = np.maximum(np.maximum(group.max(1), none), 0.0)
        mass = np.exp(group - top[:, None])
        total = mass.sum(1) + np.exp(none - top)
        power = mass**alpha
        powers = power.sum(1)

        trust = self.trust[rows]
        speaks = 1.0 - self.beliefs.silence
        right = np.minimum(sigmoid(trust) / speaks, 0.97)
        step = (
            scale[:, :1] * self.beliefs.overall + scale[:, 1:2] * self.beliefs.context[rows] + scale[:, 4:5]
        )
        full = self.sums[rows, :, 4] > 0.0
        surprise = np.where(full[:, :, None], self.nearest[rows], 0.0)
        accident = np.where(full[:, :, None], np.exp(-surprise), 0.0)
        strongest = np.where(full, self.strongest[rows], 0.0)[:, :, None]
        rise = np.maximum(trust[:, None] - strongest, 0.0)

        is_right = now[:, :, None]
        joins = is_right * right[:, None] + (1.0 - is_right) * (1.0 - right[:, None]) * accident
        joins *= np.minimum(1.0, 0.98 / np.maximum(joins.sum(1), 1e-9))[:, None]
        grown = mass[:, :, None] * np.exp(
            step[:, None] + scale[:, 3, None, None] * surprise + scale[:, 5, None, None] * rise
        )
        after = (powers[:, None, None] - power[:, :, None] + grown**alpha) / (
            total[:, None, None] - mass[:, :, None] + grown
        ) ** alpha
        opened = np.exp(step + scale[:, 5:6] * trust - top[:, None])
        alone = (powers[:, None] + opened**alpha) / (total[:, None] + opened) ** alpha
        expected = (joins * after).sum(1) + (1.0 - joins.sum(1)) * alone
        return np.asarray(np.where(self.asked[rows], -np.inf, speaks * (expected - value[:, None])))

    def next_opinion(self, weights: Weights, price: Floats, rows: Ints | None = None) -> Ints:
        """Who to ask next (r,), or -1 where no gain exceeds its price.

        ``price`` (M,) or (r, M) in units of gain: inf rules a candidate out; below 0 asks even at a small
        loss (the gain looks one step ahead only).
        """
        worth = self.gain(weights, rows) - price
        best = worth.argmax(1)
        return np.asarray(np.where(worth[np.arange(len(best)), best] > 0.0, best, -1))

    def answer(self, weights: Weights) -> Ints:
        """Whose answer to return (B,): the strongest of the likeliest group, or -1 if none answered."""
        chance, _ = self.posterior(weights)
        return np.asarray(self.speaker[np.arange(len(chance)), chance.argmax(1)])

    def design(self, rows: Ints) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Features (r, K + 1, SIZE) that the odds are linear in, the last row for "none of these", and which
        of the K + 1 are there."""
        count = len(FEATURES)
        n = np.maximum(self.heard[rows], 1.0)
        full = self.sums[rows, :, 4] > 0.0
        wide = np.zeros((len(rows), full.shape[1] + 1, SIZE))
        wide[:, :-1, :PLAIN] = self.sums[rows]
        wide[:, :-1, PLAIN] = np.where(full, self.strongest[rows], 0.0)
        wide[:, :-1, count : 2 * count] = wide[:, :-1, :count] * (1.0 - 1.0 / n)[:, None, None]
        wide[:, -1, 2 * count :] = np.stack([np.ones(len(rows)), np.log(n), self.shift[rows] / n], 1)
        return wide, np.hstack([full, np.ones((len(rows), 1), bool)])

    def _odds(self, values: Floats, rows: Ints, more: int) -> tuple[Floats, Floats, Floats]:
        """Log-odds of the groups (r, K), of none of them (r,) and the scale of each feature (r, features),
        as they are after ``more`` further opinions that change no group."""
        count = len(FEATURES)
        heard = self.heard[rows]
        n = np.maximum(heard + more, 1.0)
        scale = values[:count] + (1.0 - 1.0 / n)[:, None] * values[count : 2 * count]
        sums = self.sums[rows]
        odds = (sums @ scale[:, :PLAIN, None])[:, :, 0] + scale[:, PLAIN:] * np.maximum(
            self.strongest[rows], -99.0
        )
        group = np.where(sums[:, :, 4] > 0.0, odds, -np.inf)
        own, log, shift = values[2 * count :]
        return group, own + log * np.log(n) + shift * self.shift[rows] / np.maximum(heard, 1.0), scale


def fit_weights(design: Floats, there: npt.NDArray[np.bool_], right: Floats, *, alpha: float) -> Weights:
    """Weights by Newton's method, ridge RIDGE: ``design`` (n, K + 1, SIZE) and ``there`` (n, K + 1) from
    :meth:`Opinions.design`, ``right`` (n, K + 1) one-hot.

    Raises:
        ValueError: shapes that do not belong together, or nothing to learn from.
    """
    if design.shape != (*there.shape, SIZE) or right.shape != there.shape or len(design) == 0:
        raise ValueError("design (n, K + 1, SIZE), there and right (n, K + 1) with n > 0 are needed")
    values = np.zeros(SIZE)
    for _ in range(15):
        odds = np.where(there, design @ values, -np.inf)
        chance = np.exp(odds - odds.max(1, keepdims=True))
        chance /= chance.sum(1, keepdims=True)
        slope = np.tensordot(chance - right, design, 2) / len(design) + 2.0 * RIDGE * values
        mean = (chance[:, :, None] * design).sum(1)
        spread = (design * np.sqrt(chance)[:, :, None]).reshape(-1, SIZE)
        curve = (spread.T @ spread - mean.T @ mean) / len(design) + 2.0 * RIDGE * np.eye(SIZE)
        step = np.linalg.solve(curve, slope)
        values = values - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-9))
        if np.abs(step).max() < 1e-4:
            break
    return Weights(values=tuple(float(value) for value in values), alpha=alpha)
