"""Why this one, and what would have changed it: the words of a decision.

Owns: the sentences, and how much better a loser had to be. Must not know: how scores come about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sage.economy.pool import LOADS_IN
from sage.types import CandidateScore, DecisionMode, PriceUnit, Rule

__all__ = ["UNITS", "expertise_to_win", "price_to_win", "reason"]


UNITS: Mapping[PriceUnit, str] = {"atp": "ATP", "seconds": "s", "tokens": "tokens", "usd": "USD"}
"""What stands behind a price."""


def expertise_to_win(score: CandidateScore, target: float, rule: Rule) -> float:
    """The expertise at which this candidate would reach the permission ``target``; above 1: none would."""
    if rule.form == "additive":
        return target - (score.permission - score.expertise)
    return target / (score.cheapness * score.persistence)


def price_to_win(score: CandidateScore, target: float, rule: Rule) -> float:
    """The price at which it would; negative: not even for nothing."""
    if rule.form == "additive":
        return score.price + (score.permission - target) * rule.scale
    if target <= 0.0 or math.isinf(rule.scale):  # at such a dial the price does not matter
        return math.inf if score.permission >= target else -math.inf
    return score.price + rule.scale * (score.expertise * score.persistence / target - 1.0 / score.cheapness)


def reason(
    scores: Sequence[CandidateScore], chosen: CandidateScore, mode: DecisionMode, kind: str, rule: Rule
) -> str:
    """A few sentences. ``scores`` are best first; ``chosen`` need not be the first."""
    return _choice(scores, chosen, mode, kind, rule) + _loading(scores, chosen, mode, rule)


def _choice(
    scores: Sequence[CandidateScore], chosen: CandidateScore, mode: DecisionMode, kind: str, rule: Rule
) -> str:
    if mode == "pinned":
        return f"{chosen.name} was asked for by name (permission {chosen.permission:.2f})."
    first = scores[0]
    if len(scores) == 1:
        return f"{first.name} is the only candidate for {kind} (permission {first.permission:.2f})."
    if mode == "explore":
        return (
            f"{chosen.name} is tried instead of {first.name}, to learn: its quality here is uncertain "
            f"({chosen.expertise:.2f} ± {chosen.sd:.2f} against {first.expertise:.2f} ± {first.sd:.2f}), and "
            f"trying costs {max(0.0, chosen.est_atp - first.est_atp):.1f} ATP more."
        )
    if mode == "light":
        return (
            f"{chosen.name} instead of {first.name}: a close race ({chosen.permission:.3f} against "
            f"{first.permission:.3f}), and it is lighter."
        )
    if mode == "relative":
        return (
            f"{chosen.name} instead of its relative {first.name}, which is not trusted at {kind} "
            f"({first.expertise:.2f} against {chosen.expertise:.2f})."
        )
    return _race(first, scores[1], kind, rule)


def _loading(scores: Sequence[CandidateScore], chosen: CandidateScore, mode: DecisionMode, rule: Rule) -> str:
    """What memory had to do with it: a load that earlier requests have paid, or one that is not worth it."""
    if mode not in ("permission", "light"):
        return ""
    if chosen.saved > 0.0:
        share = chosen.saved / (chosen.saved + chosen.load)
        return f" Earlier requests that missed it have paid {share:.0%} of its load."
    better = [s for s in scores if not s.resident and s.warm > chosen.warm and s.name != chosen.name]
    if chosen.resident and better:
        best = max(better, key=lambda score: score.warm)
        pushes = f", which would push out {' and '.join(best.displaces)}," if best.displaces else ""
        return (
            f" {best.name} would do it better once loaded ({best.warm:.2f} against {chosen.warm:.2f}), but "
            f"loading it{pushes} counts for {best.load:.1f} {UNITS[LOADS_IN[rule.unit]]} now."
        )
    return ""


def _race(first: CandidateScore, second: CandidateScore, kind: str, rule: Rule) -> str:
    if first.permission == second.permission:
        return f"{first.name} and {second.name} are level ({first.permission:.4f}); the cheaper goes first."
    factors = {
        f"it is trusted more at {kind} ({first.expertise:.2f} against {second.expertise:.2f})": (
            first.expertise / max(second.expertise, 1e-9)
        ),
        f"it is cheaper ({first.price:.3g} against {second.price:.3g} {UNITS[rule.unit]})": (
            first.cheapness / max(second.cheapness, 1e-9)
        ),
        "it is already loaded": first.persistence / second.persistence,
    }
    why = max(factors, key=lambda text: factors[text])
    turn = expertise_to_win(second, first.permission, rule)
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
