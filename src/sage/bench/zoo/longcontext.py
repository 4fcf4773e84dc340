"""A needle in a haystack: is one sentence found again in a long text, wherever it stands?

Owns: the text, the needle, lengths and depths. Must not know: which model reads it.

Finding one odd sentence is the easiest thing one can ask of a long context: who fails here reads nothing
that long, and who passes need not understand it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from sage.bench.questions import SYSTEM, Question
from sage.types import GenerationRequest, Message

__all__ = ["Needle", "lengths_up_to", "needles"]

SHORTEST = 512
ROOM = 192
"""Tokens of a context that are left for the question, the form of a prompt and the answer."""

WORD_TOKENS = 1.25
"""Tokens a word of the haystack and its full stops, roughly, in small vocabularies."""

PEOPLE = ("The baker", "A sailor", "My neighbour", "The teacher", "An old man", "The painter", "Her cousin")
DEEDS = ("walked to", "looked at", "talked about", "wrote home from", "dreamt of", "came back from")
PLACES = ("the market", "the harbour", "a quiet street", "the hills", "the old bridge", "the station")
TIMES = ("in the morning", "before noon", "after lunch", "in the rain", "late at night", "on Sunday")


@dataclass(frozen=True, kw_only=True, slots=True)
class Needle:
    """A prompt of about ``length`` tokens with the needle at ``depth`` (0 begins, 1 ends the text)."""

    length: int
    depth: float
    prompt: str
    right: str

    def request(self) -> GenerationRequest:
        """What a worker is asked."""
        messages = (Message(role="system", content=SYSTEM), Message(role="user", content=self.prompt))
        return GenerationRequest(messages=messages, max_tokens=24, seed=0)

    def verify(self, answer: str) -> float:
        """1 if the number is named."""
        return Question(prompt=self.prompt, right=self.right).verify(answer)


def lengths_up_to(window: int, *, longest: int = 1 << 30) -> tuple[int, ...]:
    """512, 1024, ... and at last what just fits the window; none for a window that holds less than 512."""
    top = min(window, longest) - ROOM
    doubled = []
    length = SHORTEST
    while length < 0.75 * top:  # a last step much smaller than the others would say nothing new
        doubled.append(length)
        length *= 2
    return (*doubled, top) if top >= SHORTEST else ()


def needles(seed: int, length: int, depths: int) -> Iterator[Needle]:
    """One prompt for each of ``depths`` (at least 2) places from the beginning to the end, each with a text
    and a number of its own, so that nothing is read from a cache."""
    for place in range(depths):
        draw = random.Random(f"{seed} {length} {place}")  # noqa: S311  a text, not a secret
        depth = place / (depths - 1)
        code = str(draw.randint(10_000, 99_999))
        lines: list[str] = []
        words = 0
        while words * WORD_TOKENS < length:
            line = " ".join(draw.choice(part) for part in (PEOPLE, DEEDS, PLACES, TIMES)) + "."
            lines.append(line)
            words += len(line.split())
        lines.insert(round(depth * len(lines)), f"The code of the safe is {code}.")
        prompt = " ".join(lines) + " What is the code of the safe?"
        yield Needle(length=length, depth=depth, prompt=prompt, right=code)
