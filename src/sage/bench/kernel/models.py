"""Models that are simulated: what they read in their context, what they know, how fast and how sure they are.

Owns: the answers of four models to the simulated person. Must not know: who is asked, or why.

A model finds what it needs in the text it is given, or knows it by itself, with chances that are its own;
the last line about a thing counts, because later is newer. Where the text speaks of other things of the kind,
it is misled at times. The same model makes the same mistake again at temperature 0, in every variant.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sage.bench.kernel.person import Ask
from sage.bench.kernel.topics import PROJECTS
from sage.bench.residency.speeds import USUAL
from sage.kernel.sense import count_tokens
from sage.types import Completion, Message
from sage.zoo.card import ModelCard

__all__ = ["UNKNOWN", "ZOO", "Simulated", "is_right"]

UNKNOWN = "I do not know that."

COMMON = (
    *("after", "again", "because", "before", "between", "change", "check", "clear", "count", "each", "early"),
    *("first", "follow", "found", "given", "group", "have", "here", "into", "just", "keep", "last", "later"),
    *("list", "made", "many", "more", "most", "must", "need", "next", "note", "number", "often", "only"),
    *("open", "order", "other", "over", "part", "place", "plan", "point", "read", "same", "several", "short"),
    *("should", "show", "since", "some", "start", "still", "such", "take", "than", "that", "then", "there"),
)
BODY_WORDS = 90
"""What a long answer says beside its result: plain words in an order of its own."""

SURE, UNSURE = (0.03, 0.25), (0.15, 0.9)
"""Log-probabilities of a token, negated, in right answers and in wrong ones: they overlap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """A model of ``gb``. ``skills`` are chances to be right by topic, ``usual`` that of other topics;
    ``claims`` is what its card says of it; ``reads`` the chance to find what stands in its context,
    ``misled`` to take something else of that kind for it."""

    name: str
    gb: float
    claims: float
    usual: float
    reads: float
    misled: float
    skills: Mapping[str, float] = field(default_factory=dict)

    @property
    def card(self) -> ModelCard:
        """As the catalog has it: its quality is published, its skills are not."""
        return ModelCard(
            name=self.name,
            source="fake",
            sha256="",
            bytes=int(self.gb * 1e9),
            license="none",
            context_length=4096,
            backend="fake",
            prior={"*": self.claims},
        )

    def seconds(self, read: int, written: int) -> tuple[float, float]:
        """For reading and for writing so many tokens, on the two cores that the speeds were fitted on."""
        weights = self.gb * 1e9
        return (
            read / USUAL.prompt_tok_s(weights),
            written / USUAL.generate_tok_s(weights),
        )

    def answer(self, ask: Ask, messages: Sequence[Message], *, seed: int, again: bool) -> Completion:
        """What it says to the last of these messages; without times."""
        luck = random.Random(f"{seed}|{ask.item}|{ask.topic}|{ask.about}|{self.name}|{again}")  # noqa: S311
        text = self._says(ask, _given(ask, messages), luck, seed)
        if ask.long:
            text = " ".join([text, *luck.choices(COMMON, k=BODY_WORDS)])
        low, high = UNSURE if ask.type == "vain" or not is_right(ask, text) else SURE
        tokens = count_tokens(text)
        return Completion(
            text=text,
            prompt_tokens=sum(count_tokens(message.content) for message in messages),
            completion_tokens=tokens,
            finish_reason="stop",
            logprobs=(-luck.uniform(low, high),) * tokens,
        )

    def _says(self, ask: Ask, lines: Sequence[str], luck: random.Random, seed: int) -> str:
        if not ask.values:
            return "Noted." if ask.type == "tell" else "You are welcome."
        chances = luck.random(), luck.random(), luck.random()
        about = _spoken_of(lines) if ask.type == "follow-up" else ask.about
        found = _last_value(lines, about, ask.values) if about else ""
        if found and chances[0] < self.reads:
            return _said(ask, about, found)
        if ask.known:
            other = _last_value(lines, "", ask.values)
            return _said(ask, about, other) if other and chances[1] < self.misled else UNKNOWN
        if ask.type == "vain":  # all were trained on the same
            luck = random.Random(f"{seed}|{ask.item}")  # noqa: S311
            return _said(ask, about, ask.value if luck.random() < VAIN else luck.choice(ask.values))
        if chances[2] < self.skills.get(ask.topic, self.usual):
            return _said(ask, about, ask.value)
        return _said(ask, about, luck.choice([value for value in ask.values if value != ask.value]))


VAIN = 0.5
"""Chance of all models together, where they answer alike."""

ZOO = (
    Simulated(
        name="small",
        gb=0.5,
        claims=0.5,
        usual=0.5,
        reads=0.85,
        misled=0.3,
        skills={"tickets": 0.8, "python": 0.3, "sql": 0.3, "sums": 0.3},
    ),
    Simulated(
        name="coder",
        gb=1.5,
        claims=0.6,
        usual=0.45,
        reads=0.92,
        misled=0.2,
        skills={"tickets": 0.8, "python": 0.9, "sql": 0.85, "sums": 0.7},
    ),
    Simulated(
        name="writer",
        gb=2.0,
        claims=0.6,
        usual=0.55,
        reads=0.92,
        misled=0.2,
        skills={"tickets": 0.85, "german": 0.9, "minutes": 0.85, "python": 0.2, "sql": 0.2},
    ),
    Simulated(
        name="large",
        gb=5.0,
        claims=0.75,
        usual=0.7,
        reads=0.97,
        misled=0.1,
        skills={"tickets": 0.9, "python": 0.75, "sql": 0.7, "sums": 0.8, "german": 0.75, "minutes": 0.8},
    ),
)
"""Two specialists that their cards do not show, a small one, and a large one that is good at everything."""


def is_right(ask: Ask, text: str) -> bool:
    """Whether an answer gives the right value of the right thing, and no other; where nobody told it, whether
    it says so."""
    if not ask.values:
        return True
    said = [value for value in ask.values if value in text]
    return said == [ask.value] and ask.about in text if ask.value else UNKNOWN in text


def _given(ask: Ask, messages: Sequence[Message]) -> list[str]:
    """The lines that a model is given beside the request, oldest first: quotations, then the session."""
    *before, last = messages
    quoted = last.content.removesuffix(ask.text)
    return [line for text in (quoted, *(message.content for message in before)) for line in text.splitlines()]


def _last_value(lines: Sequence[str], about: str, values: Sequence[str]) -> str:
    """The value in the last line about something that has one; empty for none."""
    for line in reversed(lines):
        if about in line:
            for value in values:
                if value in line:
                    return value
    return ""


def _spoken_of(lines: Sequence[str]) -> str:
    """The project that the last line names one in; empty for none."""
    named = (project for line in reversed(lines) for project in PROJECTS if project in line)
    return next(named, "")


def _said(ask: Ask, about: str, value: str) -> str:
    return f"The {ask.topic} of {about} is {value}."
