"""Refining an answer in words: draft, weigh, ask another opinion.

Owns: the drafts of one answer, and what can be told of a text alone: its doubt, its likeness to another.
Must not know: processes, prices, trust, or storage; it asks models and weighs drafts through the functions
it is given.

The state is every draft so far. Its energy is that of its best draft, in [0, 1]. It may rise: a second model
that says something else is evidence against the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sage.irp.protocol import Exhausted, Step
from sage.types import Completion

__all__ = [
    "LOOPING",
    "Draft",
    "Drafts",
    "LanguagePlugin",
    "Opinion",
    "Weighed",
    "doubt",
    "likeness",
    "repetition",
]

LOGPROB_FLOOR = -3.0
"""A token counts for no less. A grammar forces tokens that the model would never choose (-12 and below
for an opening brace): they say nothing about the answer."""

RETRY_TEMPERATURE = 0.7
"""Where no other model is left, the same one is asked again less greedily."""

LOOPING = 0.5
"""Repetition from which on a text is no answer any more, but goes in circles."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """What asking one model gave: who answered at last, in which attempt, and the ATP it cost."""

    model: str
    completion: Completion
    attempt: int
    atp: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """One answer, who gave it, and in which attempt of the turn. ``remembered``: from an earlier turn."""

    model: str
    completion: Completion
    attempt: int
    valid: bool
    remembered: bool = False


Drafts = tuple[Draft, ...]

Ask = Callable[[str, int, float], Opinion]
"""(model, step from 0, temperature) -> Opinion"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """Drafts, weighed against each other: the energy of each in [0, 1], and which of them is the best."""

    energies: tuple[float, ...]
    best: int


class LanguagePlugin:
    """Implements ``irp.Plugin[Drafts]``; the state is every draft so far."""

    def __init__(
        self,
        *,
        ask: Ask,
        next_model: Callable[[Drafts, float], str | None],
        weigh: Callable[[Drafts], Weighed],
        temperature: float,
        remembered: Draft | None = None,
    ) -> None:
        """``next_model(drafts, atp_left)`` names whom to ask, or None when nobody is left or worth it.
        ``remembered`` is a draft to begin with, at no cost."""
        self._ask = ask
        self._next_model = next_model
        self._weigh = weigh
        self._temperature = temperature
        self._remembered = remembered

    def init_state(self) -> Drafts:
        return ()

    def step(self, state: Drafts, atp_left: float) -> Step[Drafts]:
        if not state and self._remembered:
            return Step(state=(self._remembered,), atp=0.0)
        model = self._next_model(state, atp_left)
        if model is None:
            raise Exhausted
        again = any(draft.model == model for draft in state)
        temperature = max(self._temperature, RETRY_TEMPERATURE) if again else self._temperature
        opinion = self._ask(model, len(state), temperature)
        completion = opinion.completion
        valid = completion.valid and bool(completion.text.strip())
        draft = Draft(model=opinion.model, completion=completion, attempt=opinion.attempt, valid=valid)
        return Step(state=(*state, draft), atp=opinion.atp)

    def energy(self, state: Drafts) -> float:
        return min(self._weigh(state).energies)

    def halt(self, energies: tuple[float, ...]) -> str:
        del energies
        return ""

    def best(self, state: Drafts) -> Draft:
        """The draft to answer with."""
        return state[self._weigh(state).best]


def doubt(completion: Completion) -> float:
    """1 - exp(mean log-probability), in [0, 1]; NaN where the backend gave no probabilities.

    A text that goes in circles is as doubtful as it is repetitive, however sure the model is of it.
    """
    again = repetition(completion.text)
    if not completion.logprobs:
        return again if again >= LOOPING else math.nan
    kept = [max(logprob, LOGPROB_FLOOR) for logprob in completion.logprobs]
    unsure = 1.0 - math.exp(min(0.0, sum(kept) / len(kept)))
    return max(unsure, again)


@lru_cache(maxsize=32)  # a draft is weighed again at each step after it
def repetition(text: str) -> float:
    """The share of runs of four words that stood in the text before, in [0, 1]."""
    words = _words(text)
    runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return 1.0 - len(set(runs)) / len(runs) if runs else 0.0


def likeness(one: str, other: str) -> float:
    """F1 of the two bags of words, in [0, 1]; 1 when they say the same but for case and punctuation."""
    a, b = _words(one), _words(other)
    if not a or not b:
        return float(a == b)
    shared = sum(min(a.count(word), b.count(word)) for word in set(a))
    return 2.0 * shared / (len(a) + len(b))


def _words(text: str) -> Sequence[str]:
    # Scripts without spaces (Chinese, Japanese, Thai) would be one word a sentence: take their characters.
    return re.findall(
        r"[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+|[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]",
        text.lower(),
    )
