"""Weighing opinions: how likely each answer is right, and whether another opinion is worth its price.

Owns: the posterior over groups of equal answers, the expected gain of asking one more candidate, the fit of
the weights. Must not know: texts, how answers were found equal, where trust comes from.

The posterior is a conditional logit (McFadden 1974) over the groups and "none of these". Votes of models
are dependent, so evidence is weighted by numbers fitted to outcomes, and agreement counts by how rarely
these two agree when both are wrong. The same code decides one piece of work (B = 1) and a whole benchmark.

Cost of a decision: O(M K) time and numbers, for M candidates and K groups, whatever was learned before.
Beliefs hold a number for each pair of candidates: make them for a pool, not for all that was ever known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sage.economy.evidence import Evidence, logit, sigmoid

__all__ = ["DEFAULT_WEIGHTS", "FEATURES", "Beliefs", "Opinions", "Weights", "believe", "fit_weights"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

FEATURES = ("overall", "context", "marks", "surprise", "members", "strongest")
"""Of a group, summed over its members: trust over all work and what the context adds to it (log-odds), what
the marks of the answers add, how surprising the agreement is, how many; and the trust in the strongest."""

MEMBERS, STRONGEST = 4, 5

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
    values=(0.51, 0.16, 0.23, 0.69, 0.09, 0.84, 0.30, -0.28, -0.19, 0.18, -0.34, 0.18, 0.32, 0.05, 0.02),
    alpha=1.5,
)
"""Fitted on MMLU-Pro (Apache-2.0), the mean of what 28 models and the 14 smallest give; fit them again by
``python -m sage.bench.weights --data DIR...``."""


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


def believe(evidence: Evidence, trust: Floats, overall: Floats | None = None) -> Beliefs:
    """Beliefs from the counters, the expected quality (B, M) in each context, and the one (M,) over all work
    (without it what the counters say).

    Raises:
        ValueError: trust that is not a number in [0, 1], or not of M candidates.
    """
    many = len(evidence.names)
    overall = evidence.overall() if overall is None else overall
    for name, values in (("trust", trust), ("overall", overall)):
        if values.shape[-1] != many or not ((values >= 0.0) & (values <= 1.0)).all():
            raise ValueError(f"{name} must be numbers in [0, 1] for {many} candidates")
    base = logit(overall)
    return Beliefs(
        overall=base,
        context=logit(trust) - base,
        surprise=evidence.surprise(),
        silence=evidence.silence(),
    )


class Opinions:
    """What has been answered so far in B pieces of work, in at most K groups of equal answers.

    Number the groups as they appear: groups above the highest number that any row has cost nothing.
    """

    def __init__(self, beliefs: Beliefs, groups: int) -> None:
        rows, many = beliefs.context.shape
        self.beliefs = beliefs
        self.trust = beliefs.overall + beliefs.context
        self.heard = np.zeros(rows)
        """Opinions so far (B,)."""
        self.asked = np.zeros((rows, many), bool)
        self.speaker = np.full((rows, groups), -1, np.intp)
        """The strongest member of each group: its words are the answer."""
        self._speaks = 1.0 - beliefs.silence
        self._right = np.minimum(sigmoid(self.trust) / self._speaks, 0.97)
        self._marks = np.zeros(rows)
        self._features = np.zeros((rows, groups, len(FEATURES)))
        self._nearest = np.zeros((rows, groups, many))
        """Least surprise at which a candidate would join a group."""
        self._accident = np.zeros((rows, groups, many))
        """Chance to join it when both are wrong."""
        self._used = 1

    def hear(self, rows: Ints, candidates: Ints, groups: Ints, shifts: Floats) -> None:
        """One answer in each of ``rows`` (r,), distinct: whose, its group (-1 none), what its marks add."""
        self.heard[rows] += 1.0
        self._marks[rows] += shifts
        self.asked[rows, candidates] = True
        spoke = groups >= 0
        if not spoke.all():
            rows, candidates, groups, shifts = rows[spoke], candidates[spoke], groups[spoke], shifts[spoke]
            if len(rows) == 0:
                return
        self._used = max(self._used, int(groups.max()) + 1)
        features = self._features[rows, groups]
        first = features[:, MEMBERS] == 0.0
        strength = self.trust[rows, candidates] + MARKS_IN_STRENGTH * shifts
        better = first | (strength > features[:, STRONGEST])
        features[:, 0] += self.beliefs.overall[candidates]
        features[:, 1] += self.beliefs.context[rows, candidates]
        features[:, 2] += shifts
        features[:, 3] += self._nearest[rows, groups, candidates]
        features[:, MEMBERS] += 1.0
        features[:, STRONGEST] = np.where(better, strength, features[:, STRONGEST])
        self._features[rows, groups] = features
        self.speaker[rows, groups] = np.where(better, candidates, self.speaker[rows, groups])
        surprise = self.beliefs.surprise[candidates]
        nearest = np.where(first[:, None], surprise, np.minimum(self._nearest[rows, groups], surprise))
        self._nearest[rows, groups] = nearest
        self._accident[rows, groups] = np.exp(-nearest)

    def posterior(self, weights: Weights) -> tuple[Floats, Floats]:
        """Chance of each group (B, K) to be the right one, 0 for empty ones, and of none of them (B,)."""
        odds = self._odds(np.array(weights.values), slice(None))
        chance = np.zeros(self.speaker.shape)
        chance[:, : self._used], none = _chances(*odds.after(0))
        return chance, none

    def answer(self, weights: Weights) -> Ints:
        """Whose answer to return (B,): the strongest of the likeliest group, or -1 if none answered."""
        chance, _ = self.posterior(weights)
        return np.asarray(self.speaker[np.arange(len(chance)), chance.argmax(1)])

    def gain(self, weights: Weights, rows: Ints | None = None) -> Floats:
        """Expected rise of sum_g P_g^alpha by asking each candidate, (r, M) for ``rows`` (all B without);
        -inf for those asked.

        A candidate joins group g if it is right and g is, or if both are wrong and they agree by accident;
        else it opens a group of its own or gives no answer.
        """
        at = slice(None) if rows is None else rows
        alpha, odds = weights.alpha, self._odds(np.array(weights.values), at)
        now, _ = _chances(*odds.after(0))
        value = (now**alpha).sum(1)
        group, none = odds.after(1)
        scale = odds.scale(1)
        top = np.maximum(np.maximum(group.max(1), none), 0.0)
        log = group - top[:, None]
        mass, power = np.exp(log), np.exp(alpha * log)
        others = mass.sum(1)[:, None] - mass + np.exp(none - top)[:, None]
        other_powers = power.sum(1)[:, None] - power

        # How likely each candidate joins each group (r, K, M).
        right, is_right = self._right[at][:, None], now[:, :, None]
        joins = (1.0 - is_right) * (1.0 - right) * self._accident[at, : self._used]
        joins += is_right * right
        total = joins.sum(1)
        share = np.minimum(1.0, 0.98 / np.maximum(total, 1e-9))

        # What becomes of the sum if it does, and if it opens a group instead.
        trust = self.trust[at]
        step = scale[:, :1] * self.beliefs.overall + scale[:, 1:2] * self.beliefs.context[at]
        step += scale[:, MEMBERS, None]
        rise = np.maximum(trust[:, None] - self._features[at, : self._used, STRONGEST, None], 0.0)
        rise *= scale[:, STRONGEST, None, None]
        rise += scale[:, 3, None, None] * self._nearest[at, : self._used]
        rise += step[:, None]
        rise += log[:, :, None]
        joined = (other_powers[:, :, None] + np.exp(alpha * rise)) / (
            others[:, :, None] + np.exp(rise)
        ) ** alpha
        step += scale[:, STRONGEST, None] * trust
        step -= top[:, None]
        sums, powers = (others[:, :1] + mass[:, :1]), (other_powers[:, :1] + power[:, :1])
        opened = (powers + np.exp(alpha * step)) / (sums + np.exp(step)) ** alpha
        expected = share * (joins * joined).sum(1) + (1.0 - share * total) * opened
        gain = self._speaks * (expected - value[:, None])
        gain[self.asked[at]] = -np.inf
        return np.asarray(gain)

    def next_opinion(self, weights: Weights, price: Floats, rows: Ints | None = None) -> Ints:
        """Who to ask next (r,), or -1 where no gain exceeds its price.

        ``price`` (M,) or (r, M) in units of gain: inf rules a candidate out; below 0 asks even at a small
        loss (the gain looks one step ahead only).
        """
        worth = self.gain(weights, rows) - price
        best = worth.argmax(1)
        return np.asarray(np.where(worth.max(1) > 0.0, best, -1))

    def design(self, rows: Ints) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Features (r, K + 1, SIZE) that the odds are linear in, the last row for "none of these", and which
        of the K + 1 are there."""
        count = len(FEATURES)
        n = np.maximum(self.heard[rows], 1.0)
        features = self._features[rows]
        full = features[:, :, MEMBERS] > 0.0
        wide = np.zeros((len(rows), full.shape[1] + 1, SIZE))
        wide[:, :-1, :count] = features
        wide[:, :-1, count : 2 * count] = features * (1.0 - 1.0 / n)[:, None, None]
        wide[:, -1, 2 * count :] = np.stack([np.ones(len(rows)), np.log(n), self._marks[rows] / n], 1)
        return wide, np.hstack([full, np.ones((len(rows), 1), bool)])

    def _odds(self, values: Floats, at: Ints | slice) -> _Odds:
        count = len(FEATURES)
        features = self._features[at, : self._used]
        heard = self.heard[at]
        return _Odds(
            values=values,
            heard=heard,
            plain=np.where(features[:, :, MEMBERS] > 0.0, features @ values[:count], -np.inf),
            grown=features @ values[count : 2 * count],
            marks=self._marks[at] / np.maximum(heard, 1.0),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Odds:
    """Log-odds of groups as a function of the number of opinions: weights change with it."""

    values: Floats
    heard: Floats
    plain: Floats
    grown: Floats
    marks: Floats

    def after(self, more: int) -> tuple[Floats, Floats]:
        """Log-odds of the groups (r, K) and of none of them (r,) as ``more`` opinions that change neither
        would leave them."""
        n = np.maximum(self.heard + more, 1.0)
        own, log, marks = self.values[2 * len(FEATURES) :]
        return (
            self.plain + (1.0 - 1.0 / n)[:, None] * self.grown,
            own + log * np.log(n) + marks * self.marks,
        )

    def scale(self, more: int) -> Floats:
        """Weight of each feature (r, features) then."""
        count = len(FEATURES)
        n = np.maximum(self.heard + more, 1.0)
        return np.asarray(self.values[:count] + (1.0 - 1.0 / n)[:, None] * self.values[count : 2 * count])


def _chances(group: Floats, none: Floats) -> tuple[Floats, Floats]:
    """Log-odds to chances that sum to 1."""
    top = np.maximum(group.max(1), none)
    group, none = np.exp(group - top[:, None]), np.exp(none - top)
    total = group.sum(1) + none
    return group / total[:, None], none / total


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
