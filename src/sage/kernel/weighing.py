"""Weighing the drafts of a turn: how likely each is right, and whom else to ask.

Owns: turning drafts into opinions: whose answers are the same, which can be compared at all, and what their
marks are. Must not know: how opinions are weighed (that is the economy's), processes, or storage.

Short answers are weighed together: those that agree support each other, those that differ speak against each
other. A long answer never agrees word for word with another, though both be right: it is weighed alone, by
the trust in its author and its marks.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sage.economy.evidence import Evidence
from sage.economy.opinions import DEFAULT_WEIGHTS, Beliefs, Opinions, believe
from sage.irp.plugins.language import LOOPING, Draft, Drafts, Weighed, doubt, repetition
from sage.kernel.judge import alike, comparable
from sage.types import Decision

__all__ = ["Weighing", "accept_at", "answer_groups", "marks_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

WEIGHTS = DEFAULT_WEIGHTS

ALIKE = 10.0
"""Outcomes that trust in this context counts for, when the quality over all work is told from it."""

UNSURE = 0.5
"""Doubt above which an author would rather not have said it."""


def accept_at(accept: float, dial: float) -> float:
    """The energy that is good enough: ``accept`` up to the middle of the dial, 0 at its best end, where a
    further opinion is asked for as long as it is of any use."""
    return accept * min(1.0, 2.0 * (1.0 - dial))


def answer_groups(drafts: Sequence[Draft]) -> list[int]:
    """The group of each draft: short answers that say the same share one; -1 is no answer, or half of one."""
    groups: list[int] = []
    for number, draft in enumerate(drafts):
        if not draft.valid or not draft.completion.ended:
            groups.append(-1)
            continue
        text = draft.completion.text
        same = (
            groups[other]
            for other in range(number)
            if groups[other] >= 0 and alike(text, drafts[other].completion.text)
        )
        groups.append(next(same, number))
    return groups


class Weighing:
    """Weighs the drafts of one decision's candidates (M, best first)."""

    def __init__(
        self,
        decision: Decision,
        evidence: Evidence,
        *,
        schema: bool,
        known: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """``evidence`` is about the candidates, in their order. ``schema``: one was asked for. ``known``: the
        quality of answers to this very question that have been judged, by their text.

        Raises:
            ValueError: the evidence is about others.
        """
        scores = decision.candidates
        self._line = {score.name: line for line, score in enumerate(scores)}
        if evidence.names != tuple(self._line):
            raise ValueError(f"evidence about {evidence.names} does not weigh {tuple(self._line)}")
        self._evidence = evidence
        self._schema = schema
        self._known = known
        self._trust = {score.name: score.expertise for score in scores}
        trust = np.array(list(self._trust.values()))
        # Few outcomes say less of a candidate's work in general than trust does of this piece of it.
        overall = (evidence.right + ALIKE * trust) / (evidence.asked + ALIKE)
        self._beliefs = believe(evidence, trust[None], overall)
        # Of the answer and of the load, each against its own scale: at no dial is a load free.
        self._price = 1.0 / np.array([score.cheapness for score in scores]) - 1.0
        self._seen: _Seen | None = None

    def trust(self, model: str) -> float:
        """The quality that was expected of a candidate's answer before it was asked."""
        return self._trust[model]

    def price(self, model: str) -> float:
        """What a candidate's answer costs now, load and all, in quality."""
        return float(self._price[self._line[model]])

    def weigh(self, drafts: Drafts) -> Weighed:
        """The energy of each draft: the chance that it is not right, 1 where it is no answer, and not below
        its repetition. The best is the likeliest, spoken for by the most trusted of those who agree."""
        seen = self._look(drafts)
        best = max(
            range(len(drafts)), key=lambda number: (round(seen.chance[number], 9), seen.speaks[number])
        )
        return Weighed(energies=tuple(1.0 - chance for chance in seen.chance), best=best)

    def next_model(self, drafts: Drafts, allowed: Collection[str]) -> str | None:
        """Whom of ``allowed`` to ask for another opinion, or None where none is worth its price.

        Without any answer so far, whoever is best. Where answers can agree, by the expected gain. A long
        answer finds no agreement: another one is worth its price if it is likelier right by that much.
        """
        names = [name for name in self._line if name in allowed]
        seen = self._look(drafts)
        if not names or not any(seen.usable):
            return names[0] if names else None
        lines = [self._line[name] for name in names]
        price = np.full(len(self._line), np.inf)
        price[lines] = self._price[lines]
        chance = max(seen.chance)
        best = seen.chance.index(chance)
        if seen.rows[best] == 0 and drafts[best].completion.text not in self._known:
            line = int(seen.opinions.next_opinion(WEIGHTS, price, np.array([0]))[0])
        else:
            worth = self._alone() - chance - price
            line = int(worth.argmax()) if worth.max() > 0.0 else -1
        return list(self._line)[line] if line >= 0 else None

    def doubtful(self, drafts: Drafts) -> bool:
        """Whether the best draft is none, or doubted by its own author: it may be tried again."""
        seen = self._look(drafts)
        best = seen.chance.index(max(seen.chance))
        return not seen.usable[best] or seen.doubts[best] > UNSURE

    def explain(self, drafts: Drafts) -> list[dict[str, Any]]:
        """What is known of each draft: whose, the group of its answer, the chance ``p`` that it is right, its
        tokens and its doubt (None where unknown)."""
        seen = self._look(drafts)
        return [
            {
                "model": draft.model,
                "group": group,
                "p": round(chance, 4),
                "tokens": draft.completion.completion_tokens,
                "doubt": None if math.isnan(unsure) else round(unsure, 4),
            }
            for draft, group, chance, unsure in zip(
                drafts, seen.groups, seen.chance, seen.doubts, strict=True
            )
        ]

    def _look(self, drafts: Drafts) -> _Seen:
        """What there is to see in these drafts; looked at once, because each step asks several times."""
        if self._seen is None or self._seen.drafts is not drafts:
            self._seen = self._hear(drafts)
        return self._seen

    def _hear(self, drafts: Drafts) -> _Seen:
        groups = answer_groups(drafts)
        doubts = [doubt(draft.completion) for draft in drafts]
        looped = [repetition(draft.completion.text) for draft in drafts]
        rows, count = [], 1
        for draft in drafts:
            alone = draft.valid and not comparable(draft.completion.text)
            rows.append(count if alone else 0)
            count += alone
        opinions = Opinions(self._beliefs_about(count), len(drafts))
        who = np.array([self._line[draft.model] for draft in drafts], np.intp)
        at = np.array(groups, np.intp)
        shifts = self._evidence.shifts(who, marks_of(self._evidence, drafts, who, at, doubts, self._schema))
        heard: set[tuple[int, int]] = set()
        for number, key in enumerate(zip(who.tolist(), groups, strict=True)):
            # A model that says the same again agrees with itself: that is no evidence, nor is half an answer.
            if key not in heard and drafts[number].completion.ended:
                heard.add(key)
                one = slice(number, number + 1)
                opinions.hear(np.array([rows[number]]), who[one], at[one], shifts[one])
        posterior, _ = opinions.posterior(WEIGHTS)
        return _Seen(
            drafts=drafts,
            opinions=opinions,
            rows=rows,
            groups=groups,
            doubts=doubts,
            usable=[group >= 0 and loop < LOOPING for group, loop in zip(groups, looped, strict=True)],
            chance=[
                self._known.get(draft.completion.text, min(float(posterior[row, group]), 1.0 - loop))
                if group >= 0
                else 0.0
                for draft, row, group, loop in zip(drafts, rows, groups, looped, strict=True)
            ],
            speaks=[
                group >= 0 and opinions.speaker[row, group] == line
                for row, group, line in zip(rows, groups, who, strict=True)
            ],
        )

    def _alone(self) -> Floats:
        """The chance (M,) of each candidate's answer to be right, as if it were the only one."""
        lines = np.arange(len(self._line))
        opinions = Opinions(self._beliefs_about(len(lines)), 1)
        opinions.hear(lines, lines, np.zeros(len(lines), np.intp), np.zeros(len(lines)))
        return np.asarray(opinions.posterior(WEIGHTS)[0][:, 0])

    def _beliefs_about(self, rows: int) -> Beliefs:
        """What is believed about this piece of work, ``rows`` times over."""
        return replace(self._beliefs, context=np.repeat(self._beliefs.context, rows, axis=0))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """Drafts and what was heard in them. Row 0 of the opinions is for answers that can be compared, each
    long one has a row of its own; the other lists have one entry a draft."""

    drafts: Drafts
    opinions: Opinions
    rows: list[int]
    groups: list[int]
    doubts: list[float]
    usable: list[bool]
    chance: list[float]
    speaks: list[bool]


def marks_of(
    evidence: Evidence, drafts: Sequence[Draft], who: Ints, groups: Ints, doubts: list[float], schema: bool
) -> Ints:
    """The marks (n, 4) of drafts by candidates ``who`` (n,): length, doubt, and whether a schema was kept,
    where one was asked for."""
    return evidence.marks(
        who,
        groups,
        np.array([draft.completion.completion_tokens for draft in drafts]),
        doubts=np.array(doubts),
        valid=np.array([draft.valid for draft in drafts]) if schema else None,
    )
