"""Hard needs: who may do the work at all, and the error when nobody may.

Owns: the filters and what each says. Must not know: trust or permission.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sage.economy.pool import Pool
from sage.economy.regime import keep_cheapest
from sage.errors import (
    BudgetSpent,
    ContextTooLong,
    DeadlineExceeded,
    DoesNotFit,
    NoCandidate,
    SageError,
    WeightsMissing,
)
from sage.types import Situation

__all__ = ["Limits", "Rejection", "allowed", "nobody", "why_not"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What may be spent now: ATP of ``capacity`` at most, and bytes of memory for models (idle ones that are
    loaded can make room; ``free_bytes`` are free without that). Exploring may cost ``explore_atp`` beyond the
    winner's price. Only so many ``candidates`` may be chosen from, the cheapest; None: all."""

    atp: float
    capacity: float
    memory_bytes: int
    free_bytes: int = 2**62
    explore_atp: float = 0.0
    candidates: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why one candidate may not."""

    error: type[SageError]
    why: str
    mend: str = ""


def allowed(situation: Situation, pool: Pool, limits: Limits) -> npt.NDArray[np.bool_]:
    """Who meets every hard need, as a mask over the pool."""
    ok = pool.open & pool.able(situation.needs)
    ok &= situation.prompt_tokens < pool.context_length
    ok &= pool.resident | (pool.memory_bytes <= limits.memory_bytes)
    if limits.atp < limits.capacity:
        # What costs more than a full budget could never be chosen: with a full one it may be tried.
        ok &= pool.atp <= limits.atp
    if situation.max_atp is not None:
        ok &= pool.atp <= situation.max_atp
    if situation.max_usd is not None:
        ok &= pool.prices["usd"] <= situation.max_usd
    if situation.deadline_s is not None:
        ok &= pool.prices["seconds"] <= situation.deadline_s
    return keep_cheapest(ok, pool.atp, limits.candidates)


def why_not(situation: Situation, pool: Pool, limits: Limits, index: int) -> Rejection:
    """The first hard need that a candidate outside :func:`allowed` does not meet."""
    candidate = pool.candidates[index]
    if failure := pool.unavailable.get(index):
        return Rejection(error=type(failure), why=failure.message, mend=failure.mend)
    if missing := sorted(situation.needs - candidate.capabilities):
        return Rejection(error=NoCandidate, why=f"cannot do {', '.join(missing)}")
    tokens = situation.prompt_tokens
    if tokens >= candidate.context_length:
        return Rejection(
            error=ContextTooLong,
            why=f"the prompt takes about {tokens} tokens, its context holds {candidate.context_length}",
            mend="Shorten the prompt, or raise models.context",
        )
    if not candidate.resident and candidate.memory_bytes > limits.memory_bytes:
        need, free = candidate.memory_bytes / 1e6, limits.memory_bytes / 1e6
        return Rejection(
            error=DoesNotFit,
            why=f"needs {need:.0f} MB of memory, {free:.0f} MB are free for models",
            mend="Free memory, lower models.context, or raise models.memory_limit_gb where it is set",
        )
    atp = float(pool.atp[index])
    if atp > limits.atp and limits.atp < limits.capacity:
        return Rejection(
            error=BudgetSpent,
            why=f"would cost about {atp:.1f} ATP, {limits.atp:.1f} are left",
            mend="Wait until ATP have recovered, or raise atp.capacity or atp.recovery_per_s",
        )
    if situation.max_atp is not None and atp > situation.max_atp:
        return Rejection(
            error=BudgetSpent,
            why=f"would cost about {atp:.1f} ATP, this request may cost {situation.max_atp:.1f}",
            mend="Allow more ATP for this request",
        )
    if situation.max_usd is not None and candidate.est_usd > situation.max_usd:
        return Rejection(
            error=BudgetSpent,
            why=f"would cost about ${candidate.est_usd:.4f}, this request may cost ${situation.max_usd:.4f}",
            mend="Allow more money for this request",
        )
    seconds = float(pool.prices["seconds"][index])
    if situation.deadline_s is not None and seconds > situation.deadline_s:
        return Rejection(
            error=DeadlineExceeded,
            why=f"would take about {seconds:.1f} s, the deadline is {situation.deadline_s:.1f} s",
            mend="Allow more time",
        )
    return Rejection(
        error=NoCandidate,
        why=f"only the {limits.candidates} cheapest may answer in this state",
        mend="sage state",
    )


def nobody(rejected: Mapping[str, Rejection], pinned: str | None) -> SageError:
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
