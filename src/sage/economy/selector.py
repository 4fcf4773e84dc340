"""Who should do this work: filter by hard needs, then rank by permission.

Owns: the filters, the ranking, and the reason given for it.
Must not know: clocks, files, processes; it sees candidates and a trust book, and returns a decision.

Cost grows linearly with candidates; history does not enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sage.economy.ledger import price
from sage.economy.permission import cheapness, permission, persistence
from sage.economy.trust import TrustBook
from sage.errors import (
    BudgetSpent,
    ContextTooLong,
    DeadlineExceeded,
    DoesNotFit,
    ModelNotFound,
    NoCandidate,
    SageError,
    WeightsMissing,
    did_you_mean,
)
from sage.types import Candidate, CandidateScore, Decision, DecisionMode, Situation

__all__ = ["Limits", "Selector"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What may be spent now: ATP of ``capacity`` at most, and bytes of memory for models (idle ones that are
    loaded can make room)."""

    atp: float
    capacity: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rejection:
    error: type[SageError]
    why: str
    mend: str = ""


class Selector:
    """Chooses among candidates. Stateless: what it learned is in the trust book it is given."""

    def __init__(self, *, hot_bonus: float, price_scale: float) -> None:
        self._hot_bonus = hot_bonus
        self._price_scale = price_scale

    def choose(
        self,
        situation: Situation,
        candidates: Sequence[Candidate],
        trust: TrustBook,
        *,
        limits: Limits,
        now: float,
        pinned: str | None = None,
    ) -> Decision:
        """Rank the candidates. With ``pinned``, only that one may be chosen.

        Raises:
            NoCandidate: nothing to choose from, or several filters removed everyone.
            ContextTooLong, DoesNotFit, BudgetSpent, DeadlineExceeded: one filter removed everyone.
            ModelNotFound: the pinned name is not among the candidates.
        """
        if pinned is not None and all(c.name != pinned for c in candidates):
            hint = did_you_mean(pinned, [c.name for c in candidates])
            raise ModelNotFound(f"No model is called {pinned!r}.{hint}", mend="sage models list")
        rejected: dict[str, _Rejection] = {}
        scores: list[CandidateScore] = []
        for candidate in candidates:
            score = self._score(situation, candidate, trust, now)
            rejection = _reject(situation, candidate, score, limits)
            if rejection is None and pinned not in (None, candidate.name):
                rejection = _Rejection(error=NoCandidate, why="another model was asked for")
            if rejection:
                rejected[candidate.name] = rejection
            else:
                scores.append(score)
        if not scores:
            raise _nobody(rejected, pinned)
        scores.sort(key=lambda s: (-s.permission, s.est_atp, s.name))
        mode: DecisionMode = "pinned" if pinned else "permission"
        return Decision(
            chosen=scores[0].name,
            mode=mode,
            reason=_pinned_reason(scores[0]) if pinned else _reason(scores, situation.kind),
            kind=situation.kind,
            candidates=tuple(scores),
            excluded={name: rejection.why for name, rejection in rejected.items()},
        )

    def _score(
        self, situation: Situation, candidate: Candidate, trust: TrustBook, now: float
    ) -> CandidateScore:
        belief = trust.belief(candidate.name, situation.kind, candidate.prior, now)
        atp = price(seconds=candidate.est_load_s, bytes_moved=candidate.load_bytes)
        atp += price(seconds=candidate.est_run_s)
        cheap = cheapness(atp, scale=self._price_scale)
        persist = persistence(candidate.resident, hot_bonus=self._hot_bonus)
        return CandidateScore(
            name=candidate.name,
            expertise=belief.mean,
            cheapness=cheap,
            persistence=persist,
            permission=permission(belief.mean, cheap, persist),
            resident=candidate.resident,
            est_load_s=candidate.est_load_s,
            est_run_s=candidate.est_run_s,
            est_atp=atp,
            evidence=belief.evidence,
        )


