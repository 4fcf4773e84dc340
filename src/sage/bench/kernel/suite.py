"""`sage bench kernel`, second part: what each part of the kernel buys, on the same simulated lives.

Owns: the figures of a life, paired differences to the full kernel, and what they say in words.
Must not know: how a life is played, or what a variant leaves out.

Every seed is another person. A difference is taken within a person, and its interval (Student's t, 99 %) is
over persons: about one difference in a hundred lies outside by chance alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sage.bench.kernel.person import TYPES, live
from sage.bench.kernel.play import Life, play
from sage.bench.kernel.variants import FULL, VARIANTS, Variant

__all__ = ["FIGURES", "Difference", "difference", "figures", "measure_parts", "verdict"]

FIGURES = {
    "right %": "requests answered right; what was refused is not",
    "ATP": "ATP of a request",
    "p95 wait s": "simulated seconds from when a request came until its answer, that 95 % stay below",
    "urgent wait s": "the same of urgent requests, on average",
    "refused %": "requests refused",
    "tokens": "of memory given to models for a request, over all drafts",
    "drafts": "of a request",
    "kept": "messages that may be brought back in the end, of all that were said, percent",
}
"""What is measured of a life, beside the right answers of each type."""

BETTER_HIGH = frozenset({"right %", *TYPES})
COUNTED = ("right %", *TYPES, "ATP", "p95 wait s", "urgent wait s", "refused %", "tokens", "kept")
"""What a part may buy."""

T99 = (
    *(63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.25, 3.169, 3.106, 3.055, 3.012, 2.977),
    *(2.947, 2.921, 2.898, 2.878, 2.861),
)
"""Two-sided 99 % points of Student's t, for 1 degree of freedom and more; beyond them, the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The mean over seeds of (without the part) - (full), and half of its interval."""

    mean: float
    half: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return abs(self.mean) > self.half

    def __str__(self) -> str:
        return f"{self.mean:+.3g} \u00b1{self.half:.2g}" if math.isfinite(self.half) else "unknown"


def measure_parts(
    *, seeds: int, days: int, progress: Callable[[str], None], variants: Sequence[Variant] = VARIANTS
) -> list[dict[str, Any]]:
    """A row for each variant (``what`` = ``part``: figures, and changes to ``full`` with intervals) and one
    for each type of request (``what`` = ``type``: right answers of ``full``, and the change by variant)."""
    lives: dict[str, list[dict[str, float]]] = {}
    asked = [live(seed, days=days) for seed in range(seeds)]
    for variant in variants:
        progress(f"{variant.name}: {variant.meaning}")
        lives[variant.name] = [figures(play(asks, variant, seed=n)) for n, asks in enumerate(asked)]
    full = lives[FULL.name]
    rows: list[dict[str, Any]] = []
    apart = {
        name: {key: difference(_of(key, mine), _of(key, full)) for key in full[0]}
        for name, mine in lives.items()
        if name != FULL.name
    }
    for name, mine in lives.items():
        changes = apart.get(name, {})
        row: dict[str, Any] = {"what": "part", "variant": name}
        row |= {key: _rounded(_of(key, mine)) for key in FIGURES}
        row |= {f"{key} change": str(changes[key]) if changes else "" for key in FIGURES}
        rows.append(row | {"verdict": verdict(changes) if changes else ""})
    for kind in TYPES:
        count = sum(ask.type == kind for asks in asked for ask in asks)
        row = {"what": "type", "type": kind, "requests": count, "full": _rounded(_of(kind, full))}
        rows.append(row | {name: str(changes[kind]) for name, changes in apart.items()})
    return rows


def figures(life: Life) -> dict[str, float]:
    """The figures of one life by name: :data:`FIGURES`, and the percentage right of each type of request (NaN
    where none was asked)."""
    count = len(life.done)
    waits = sorted(done.wait_s for done in life.done)
    found = {
        "right %": 100.0 * sum(done.right for done in life.done) / count,
        "ATP": sum(done.atp for done in life.done) / count,
        "p95 wait s": waits[math.ceil(0.95 * count) - 1],
        "urgent wait s": statistics.mean(
            [done.wait_s for done in life.done if done.type == "urgent"] or [math.nan]
        ),
        "refused %": 100.0 * sum(done.refused for done in life.done) / count,
        "tokens": sum(done.given for done in life.done) / count,
        "drafts": sum(done.drafts for done in life.done) / count,
        "kept": 100.0 * life.kept / max(1, life.messages),
    }
    for kind in TYPES:
        right = [done.right for done in life.done if done.type == kind]
        found[kind] = 100.0 * sum(right) / len(right) if right else math.nan
    return found


def difference(without: Sequence[float], full: Sequence[float]) -> Difference:
    """Paired, over the seeds for which both are known. Of a single one, nobody knows the interval."""
    pairs = [a - b for a, b in zip(without, full, strict=True) if not math.isnan(a - b)]
    mean = statistics.mean(pairs) if pairs else 0.0
    if len(pairs) < 2:
        return Difference(mean=mean, half=math.inf)
    half = T99[min(len(pairs) - 1, len(T99)) - 1] * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return Difference(mean=mean, half=half)


def verdict(apart: dict[str, Difference]) -> str:
    """What the part buys and what it costs, in words: only what its interval is sure of."""
    better: list[str] = []
    worse: list[str] = []
    for name in COUNTED:
        if apart[name].sure:
            gain = apart[name].mean < 0.0 if name in BETTER_HIGH else apart[name].mean > 0.0
            (better if gain else worse).append(f"{name} {-apart[name].mean:+.3g}")
    if not better and not worse:
        return "buys nothing that can be seen"
    bought = f"buys {', '.join(better)}" if better else "buys nothing that can be seen"
    return f"{bought}; costs {', '.join(worse)}" if worse else bought


def _of(name: str, lives: Sequence[dict[str, float]]) -> list[float]:
    return [life[name] for life in lives]


def _rounded(values: Sequence[float]) -> float | None:
    """The mean of those that are known."""
    known = [value for value in values if not math.isnan(value)]
    return float(f"{statistics.mean(known):.4g}") if known else None
