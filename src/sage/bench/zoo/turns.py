"""Conversations of eight turns: is what was told early still known late?

Owns: the conversations and the stages that are scored. Must not know: who answers.

Turns 1 to 3 tell a fact and ask for it at once; 4 and 5 ask for something else; 6 to 8 ask for the facts of
turns 1 to 3. A model that falls from the first stage to the last forgets; one that falls in the middle is
led astray by the conversation. The model's own answers stay in the conversation, right or wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from sage.bench.questions import SYSTEM, Question
from sage.bench.zoo.words import CAPITALS, PEOPLE, PLACES
from sage.types import Message

__all__ = ["STAGES", "Turn", "converse", "eight_turns"]

STAGES = ("turns 1-3, just told", "turns 4-5, another matter", "turns 6-8, told before")

MAX_TOKENS = 24
ANIMALS = ("Rex", "Bella", "Luna", "Max", "Coco", "Rocky", "Daisy", "Simba")


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What the user says, the stage it counts for, and the words of a right answer."""

    text: str
    stage: str
    right: str

    def verify(self, answer: str) -> float:
        """1 if the right word is among those of the answer."""
        return Question(prompt=self.text, right=self.right).verify(answer)


def eight_turns(seed: int, number: int) -> tuple[Turn, ...]:
    """One conversation: the same for the same seed and number."""
    draw = random.Random(f"{seed} turns {number}")  # noqa: S311  names, not secrets
    facts = [
        ("My name is {}.", "What is my name?", draw.choice(PEOPLE)),
        ("I live in {}.", "Which city do I live in?", draw.choice(PLACES)),
        ("My dog is called {}.", "What is my dog called?", draw.choice(ANIMALS)),
    ]
    others = draw.sample(sorted(CAPITALS.items()), 2)
    return (
        *(
            Turn(text=f"{told.format(word)} {asked}", stage=STAGES[0], right=word.lower())
            for told, asked, word in facts
        ),
        *(
            Turn(text=f"What is the capital of {land}?", stage=STAGES[1], right=city.lower())
            for land, city in others
        ),
        *(Turn(text=asked, stage=STAGES[2], right=word.lower()) for _, asked, word in facts),
    )


def converse(turns: tuple[Turn, ...], reply: Callable[[tuple[Message, ...]], str]) -> tuple[bool, ...]:
    """Say the turns one after another to ``reply``, which answers a conversation; who was right, by turn."""
    messages = [Message(role="system", content=SYSTEM)]
    right = []
    for turn in turns:
        messages.append(Message(role="user", content=turn.text))
        answer = reply(tuple(messages))
        right.append(turn.verify(answer) == 1.0)
        messages.append(Message(role="assistant", content=answer))
    return tuple(right)