def _reject(
    situation: Situation, candidate: Candidate, score: CandidateScore, limits: Limits
) -> _Rejection | None:
    """The first hard need this candidate does not meet."""
    if candidate.unavailable:
        failure = candidate.unavailable
        return _Rejection(error=type(failure), why=failure.message, mend=failure.mend)
    missing = sorted(situation.needs - candidate.capabilities)
    if missing:
        return _Rejection(error=NoCandidate, why=f"cannot do {', '.join(missing)}")
    tokens = situation.prompt_tokens
    if tokens >= candidate.context_length:
        return _Rejection(
            error=ContextTooLong,
            why=f"the prompt takes about {tokens} tokens, its context holds {candidate.context_length}",
            mend="Shorten the prompt, or raise models.context",
        )
    if not candidate.resident and candidate.memory_bytes > limits.memory_bytes:
        need, free = candidate.memory_bytes / 1e6, limits.memory_bytes / 1e6
        return _Rejection(
            error=DoesNotFit,
            why=f"needs {need:.0f} MB of memory, {free:.0f} MB are free for models",
            mend="Free memory, lower models.context, or raise models.memory_limit_gb where it is set",
        )
    # What costs more than a full budget could never be chosen: with a full one it may be tried.
    if score.est_atp > limits.atp and limits.atp < limits.capacity:
        return _Rejection(
            error=BudgetSpent,
            why=f"would cost about {score.est_atp:.1f} ATP, {limits.atp:.1f} are left",
            mend="Wait until ATP have recovered, or raise atp.capacity or atp.recovery_per_s",
        )
    seconds = candidate.est_load_s + candidate.est_run_s
    if situation.deadline_s is not None and seconds > situation.deadline_s:
        return _Rejection(
            error=DeadlineExceeded,
            why=f"would take about {seconds:.1f} s, the deadline is {situation.deadline_s:.1f} s",
            mend="Allow more time",
        )
    return None


def _nobody(rejected: dict[str, _Rejection], pinned: str | None) -> SageError:
    """The error for an empty field: typed by the filter when one filter removed everyone."""
    if pinned:
        rejected = {pinned: rejected[pinned]}
    if not rejected:
        return NoCandidate("There is no model to choose from.", mend="sage models pull")
    # A model that was never pulled is no reason, unless it was asked for or none was pulled.
    here = {name: r for name, r in rejected.items() if r.error is not WeightsMissing}
    causes = [r.error for r in (here or rejected).values()]
    first = next(iter((here or rejected).values()))
    error, mend = (first.error, first.mend) if len(set(causes)) == 1 else (NoCandidate, "sage models list")
    if error is WeightsMissing and not pinned:
        mend = "sage models pull"
    lines = "; ".join(f"{name}: {r.why}" for name, r in rejected.items())
    return error(f"{f'{pinned} cannot' if pinned else 'No model can'} do this. {lines}.", mend=mend)


def _pinned_reason(score: CandidateScore) -> str:
    return f"{score.name} was asked for by name (permission {score.permission:.2f})."


def _reason(scores: Sequence[CandidateScore], kind: str) -> str:
    """Why the first beats the second, in one sentence, and what would have changed it."""
    first = scores[0]
    if len(scores) == 1:
        return f"{first.name} is the only candidate for {kind} (permission {first.permission:.2f})."
    second = scores[1]
    factors = {
        f"it is trusted more at {kind} ({first.expertise:.2f} against {second.expertise:.2f})": (
            first.expertise / max(second.expertise, 1e-9)
        ),
        f"it is cheaper ({first.est_atp:.1f} against {second.est_atp:.1f} ATP)": (
            first.cheapness / second.cheapness
        ),
        "it is already loaded": first.persistence / second.persistence,
    }
    why = max(factors, key=lambda text: factors[text])
    turn = first.permission / (second.cheapness * second.persistence)
    change = (
        f"with expertise above {turn:.2f}, {second.name} would have been chosen"
        if turn < 1.0
        else f"no amount of expertise would have made {second.name} win at this price"
    )
    digits = 2 if round(first.permission, 2) != round(second.permission, 2) else 4
    return (
        f"{first.name} before {second.name} "
        f"({first.permission:.{digits}f} against {second.permission:.{digits}f}): {why}; {change}."
    )
