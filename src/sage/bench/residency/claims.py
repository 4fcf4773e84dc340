"""What SAGE claims of itself under a memory budget, held against the figures.

Owns: the claims, and when one is met. Must not know: how figures come about.

A claim is judged on means over seeds, and says in how many seeds it would have held by itself. What differs
by less than ``TIE`` is neither above nor below. Loads are held against Belady's only at equal quality:
who answers worse may well load less.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["CLAIMS", "ONLINE", "Judged", "Verdict", "claims_table", "judge", "not_met"]

Verdict = Literal["met", "tied", "missed", "unequal"]
"""``unequal``: not judged, for the quality is not equal."""

Figures = Mapping[str, float]

ONLINE = ("lru_knn", "keepalive", "min_evict_cost", "gdsf")
"""Rivals that do not know the future."""

ROUTER = "lru_knn"

BOUND = "belady"
"""The router's choices with the fewest loads."""

NEAR = 1.3
"""Times the loads of ``BOUND``."""

EQUAL = 0.01
"""A point of quality: answers are as good as others' when they are no further below them."""

TIE = 0.005
"""Share by which quality a second must differ to be called above or below."""

CLAIMS: Mapping[str, str] = {
    "budget": "models in memory never take more than the budget",
    "fewest": f"swaps at most {NEAR} x belady's, at equal quality; elsewhere not judged (~)",
    "equal": "quality equal to the router's, which is belady's too: at most a point below",
    "swaps": f"fewer swaps than each of {', '.join(ONLINE)}",
    "single": "more quality a second than best_single_resident",
    "lru": "more quality a second than lru_knn",
    "keepalive": "more quality a second than keepalive",
}

MARKS: Mapping[Verdict, str] = {"missed": "-", "tied": "=", "unequal": "~"}

RIVALS = {"single": "best_single_resident", "lru": "lru_knn", "keepalive": "keepalive"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """``ours`` against ``theirs`` on average; ``seeds``, in how many the claim holds by itself."""

    policy: str
    claim: str
    verdict: Verdict
    ours: float
    theirs: float
    seeds: int


def judge(runs: Mapping[str, Sequence[Figures]], policy: str) -> list[Judged]:
    """Every claim of this policy on one stream, from the figures of every policy, by seed in order."""
    own, bound, router = runs[policy], runs[BOUND], runs[ROUTER]
    peers = [min((runs[name][seed] for name in ONLINE), key=lambda f: f["swaps"]) for seed in range(len(own))]
    pairs = {
        "budget": [(f["budget_violations"], 0.0) for f in own],
        "fewest": [(f["swaps"], NEAR * b["swaps"]) for f, b in zip(own, bound, strict=True)],
        "equal": [(f["quality"], r["quality"] - EQUAL) for f, r in zip(own, router, strict=True)],
        "swaps": [(f["swaps"], p["swaps"]) for f, p in zip(own, peers, strict=True)],
        **{
            claim: [(f["quality_per_s"], r["quality_per_s"]) for f, r in zip(own, runs[rival], strict=True)]
            for claim, rival in RIVALS.items()
        },
    }
    judged = {claim: _judged(policy, claim, pairs[claim]) for claim in CLAIMS}
    near, equal = judged["fewest"], judged["equal"].verdict == "met"
    both = zip(pairs["fewest"], pairs["equal"], strict=True)
    judged["fewest"] = replace(
        near,
        verdict=near.verdict if equal else "unequal",
        seeds=sum(_verdict("fewest", *f) == _verdict("equal", *e) == "met" for f, e in both),
    )
    return list(judged.values())


def claims_table(judged: Mapping[str, Sequence[Judged]]) -> list[dict[str, Any]]:
    """A line for each policy and claim, a column for each stream: the verdict, and where it is not met what
    stands against what."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for stream, verdicts in judged.items():
        for each in verdicts:
            line = lines.setdefault((each.policy, each.claim), {"policy": each.policy, "claim": each.claim})
            against = "" if each.verdict == "met" else f" {each.ours:.3g}:{each.theirs:.3g}"
            line[stream] = each.verdict + against
    return [lines[key] for key in sorted(lines, key=lambda key: key[0])]


def not_met(judged: Sequence[Judged]) -> str:
    """The claims that were missed (-), tied (=) or not judged (~)."""
    marks = [f"{each.claim} {MARKS[each.verdict]}" for each in judged if each.verdict != "met"]
    return ", ".join(marks) or "none"


def _judged(policy: str, claim: str, pairs: Sequence[tuple[float, float]]) -> Judged:
    ours, theirs = (statistics.fmean(side) for side in zip(*pairs, strict=True))
    return Judged(
        policy=policy,
        claim=claim,
        verdict=_verdict(claim, ours, theirs),
        ours=round(ours, 5),
        theirs=round(theirs, 5),
        seeds=sum(_verdict(claim, *pair) == "met" for pair in pairs),
    )


def _verdict(claim: str, ours: float, theirs: float) -> Verdict:
    match claim:
        case "budget" | "fewest":
            return "met" if ours <= theirs else "missed"
        case "equal":
            return "met" if ours >= theirs else "missed"
        case "swaps":
            return "met" if ours < theirs else "tied" if ours == theirs else "missed"
        case _:
            if abs(ours - theirs) <= TIE * theirs:
                return "tied"
            return "met" if ours > theirs else "missed"
