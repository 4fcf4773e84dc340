"""Drift: a candidate that has become worse, or well again, told from its outcomes.

Owns: the watch over one candidate: when its beliefs are off, by how much to move them, when to try it again.
Must not know: contexts, books, clocks, who chooses.

Evidence that fades slowly takes as long to notice a change as it took to gather. So each outcome is held
against what was expected of it, in two cumulative sums (CUSUM, Page 1954; within bandits Liu, Lee & Shroff
2018), one for worse and one for better:

  surprise  z = (quality - expected) / sqrt(max(expected (1 - expected), 0.09))
  worse       = max(0, worse + weight x (-z - SLACK)),   alarm above PATIENCE
  better      = max(0, better + weight x (z - SLACK)),   alarm above PATIENCE, or HOPE while in disgrace

An alarm moves all beliefs about the candidate by the mean surprise since the sum last stood at 0: what it was
good at compared with its other work is kept, and it is there when the candidate is well again. Afterwards the
level follows the mean of the outcomes since the change. A candidate that fell is in disgrace until it has
stood at its old level for a while. It gets no work by merit: it is tried again now and then, or nobody would
see it heal.

Constants: simulated pools of 3, 8 and 20 candidates and the routing data, docs/lab.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["HOPE", "PATIENCE", "SLACK", "TRIAL", "Drift", "Seen", "trial_wait"]

SLACK = 0.5
"""Standard deviations a candidate may be off without suspicion: beliefs are never quite right."""

PATIENCE = 15.0
"""Standard deviations, less the slack, that make an alarm. A fall from 0.75 to 0.25 takes about 25 outcomes;
with 12 there are 0.02 false alarms in 1,000 outcomes, with 15 there was none."""

HOPE = 3.0
"""The same for the return of a candidate in disgrace: trials are few, and a false hope is short."""

ACQUAINTANCE = 30.0
"""Outcomes before the watch begins: until then beliefs are the card's, and its error is no change."""

DISGRACE = 0.05
"""How far below its old level a candidate that fell must lie to be in disgrace."""

PROVEN = 100.0
"""Outcomes since the last alarm that its level must rest on to be believed. Without, a false hope that fails
under the eyes of nobody ends the trials: 1 of 10 never came back."""

TRIAL = 30
"""Requests between two trials of a candidate in disgrace, at first: 3.3 % of them."""

FLOOR = 0.09
"""Least variance expected of an outcome: that of quality 0.1 or 0.9."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """What is remembered of one candidate.

    ``seen``: outcomes so far. ``worse``, ``better``: the cumulative sums; ``*_weight``, ``*_sum``: outcomes
    since the sum last stood at 0, and their quality beyond what was expected. ``level``: how far beliefs have
    been moved since the beginning; ``outcomes``: how many it rests on, 0 before the first alarm; ``alarms``:
    how many there were, ``falls`` of them because it had become worse.
    """

    seen: float = 0.0
    worse: float = 0.0
    worse_weight: float = 0.0
    worse_sum: float = 0.0
    better: float = 0.0
    better_weight: float = 0.0
    better_sum: float = 0.0
    level: float = 0.0
    outcomes: float = 0.0
    alarms: int = 0
    last: float = 0.0
    alarmed: float = 0.0
    falls: int = 0

    @property
    def disgraced(self) -> bool:
        """It fell, and has not proven since that it is well again."""
        return self.falls > 0 and (self.level < -DISGRACE or self.outcomes < PROVEN)

    def see(self, *, expected: float, quality: float, weight: float = 1.0) -> Seen:
        """Take in one outcome that was expected to be ``expected`` and was ``quality``, both in [0, 1].

        ``weight`` is how many outcomes it counts for. Beliefs about the candidate are to be moved by
        ``Seen.move``, in every context alike.

        Raises:
            ValueError: a number that is not finite, or a weight below 0.
        """
        if not (
            math.isfinite(expected) and math.isfinite(quality) and math.isfinite(weight) and weight >= 0.0
        ):
            raise ValueError(f"not numbers to learn from: {expected!r}, {quality!r}, {weight!r}")
        seen = self.seen + weight
        if seen <= ACQUAINTANCE:
            return Seen(state=replace(self, seen=seen), move=0.0, alarm=False)
        surprise = quality - expected
        z = surprise / math.sqrt(max(expected * (1.0 - expected), FLOOR))
        worse = max(0.0, self.worse + weight * (-z - SLACK))
        better = max(0.0, self.better + weight * (z - SLACK))
        # Sums since the last 0: the maximum-likelihood time of the change.
        worse_weight, worse_sum = _since(worse, self.worse_weight, self.worse_sum, weight, surprise)
        better_weight, better_sum = _since(better, self.better_weight, self.better_sum, weight, surprise)
        if worse > PATIENCE:
            return self._alarm(worse_sum / worse_weight, worse_weight, falls=1)
        if better > (HOPE if self.disgraced else PATIENCE):
            return self._alarm(better_sum / better_weight, better_weight, falls=0)
        outcomes = self.outcomes + weight if self.outcomes else 0.0
        level = self._moved(weight * surprise / outcomes) if outcomes else self.level
        state = replace(
            self,
            seen=seen,
            worse=worse,
            worse_weight=worse_weight,
            worse_sum=worse_sum,
            better=better,
            better_weight=better_weight,
            better_sum=better_sum,
            level=level,
            outcomes=outcomes,
        )
        return Seen(state=state, move=level - self.level, alarm=False)

    def _alarm(self, change: float, outcomes: float, *, falls: int) -> Seen:
        level = self._moved(change)
        state = Drift(
            seen=self.seen,
            level=level,
            outcomes=outcomes,
            alarms=self.alarms + 1,
            falls=self.falls + falls,
        )
        return Seen(state=state, move=level - self.level, alarm=True)

    def _moved(self, change: float) -> float:
        """The level after a change; quality lies in [0, 1], so that no level lies beyond 1."""
        return min(1.0, max(-1.0, self.level + change))


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What an outcome meant: the state after it, how far to move beliefs, and whether there was an alarm."""

    state: Drift
    move: float
    alarm: bool


def trial_wait(since_alarm: float) -> float:
    """Requests to wait between two trials, ``since_alarm`` requests after the last alarm.

    It grows with a disgrace that lasts: what is dead for good costs ever less, and what heals is found within
    a small share of the time that it was ill.
    """
    return max(float(TRIAL), since_alarm / (2 * TRIAL))


def _since(level: float, weight: float, total: float, more: float, surprise: float) -> tuple[float, float]:
    return (weight + more, total + more * surprise) if level > 0.0 else (0.0, 0.0)
