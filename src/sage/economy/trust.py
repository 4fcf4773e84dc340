"""Trust: what outcomes have taught about each candidate in each context, and how it fades.

Owns: the book of evidence: learning, fading, resets, merging with books of other nodes.
Must not know: clocks (``now`` is passed), files, what a candidate is, how beliefs are read.

Evidence is two sums per candidate and cell, of quality and of weight, each outcome counted by its membership
in the cell and halved every ``half_life`` (discounted UCB: Garivier & Moulines 2011). Sums do not depend on
the order of events, so what several nodes learned apart adds up to what one would have learned from all.
A row (origin, candidate) is written by its origin alone; merging keeps, of two versions of a row, the newer:
commutative, associative and idempotent (a state-based CRDT: Shapiro et al. 2011), so that an outcome counts
once however often books are exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sage.economy.belief import Beliefs, Fit, Sums
from sage.economy.context import Codebook, Context
from sage.economy.drift import Drift, trial_wait
from sage.types import Outcome, OutcomeSource

__all__ = ["SOURCE_WEIGHT", "TrustBook", "TrustRow"]

Floats = npt.NDArray[np.float64]

SOURCE_WEIGHT: Mapping[OutcomeSource, float] = {"verifier": 1.0, "user": 1.0, "agreement": 0.25, "self": 0.0}
"""How many outcomes one counts for. Agreement is weak evidence: two small models agree on 30 to 40 %
of questions only. A candidate's word about itself counts for nothing."""

