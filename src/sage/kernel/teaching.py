"""What the drafts of a turn and their outcomes teach about the models that wrote them.

Owns: which drafts may be learned from, and who is judged by a word about one of them. Must not know: how
evidence is used or stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sage.economy.evidence import Evidence
from sage.economy.trust import SOURCE_WEIGHT
from sage.irp.plugins.language import LOOPING, Draft, Drafts, doubt, repetition
from sage.kernel.judge import comparable
from sage.kernel.weighing import answer_groups, marks_of
from sage.types import Outcome

__all__ = ["rating", "teach"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

NOTICED = 100.0
"""Drafts after which a model's usual doubt is known, until some have faded: not each turn needs a write."""


def teach(evidence: Evidence, drafts: Drafts, outcomes: Sequence[Outcome], *, schema: bool) -> bool:
    """Let ``evidence`` learn what doubt is usual of the drafts' authors, and how their first drafts did.

    False when there was nothing to learn.

    Agreement counts as little as it does for trust, and pairs learn nothing from it: it only says that
    answers were right. Nor do pairs learn from long answers: that these differ says nothing.
    """
    line = {name: number for number, name in enumerate(evidence.names)}
    told = {outcome.candidate: outcome for outcome in outcomes}
    whole = [draft for draft in drafts if draft.completion.ended]
    judged: dict[str, Draft] = {}
    for draft in whole:
        if draft.model in told:
            judged.setdefault(draft.model, draft)
    for source in dict.fromkeys(told[model].source for model in judged):
        heard = [draft for model, draft in judged.items() if told[model].source == source]
        short = [draft for draft in heard if comparable(draft.completion.text)]
        for together in (short, *([draft] for draft in heard if draft not in short)):
            if together:
                who = np.array([line[draft.model] for draft in together], np.intp)
                groups = np.array(answer_groups(together), np.intp)
                doubts = [doubt(draft.completion) for draft in together]
                marks = marks_of(evidence, together, who, groups, doubts, schema)
                quality = np.array([told[draft.model].quality for draft in together])
                _observe(evidence, who, groups, quality, marks, SOURCE_WEIGHT[source])
    learned = bool(judged)
    for draft in whole:
        # What goes in circles is not how a model usually sounds.
        unsure, at = doubt(draft.completion), line[draft.model]
        usual = not math.isnan(unsure) and repetition(draft.completion.text) < LOOPING
        if usual and evidence.doubt[0, at] < NOTICED:
            evidence.notice(np.array([at]), np.array([unsure]))
            learned = True
    return learned


def rating(
    told: Sequence[Mapping[str, Any]], outcome: Outcome
) -> tuple[list[str], Callable[[Evidence], bool]]:
    """Who is judged by what a user says later of an answer, and what that teaches evidence about them.

    ``told`` is what :meth:`Weighing.explain` said of the turn's drafts. Whoever gave the same answer is as
    right or wrong; of those who gave another, nothing is known. A turn that kept nothing teaches nothing.
    """
    own = [one for one in told if one["model"] == outcome.candidate]
    best = max(own, key=lambda one: one["p"], default=None)
    if best is None:
        return [], lambda _evidence: False
    same = [one for one in told if one["group"] == best["group"] >= 0]
    heard = list({one["model"]: one for one in [*same, best]}.values())

    def learn(evidence: Evidence) -> bool:
        who = np.array([evidence.names.index(one["model"]) for one in heard], np.intp)
        groups = np.array([one["group"] for one in heard], np.intp)
        tokens = np.array([one["tokens"] for one in heard])
        doubts = np.array([math.nan if one["doubt"] is None else one["doubt"] for one in heard])
        marks = evidence.marks(who, groups, tokens, doubts=doubts)
        quality = np.full(len(heard), outcome.quality)
        _observe(evidence, who, groups, quality, marks, SOURCE_WEIGHT[outcome.source])
        return True

    return [one["model"] for one in heard], learn


def _observe(
    evidence: Evidence, who: Ints, groups: Ints, quality: Floats, marks: Ints, weight: float
) -> None:
    """One piece of work, in which candidates ``who`` (n,) were judged."""
    many = len(evidence.names)
    known, at = np.zeros((1, many), bool), np.full((1, many), -1)
    good, bore = np.zeros((1, many)), np.full((1, many, marks.shape[-1]), -1)
    known[0, who], at[0, who], good[0, who], bore[0, who] = True, groups, quality, marks
    evidence.observe(known, at, good, bore, weight=weight)
