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
from dataclasses import dataclass, field, replace

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

FITTED = 512
"""Outcomes after which all evidence is fitted anew, besides after 1, 2, 4, 8 ..."""

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
        self._disgraced: set[int] = set()
        self._own = Sums.empty(0, codebook.cells)
        self._all = self._own
        """What all origins have seen, added up; the same object while there are no others."""
        self._priors = np.zeros(0)
        self._foreign: dict[str, dict[str, TrustRow]] = {}
        """By candidate and origin."""
        self._others: dict[str, TrustRow] = {}
        """The same, added up over origins: learning does not walk through them."""
        self._resets: dict[str, float] = {}
        self._recent: dict[str, None] = {}
        self._asked: tuple[str, ...] = ()
        self._asked_lines: slice | npt.NDArray[np.intp] = slice(0)
        self._fit = Fit(codebook, prior_strength=prior_strength)
        self._stale = False
        """Whether all evidence is to be fitted anew before it is read."""
        self._learned = 0
        """Outcomes of all candidates since their resets."""
        self._merge(rows, resets or {})

    @property
    def resets(self) -> Mapping[str, float]:
        """When a candidate was last reset, for those that were."""
        return self._resets

    def beliefs(
        self,
        candidates: tuple[str, ...],
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
            self._asked = candidates
            lines = [self._line(name) for name in candidates]
            whole = lines == list(range(len(lines)))
            self._asked_lines = slice(len(lines)) if whole else np.array(lines, np.intp)
        self._priors[self._asked_lines] = priors
        self._refresh(now)
        return self._fit.read(
            self._all,
            self._asked_lines,
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
        counts as if it had come in time; see :meth:`Sums.learn` for clocks that jump.

        Raises:
            ValueError: a quality that is not a number in [0, 1], a shift beyond 1, a time that is not finite,
                or a context of another codebook.
        """
        if not 0.0 <= outcome.quality <= 1.0:
            raise ValueError(f"quality must be in [0, 1], got {outcome.quality!r}")
        if not (math.isfinite(outcome.at) and -1.0 <= outcome.shift <= 1.0):
            raise ValueError(
                f"the time must be finite, the shift in [-1, 1]: {outcome.at!r}, {outcome.shift!r}"
            )
        self._check_context(context)
        weight = SOURCE_WEIGHT[outcome.source]
        if weight == 0.0 or outcome.event_id in self._recent:
            return False
        self._recent[outcome.event_id] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        line = self._line(outcome.candidate)
        self._refresh(outcome.at)
        self._watch(line, outcome, context, weight)
        value, at, half_life = outcome.quality - outcome.shift, outcome.at, self._half_life
        self._own.learn(line, context, value, weight=weight, at=at, half_life=half_life)
        self._events[line] += 1
        if self._all is not self._own:
            self._add_up(line)
        # The small steps of learning go a little astray while there is little evidence.
        self._learned += 1
        self._stale |= self._learned % FITTED == 0 or self._learned & (self._learned - 1) == 0
        if not self._stale:
            priors = self._priors[: len(self._names)]
            self._fit.update(self._all, line, context, priors=priors, now=at, half_life=half_life)
        return True

    def due_for_trial(self, index: Mapping[str, int], mean: Floats) -> int | None:
        """The place of a candidate in disgrace that should be tried again, if one is due.

        ``index`` says where each candidate stands in ``mean``, what is believed of it; -inf may not be tried.
        Best where it would win if it were well again, so that a trial that succeeds was worth it.
        """
        due: list[tuple[float, int]] = []
        for line in self._disgraced:
            place, drift = index.get(self._names[line]), self._drifts[line]
            if place is None or mean[place] == -math.inf:
                continue
            late = self._learned - drift.last
            wait = trial_wait(self._learned - drift.alarmed)
            would_win = mean[place] - min(0.0, drift.level) >= mean.max()
            if late >= wait and (would_win or late >= 3 * wait):
                due.append((late, place))
        return max(due)[1] if due else None

    def reset(self, candidate: str, at: float) -> None:
        """Forget a candidate, here and in every book that this one is merged into.

        Raises:
            ValueError: a time that is not finite.
        """
        if not math.isfinite(at):
            raise ValueError(f"a reset needs a time, got {at!r}")
        self._merge((), {candidate: max(at, math.nextafter(self._resets.get(candidate, 0.0), math.inf))})

    def merge(self, other: TrustBook, *, now: float = math.inf) -> None:
        """Take over what the other book knows and this one does not.

        What a node says of a time after ``now`` counts as of now: a clock that is ahead must not make what is
        known here look old.

        Raises:
            ValueError: the books have different codebooks: their cells mean different things.
        """
        if other.codebook.id != self.codebook.id:
            raise ValueError(f"the book is of codebook {other.codebook.id}, this one of {self.codebook.id}")
        rows = [row if row.at <= now else replace(row, at=now) for row in other.rows()]
        self._merge(rows, {name: min(at, now) for name, at in other.resets.items()})

    def rows(self) -> list[TrustRow]:
        """Every row that holds evidence, of all origins."""
        own = [row for row in map(self.row, self._names) if row]
        return own + [row for rows in self._foreign.values() for row in rows.values()]

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
            sums=self._own.sums[:, line].copy(),
            weights=self._own.weights[:, line].copy(),
            drift=self._drifts[line],
        )

    def drift(self, candidate: str) -> Drift:
        """Whether a candidate has changed, as far as this node can tell."""
        line = self._lines.get(candidate)
        return Drift() if line is None else self._drifts[line]

    def _watch(self, line: int, outcome: Outcome, context: Context, weight: float) -> None:
        """Hold an outcome against what was expected; where a candidate has changed, move what is believed of
        it."""
        prior = float(self._priors[line])
        expected = self._fit.expect(
            self._all,
            line,
            context,
            prior=prior,
            shift=outcome.shift,
            now=outcome.at,
            half_life=self._half_life,
        )
        old = self._drifts[line]
        seen = old.see(expected=expected, quality=outcome.quality, weight=weight)
        alarmed = float(self._learned) if seen.alarm else old.alarmed
        self._set_drift(line, replace(seen.state, last=float(self._learned), alarmed=alarmed))
        if seen.move:
            self._own.sums[:, line] += seen.move * self._own.weights[:, line]
        self._stale |= seen.alarm

    def _refresh(self, now: float) -> None:
        """Fit all evidence anew where it has changed by more than an outcome."""
        if self._stale:
            self._stale = False
            priors = self._priors[: len(self._names)]
            self._fit.refresh(self._all, priors=priors, now=now, half_life=self._half_life)

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
            others = self._foreign.setdefault(row.candidate, {})
            if row.origin not in others or others[row.origin].version < row.version:
                others[row.origin] = row
        for candidate, at in self._resets.items():
            line = self._line(candidate)
            if self._since[line] < at:
                self._since[line], self._events[line] = at, 0
                self._own.scale(line, 0.0)
                self._set_drift(line, Drift())
            kept = {o: row for o, row in self._foreign.pop(candidate, {}).items() if row.since >= at}
            if kept:
                self._foreign[candidate] = kept
        self._others = {
            candidate: _together([rows[origin] for origin in sorted(rows)], self._half_life)
            for candidate, rows in self._foreign.items()
        }
        self._all = self._own.resized(len(self._priors)) if self._foreign else self._own
        for candidate in self._foreign:
            self._add_up(self._line(candidate))
        self._learned = sum(self._events)
        self._stale = True

    def _add_up(self, line: int) -> None:
        """What all origins have seen of one candidate."""
        known = (self.row(self._names[line]), self._others.get(self._names[line]))
        both = _together([row for row in known if row], self._half_life)
        self._all.put(line, both.sums, both.weights, both.total, both.at)

    def _check_context(self, context: Context) -> None:
        if context.codebook != self.codebook.id:
            raise ValueError(f"the context is of codebook {context.codebook}, not {self.codebook.id}")


def _together(rows: Sequence[TrustRow], half_life: float) -> TrustRow:
    """What several origins have seen of one candidate, as one row, as of the newest.

    Each has moved its sums by the changes that it noticed; together, all are moved by the level that the
    newest of those that noticed any says.
    """
    at = max(row.at for row in rows)
    noticed = max((row for row in rows if row.drift.alarms), key=lambda row: row.at, default=None)
    drift = noticed.drift if noticed else Drift()
    kept = [math.exp2((row.at - at) / half_life) for row in rows]
    each = list(zip(kept, rows, strict=True))
    zero = np.zeros_like(rows[0].sums)
    return TrustRow(
        origin="",
        candidate=rows[0].candidate,
        since=max(row.since for row in rows),
        events=sum(row.events for row in rows),
        at=at,
        total=sum(k * row.total for k, row in each),
        sums=sum(
            (k * (row.sums + (drift.level - row.drift.level) * row.weights) for k, row in each), start=zero
        ),
        weights=sum((k * row.weights for k, row in each), start=zero),
        drift=drift,
    )


def _check(row: TrustRow, cells: int) -> None:
    for numbers in (row.sums, row.weights):
        if numbers.shape != (cells,) or not np.isfinite(numbers).all():
            raise ValueError(f"the row of {row.candidate} needs {cells} finite sums and as many weights")
    times = math.isfinite(row.at) and math.isfinite(row.since)
    if not (times and math.isfinite(row.total) and row.total >= 0.0 and row.events >= 0):
        raise ValueError(f"the row of {row.candidate} holds numbers that cannot be")
    if (row.weights < 0.0).any() or (np.abs(row.sums) > 3.0 * row.weights + 1e-9).any():
        raise ValueError(f"the row of {row.candidate} holds sums beyond its weights")