RECENT = 4096
"""Event ids remembered, so that a report that comes twice counts once. The database remembers all."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrustRow:
    """What one node (``origin``) has seen of one candidate, as of ``at``.

    ``since``: when it began, which is the last reset; ``events``: outcomes learned since then, unfaded;
    ``total``: their faded weight; ``sums`` and ``weights`` (cells,): faded quality and weight per cell;
    ``drift``: whether the candidate has changed, as far as its own node can tell.
    """

    origin: str
    candidate: str
    since: float
    events: int
    at: float
    total: float
    sums: Floats
    weights: Floats
    drift: Drift = field(default_factory=Drift)

    @property
    def version(self) -> tuple[float, int]:
        """Of two copies of one row the one with the higher version is the newer."""
        return (self.since, self.events)


class TrustBook:
    """Evidence about all candidates, of this node (``origin``) and of those it was merged with.

    Size grows with candidates x cells and with origins, never with outcomes. ``half_life`` is in the
    unit of ``Outcome.at`` (seconds when serving); infinity never forgets.
    """

    def __init__(
        self,
        codebook: Codebook,
        *,
        origin: str,
        half_life: float,
        prior_strength: float,
        rows: Iterable[TrustRow] = (),
        resets: Mapping[str, float] | None = None,
    ) -> None:
        if not half_life > 0.0:
            raise ValueError(f"half_life must be positive, got {half_life!r}")
        self.codebook = codebook
        self.origin = origin
        self._half_life = half_life
        self._lines: dict[str, int] = {}
        self._names: list[str] = []
        self._since: list[float] = []
        self._events: list[int] = []
        self._drifts: list[Drift] = []
        self._choices = 0
        self._chosen_at: list[int] = []
        self._alarmed_at: list[int] = []
        """Counted in choices of this process: trials are spaced by them."""
        self._disgraced: set[int] = set()
        self._own = Sums.empty(0, codebook.cells)
        self._all = self._own
        """What all origins have seen, added up; the same object while there are no others."""
        self._priors = np.zeros(0)
        self._foreign: dict[tuple[str, str], TrustRow] = {}
        self._resets: dict[str, float] = {}
        self._recent: dict[str, None] = {}
        self._asked: Sequence[str] = ()
        self._asked_lines = np.zeros(0, np.intp)
        self._fit = Fit(codebook, prior_strength=prior_strength)
        self._merge(rows, resets or {})

    @property
    def resets(self) -> Mapping[str, float]:
        """When a candidate was last reset, for those that were."""
        return self._resets

    def beliefs(
        self,
        candidates: Sequence[str],
        context: Context,
        *,
        priors: Floats,
        shifts: Floats,
        now: float,
        families: npt.NDArray[np.intp] | None = None,
    ) -> Beliefs:
        """Expected quality of each candidate in a context; see :meth:`Fit.read`.

        Raises:
            ValueError: the context is of another codebook.
        """
        self._check_context(context)
        if candidates is not self._asked:  # a pool asks about the same candidates again and again
            self._asked, self._asked_lines = (
                candidates,
                np.array([self._line(n) for n in candidates], np.intp),
            )
        lines = self._asked_lines
        self._priors[lines] = priors
        return self._fit.read(
            self._all,
            lines,
            context,
            priors=priors,
            shifts=shifts,
            families=families,
            now=now,
            half_life=self._half_life,
        )

    def observe(self, outcome: Outcome, context: Context) -> bool:
        """Learn from one outcome; False, and no change, for self-praise or an event seen before.

        Trust keeps quality less ``outcome.shift``, which readers add again. An outcome that comes late
        counts as if it had come in time; one that is older than a half-life was timed by a clock that has
        been set back since, and counts as new.

        Raises:
            ValueError: a quality that is not a number in [0, 1], a time or shift that is not finite, or a
                context of another codebook.
        """
        if not 0.0 <= outcome.quality <= 1.0:
            raise ValueError(f"quality must be in [0, 1], got {outcome.quality!r}")
        if not (math.isfinite(outcome.at) and math.isfinite(outcome.shift)):
            raise ValueError(f"time and shift must be finite, got {outcome.at!r} and {outcome.shift!r}")
        self._check_context(context)
        weight = SOURCE_WEIGHT[outcome.source]
        if weight == 0.0 or outcome.event_id in self._recent:
            return False
        self._recent[outcome.event_id] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        line = self._line(outcome.candidate)
        value, at, half_life = outcome.quality - outcome.shift, outcome.at, self._half_life
        books = (self._own,) if self._all is self._own else (self._own, self._all)
        alarm = self._watch(line, outcome, context, weight, books)
        for evidence in books:
            evidence.learn(line, context, value, weight=weight, at=at, half_life=half_life)
        self._events[line] += 1
        priors = self._priors[: len(self._names)]
        if alarm:
            self._fit.refresh(self._all, priors=priors, now=at, half_life=half_life)
        else:
            self._fit.update(self._all, line, context, priors=priors, now=at, half_life=half_life)
        return True

    def outcomes(self, now: float) -> float:
        """The faded number of all outcomes there are."""
        count = len(self._names)
        kept = self._all.kept(slice(count), now, self._half_life)
        return float(kept @ self._all.total[:count])

    def chose(self, candidate: str) -> None:
        """A choice was made: trials of candidates in disgrace are spaced by choices."""
        self._choices += 1
        self._chosen_at[self._line(candidate)] = self._choices

    def due_for_trial(self, index: Mapping[str, int], mean: Floats) -> int | None:
        """The place of a candidate in disgrace that should be tried again, if one is due.

        ``index`` says where each candidate stands in ``mean``, what is believed of it; -inf may not be tried.
        Best where it would win if it were well again, so that a trial that succeeds was worth it.
        """
        due: list[tuple[int, int]] = []
        for line in self._disgraced:
            place = index.get(self._names[line])
            if place is None or mean[place] == -math.inf:
                continue
            late = self._choices - self._chosen_at[line]
            wait = trial_wait(self._choices - self._alarmed_at[line])
            would_win = mean[place] - self._drifts[line].level >= mean.max()
            if late >= wait and (would_win or late >= 3 * wait):
                due.append((late, place))
        return max(due)[1] if due else None

    def reset(self, candidate: str, at: float) -> None:
        """Forget a candidate, here and in every book that this one is merged into."""
        self._merge((), {candidate: max(at, math.nextafter(self._resets.get(candidate, 0.0), math.inf))})

    def merge(self, other: TrustBook) -> None:
        """Take over what the other book knows and this one does not.

        Raises:
            ValueError: the books have different codebooks: their cells mean different things.
        """
        if other.codebook.id != self.codebook.id:
            raise ValueError(f"the book is of codebook {other.codebook.id}, this one of {self.codebook.id}")
        self._merge(other.rows(), other.resets)

    def rows(self) -> list[TrustRow]:
        """Every row that holds evidence, of all origins."""
        return [row for row in map(self.row, self._names) if row] + list(self._foreign.values())

    def row(self, candidate: str) -> TrustRow | None:
        """What this node has seen of a candidate; None where it has seen nothing."""
        line = self._lines.get(candidate)
        if line is None or not self._events[line]:
            return None
        return TrustRow(
            origin=self.origin,
            candidate=candidate,
            since=self._since[line],
            events=self._events[line],
            at=float(self._own.at[line]),
            total=float(self._own.total[line]),
            sums=self._own.sums[line].copy(),
            weights=self._own.weights[line].copy(),
            drift=self._drifts[line],
        )

    def drift(self, candidate: str) -> Drift:
        """Whether a candidate has changed, as far as this node can tell."""
        line = self._lines.get(candidate)
        return Drift() if line is None else self._drifts[line]

    def _watch(
        self, line: int, outcome: Outcome, context: Context, weight: float, books: tuple[Sums, ...]
    ) -> bool:
        """Hold an outcome against what was expected; where a candidate has changed, move what is believed of
        it. True at an alarm."""
        expected = self._fit.read(
            self._all,
            np.array([line]),
            context,
            priors=self._priors[line : line + 1],
            shifts=np.array([outcome.shift]),
            families=None,
            now=outcome.at,
            half_life=self._half_life,
        )
        seen = self._drifts[line].see(
            expected=float(expected.mean[0]), quality=outcome.quality, weight=weight
        )
        self._set_drift(line, seen.state)
        if seen.move:
            for evidence in books:
                evidence.sums[line] += seen.move * evidence.weights[line]
        if seen.alarm:
            self._alarmed_at[line] = self._choices
        return seen.alarm

    def _set_drift(self, line: int, drift: Drift) -> None:
        self._drifts[line] = drift
        if drift.disgraced:
            self._disgraced.add(line)
        else:
            self._disgraced.discard(line)

    def _line(self, candidate: str) -> int:
        """The candidate's line; a new, empty one for a candidate that was never seen."""
        known = self._lines.get(candidate)
        if known is not None:
            return known
        line = self._lines[candidate] = len(self._names)
        self._names.append(candidate)
        self._since.append(self._resets.get(candidate, 0.0))
        self._events.append(0)
        self._drifts.append(Drift())
        self._chosen_at.append(self._choices)
        self._alarmed_at.append(self._choices)
        if line >= len(self._priors):
            room = max(8, 2 * line)
            alone = self._all is self._own
            self._own = self._own.resized(room)
            self._all = self._own if alone else self._all.resized(room)
            self._priors = np.concatenate([self._priors, np.full(room - len(self._priors), 0.5)])
            self._fit.resize(room)
        return line

    def _merge(self, rows: Iterable[TrustRow], resets: Mapping[str, float]) -> None:
        """The newer version of each row, none of them older than the last reset of its candidate."""
        for candidate, at in resets.items():
            self._resets[candidate] = max(at, self._resets.get(candidate, at))
        for row in rows:
            _check(row, self.codebook.cells)
            line = self._line(row.candidate)
            if row.origin == self.origin:
                if row.version > (self._since[line], self._events[line]):
                    self._since[line], self._events[line] = row.version
                    self._own.put(line, row.sums, row.weights, row.total, row.at)
                    self._set_drift(line, row.drift)
                continue
            known = self._foreign.get((row.origin, row.candidate))
            if known is None or known.version < row.version:
                self._foreign[row.origin, row.candidate] = row
        for candidate, at in self._resets.items():
            line = self._line(candidate)
            if self._since[line] < at:
                self._since[line], self._events[line] = at, 0
                self._own.scale(line, 0.0)
                self._set_drift(line, Drift())
        self._foreign = {
            key: row
            for key, row in self._foreign.items()
            if row.since >= self._resets.get(row.candidate, 0.0)
        }
        self._add_up()

    def _add_up(self) -> None:
        """What all origins have seen, and the fit of it."""
        self._all = self._own
        if self._foreign:
            self._all = self._own.resized(len(self._priors))
            for _, row in sorted(self._foreign.items()):
                line = self._line(row.candidate)
                self._all.fade(line, row.at, self._half_life)
                kept = math.exp2(min(0.0, row.at - float(self._all.at[line])) / self._half_life)
                # A change seen here holds for what others saw before it, too.
                moved = row.sums + self._drifts[line].level * row.weights
                self._all.put(
                    line,
                    self._all.sums[line] + kept * moved,
                    self._all.weights[line] + kept * row.weights,
                    float(self._all.total[line]) + kept * row.total,
                    float(self._all.at[line]),
                )
        count = len(self._names)
        now = float(self._all.at[:count].max(initial=0.0))
        self._fit.refresh(self._all, priors=self._priors[:count], now=now, half_life=self._half_life)

    def _check_context(self, context: Context) -> None:
        if context.codebook != self.codebook.id:
            raise ValueError(f"the context is of codebook {context.codebook}, not {self.codebook.id}")


def _check(row: TrustRow, cells: int) -> None:
    for numbers in (row.sums, row.weights):
        if numbers.shape != (cells,) or not np.isfinite(numbers).all():
            raise ValueError(f"the row of {row.candidate} needs {cells} finite sums and as many weights")
    if not (math.isfinite(row.at) and math.isfinite(row.total) and row.total >= 0.0 and row.events >= 0):
        raise ValueError(f"the row of {row.candidate} holds numbers that cannot be")
    if (row.weights < 0.0).any() or (np.abs(row.sums) > 3.0 * row.weights + 1e-9).any():
        raise ValueError(f"the row of {row.candidate} holds sums beyond its weights")
