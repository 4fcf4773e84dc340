"""Fifty short questions with known answers, for very small models.

Owns: the questions and what counts as right. Must not know: who is asked.
They are this project's own. They tell a model that can do a kind of work from one that cannot, no more:
the standard error of a share of 50 is up to 7 points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ONE_OF_EACH", "QUESTIONS", "SYSTEM", "Question"]

SYSTEM = "You are a helpful assistant. Answer briefly."
"""The instruction all questions are asked under."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """``right`` is a pattern of whole words, or the very object where a schema is asked for."""

    prompt: str
    right: str = ""
    wrong: str = ""
    value: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None

    def verify(self, answer: str) -> float:
        """1 for a right answer, else 0. An answer that also gives the wrong label is not right."""
        if self.value is not None:
            try:
                return float(json.loads(answer) == self.value)
            except ValueError:
                return 0.0
        text = answer.lower()
        if self.wrong and re.search(rf"\b({self.wrong})\b", text):
            return 0.0
        return float(re.search(rf"\b({self.right})\b", text) is not None)


_CAPITALS = {
    "Italy": "rome",
    "Spain": "madrid",
    "Japan": "tokyo",
    "Egypt": "cairo",
    "Germany": "berlin",
    "Norway": "oslo",
    "Peru": "lima",
    "Greece": "athens",
    "Canada": "ottawa",
    "Russia": "moscow",
}
_FACTS = {
    "How many days are in a week?": "7|seven",
    "What colour is grass?": "green",
    "Which planet do we live on?": "earth",
    "What do bees make?": "honey",
    "What is frozen water called?": "ice",
    "Who wrote Romeo and Juliet?": "shakespeare",
    "What is the largest ocean?": "pacific",
    "Which animal says meow?": "cat",
}
_OPPOSITES = {
    "hot": "cold",
    "big": "small|little",
    "fast": "slow",
    "happy": "sad|unhappy",
    "up": "down",
    "light": "dark|heavy",
    "old": "young|new",
    "rich": "poor",
    "wet": "dry",
    "early": "late",
}
_POSITIVE = (
    "I love this film",
    "The food was delicious",
    "What a wonderful surprise",
    "She is a brilliant singer",
    "I am so happy with my new phone",
)
_NEGATIVE = (
    "This is the worst day of my life",
    "I hated every minute",
    "The service was terrible",
    "The room was dirty and cold",
    "It broke after one day",
)
_SUMS = ((2, 3), (12, 30), (7, 8), (25, 14), (50, 50), (9, 6))
_MOVES = (
    ("Maria", "Lisbon", 2019),
    ("Tom", "Paris", 2004),
    ("Aisha", "Cairo", 1998),
    ("Ken", "Osaka", 2021),
    ("Olga", "Riga", 2010),
    ("Pedro", "Lima", 1987),
)
_MOVE_SCHEMA = {
    "type": "object",
    "properties": {"person": {"type": "string"}, "city": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["person", "city", "year"],
    "additionalProperties": False,
}


def _sentiment(sentence: str, right: str, wrong: str) -> Question:
    prompt = f"Is the sentence '{sentence}' positive or negative?"
    return Question(prompt=prompt, right=right, wrong=wrong)


QUESTIONS: tuple[Question, ...] = (
    *(Question(prompt=f"What is the capital of {c}?", right=a) for c, a in _CAPITALS.items()),
    *(Question(prompt=q, right=a) for q, a in _FACTS.items()),
    *(Question(prompt=f"What is the opposite of {w}?", right=a) for w, a in _OPPOSITES.items()),
    *(_sentiment(sentence, "positive", "negative") for sentence in _POSITIVE),
    *(_sentiment(sentence, "negative", "positive") for sentence in _NEGATIVE),
    *(Question(prompt=f"What is {a} + {b}?", right=str(a + b)) for a, b in _SUMS),
    *(
        Question(
            prompt=f"Extract the person, the city and the year: {person} moved to {city} in {year}.",
            value={"person": person, "city": city, "year": year},
            schema=_MOVE_SCHEMA,
        )
        for person, city, year in _MOVES
    ),
)

ONE_OF_EACH = {
    title: next(question for question in QUESTIONS if start in question.prompt)
    for title, start in (
        ("a fact", "capital of Italy"),
        ("a structured extraction", "Maria moved"),
        ("a rewrite", "opposite of early"),
        ("a judgement", "service was terrible"),
        ("a sum", "12 + 30"),
    )
}
"""One question of each kind, by what it is: what `sage demo` asks."""
