"""Questions of fifteen kinds, made from a seed: what the models of a zoo are compared on.

Owns: the kinds, the texts, the examples shown before each question, and what counts as right.
Must not know: who is asked, or what it costs.

They are this project's own, easy for people, and telling only of models below a few billion weights. Each
question has three solved examples before it, drawn for it alone, so that small models see the form of an
answer and no question is answered from the cache of the one before. An answer is its first line; it is
right if it is one of the accepted ones, without regard to case, quotes and the full stop. Extraction must
give the very object; a Python expression must give the right value on every trial (computed by
:mod:`sage.bench.zoo.expressions`, never run).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sage.bench.questions import SYSTEM, Question
from sage.bench.zoo import words
from sage.bench.zoo.expressions import NoValue, value_of
from sage.types import GenerationRequest, Message

__all__ = ["CATEGORIES", "ZooQuestion", "said", "zoo_questions"]

SHOTS = 3
EXAMPLES = 8
"""Items of each kind that are only ever shown solved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZooQuestion:
    """One question. ``answer`` is a right one; ``shots`` are other questions with theirs; ``verify`` scores
    an answer 0 or 1."""

    id: str
    category: str
    prompt: str
    answer: str
    shots: tuple[tuple[str, str], ...]
    max_tokens: int
    verify: Callable[[str], float]
    schema: Mapping[str, Any] | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation up to the question."""
        turns = [Message(role="system", content=SYSTEM)]
        for question, answer in self.shots:
            turns += [Message(role="user", content=question), Message(role="assistant", content=answer)]
        return (*turns, Message(role="user", content=self.prompt))

    @property
    def stop(self) -> tuple[str, ...]:
        """An answer is one line; a schema ends its answer itself."""
        return () if self.schema is not None else ("\n",)

    def request(self) -> GenerationRequest:
        """What a worker is asked: greedy, so that the same model answers the same."""
        return GenerationRequest(
            messages=self.messages, max_tokens=self.max_tokens, stop=self.stop, schema=self.schema, seed=0
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    """A question and its answer as an example would give it; ``right`` are all that are accepted."""

    prompt: str
    answer: str
    right: tuple[str, ...] = ()
    verify: Callable[[str], float] | None = None
    schema: Mapping[str, Any] | None = None


def said(answer: str) -> str:
    """What an answer comes down to: its first line, without quotes, full stop and case; of an equation the
    right side."""
    line = next((line for line in answer.splitlines() if line.strip()), "")
    return line.rpartition("= ")[2].strip(" \t.\"'`*").lower()


def zoo_questions(seed: int, count: int) -> tuple[ZooQuestion, ...]:
    """``count`` questions of each kind; fewer of the same seed are the first of more.

    Raises:
        ValueError: a kind has not so many.
    """
    return tuple(q for name in CATEGORIES for q in _of_kind(name, seed, count))


def _of_kind(name: str, seed: int, count: int) -> Iterator[ZooQuestion]:
    make, max_tokens = CATEGORIES[name]
    items = list(islice(_distinct(make(random.Random(f"{seed} {name}"))), EXAMPLES + count))  # noqa: S311
    if len(items) < EXAMPLES + count:
        raise ValueError(f"there are {len(items) - EXAMPLES} questions of {name}, not {count}")
    examples, asked = items[:EXAMPLES], items[EXAMPLES:]
    for number, item in enumerate(asked):
        shown = random.Random(f"{seed} {name} {number}").sample(examples, SHOTS)  # noqa: S311
        yield ZooQuestion(
            id=f"{name}-{number}",
            category=name,
            prompt=item.prompt,
            answer=item.answer,
            shots=tuple((each.prompt, each.answer) for each in shown),
            max_tokens=max_tokens,
            verify=item.verify or _Exactly(item.right or (item.answer,)),
            schema=item.schema,
        )


def _distinct(items: Iterator[_Item]) -> Iterator[_Item]:
    """Each prompt once; ends when nothing new comes any more."""
    seen: set[str] = set()
    repeated = 0
    for item in items:
        repeated = repeated + 1 if item.prompt in seen else 0
        if repeated > 100:
            return
        if not repeated:
            seen.add(item.prompt)
            yield item


class _Exactly:
    def __init__(self, right: Sequence[str]) -> None:
        self._right = {said(each) for each in right}

    def __call__(self, answer: str) -> float:
        return float(said(answer) in self._right)


class _Computes:
    """An expression is right if it gives the value of the model answer on every trial."""

    def __init__(self, answer: str, name: str, trials: Sequence[object]) -> None:
        self._trials = [({name: trial}, value_of(answer, {name: trial})) for trial in trials]

    def __call__(self, answer: str) -> float:
        text = next((line for line in answer.splitlines() if line.strip()), "").strip(" `")
        try:
            return float(all(_same(value_of(text, names), value) for names, value in self._trials))
        except NoValue:
            return 0.0


def _same(found: object, value: object) -> bool:
    return found == value and isinstance(found, bool) == isinstance(value, bool)


def _shuffled(random: random.Random, items: Sequence[_Item]) -> Iterator[_Item]:
    yield from random.sample(items, len(items))


def _balanced(random: random.Random, *sides: Sequence[_Item]) -> Iterator[_Item]:
    """Of each side equally often, in an order that cannot be guessed."""
    for group in zip(*(random.sample(side, len(side)) for side in sides), strict=False):
        yield from random.sample(group, len(group))


def _capitals(random: random.Random) -> Iterator[_Item]:
    items = [_Item(prompt=f"What is the capital of {c}?", answer=a) for c, a in words.CAPITALS.items()]
    return _shuffled(random, items)


def _addition(random: random.Random) -> Iterator[_Item]:
    while True:
        a, b = random.randint(10, 99), random.randint(10, 99)
        yield _Item(prompt=f"What is {a} + {b}?", answer=str(a + b))


def _multiplication(random: random.Random) -> Iterator[_Item]:
    while True:
        a, b = random.randint(3, 12), random.randint(3, 9)
        yield _Item(prompt=f"What is {a} * {b}?", answer=str(a * b))


def _comparison(random: random.Random) -> Iterator[_Item]:
    while True:
        a, b = random.sample(range(100, 1000), 2)
        yield _Item(prompt=f"Which number is larger, {a} or {b}?", answer=str(max(a, b)))


def _sequences(random: random.Random) -> Iterator[_Item]:
    while True:
        start, step = random.randint(1, 20), random.randint(2, 9)
        row = [start + step * place for place in range(5)]
        if random.random() < 0.3:
            row = [start * 2**place for place in range(5)]
        shown = ", ".join(map(str, row[:4]))
        yield _Item(prompt=f"Which number comes next: {shown}, ...?", answer=str(row[4]))


def _sentiment(random: random.Random) -> Iterator[_Item]:
    sides = [
        [_Item(prompt=f"Is the sentence '{s}' positive or negative?", answer=label) for s in sentences]
        for label, sentences in (("Positive", words.POSITIVE), ("Negative", words.NEGATIVE))
    ]
    return _balanced(random, *sides)


def _yes_no(random: random.Random) -> Iterator[_Item]:
    sides = [
        [_Item(prompt=f"{text} Answer yes or no.", answer=label) for text in texts]
        for label, texts in (("Yes", words.YES), ("No", words.NO))
    ]
    return _balanced(random, *sides)


def _extraction(random: random.Random) -> Iterator[_Item]:
    schema = {
        "type": "object",
        "properties": {
            "person": {"type": "string"},
            "city": {"type": "string"},
            "year": {"type": "integer"},
        },
        "required": ["person", "city", "year"],
        "additionalProperties": False,
    }
    while True:
        who, where, when = (
            random.choice(words.PEOPLE),
            random.choice(words.PLACES),
            random.randint(1950, 2024),
        )
        text = random.choice(
            (
                f"{who} moved to {where} in {when}.",
                f"In {when}, {who} went to live in {where}.",
                f"{where} has been the home of {who} since {when}.",
            )
        )
        prompt = f"Extract the person, the city and the year: {text}"
        value = {"person": who, "city": where, "year": when}
        question = Question(prompt=prompt, value=value, schema=schema)
        answer = f'{{"person": "{who}", "city": "{where}", "year": {when}}}'
        yield _Item(prompt=prompt, answer=answer, verify=question.verify, schema=schema)


def _booleans(random: random.Random) -> Iterator[_Item]:
    def part(depth: int) -> tuple[str, bool]:
        if depth == 0:
            value = random.random() < 0.5
            return str(value), value
        (a, left), (b, right) = part(0), part(depth - 1)
        b = f"({b})" if depth > 1 else b
        text, value = (
            (f"{a} and {b}", left and right) if random.random() < 0.5 else (f"{a} or {b}", left or right)
        )
        return (f"not ({text})", not value) if random.random() < 0.3 else (text, value)

    while True:
        text, value = part(2)
        yield _Item(prompt=f"Is this true or false? {text}", answer=str(value))


def _python_output(random: random.Random) -> Iterator[_Item]:
    while True:
        a, b, c = (random.randint(2, 9) for _ in range(3))
        word = random.choice(("cat", "lamp", "river", "stone", "apple", "window"))
        row = random.sample(range(1, 10), 3)
        program, printed = random.choice(
            (
                (f"print({a} + {b} * {c})", a + b * c),
                (f"print({a * b + c} % {b})", (a * b + c) % b),
                (f"print(len('{word}'))", len(word)),
                (f"print('{word}'[{a % len(word)}])", word[a % len(word)]),
                (f"print('{word}'.upper())", word.upper()),
                (f"print('{word[:2]}' * {a % 3 + 2})", word[:2] * (a % 3 + 2)),
                (f"print({row}[1])", row[1]),
                (f"print(max({a}, {b}, {c}))", max(a, b, c)),
                (f"print(sum({row}))", sum(row)),
                (f"x = {a}\nx = x + {b}\nprint(x)", a + b),
                (f"t = 0\nfor i in range({a}):\n    t += {b}\nprint(t)", a * b),
            )
        )
        yield _Item(prompt=f"What does this Python program print?\n{program}", answer=str(printed))


def _python_expression(random: random.Random) -> Iterator[_Item]:
    items = [
        _Item(
            prompt=f"Write one Python expression that {task}.",
            answer=answer,
            verify=_Computes(answer, name, trials),
        )
        for task, answer, name, trials in words.CODE
    ]
    return _shuffled(random, items)


def _rows(random: random.Random) -> Iterator[_Item]:
    rules: Sequence[Callable[[list[int]], list[int]]] = (
        lambda row: [0, *row[:-1]],
        lambda row: row[::-1],
        lambda row: [7 if cell else 0 for cell in row],
        lambda row: [cell or 1 for cell in row],
    )

    def row() -> list[int]:
        colour, start, length = random.randint(2, 6), random.randint(0, 2), random.randint(1, 3)
        return [colour if start <= place < start + length else 0 for place in range(6)]

    while True:
        rule = random.choice(rules)
        pairs = [(before, rule(before)) for before in (row() for _ in range(3))]
        texts = [(" ".join(map(str, before)), " ".join(map(str, after))) for before, after in pairs]
        shown = "; ".join(f"{before} becomes {after}" for before, after in texts[:2])
        prompt = f"One rule changes each row: {shown}. What does {texts[2][0]} become?"
        yield _Item(prompt=prompt, answer=texts[2][1])


def _opposites(random: random.Random) -> Iterator[_Item]:
    items = [
        _Item(
            prompt=f"What is the opposite of {word}?",
            answer=right.split("|")[0],
            right=tuple(right.split("|")),
        )
        for word, right in words.OPPOSITES.items()
    ]
    return _shuffled(random, items)


def _plurals(random: random.Random) -> Iterator[_Item]:
    items = [_Item(prompt=f"What is the plural of {word}?", answer=a) for word, a in words.PLURALS.items()]
    return _shuffled(random, items)


def _kinds(random: random.Random) -> Iterator[_Item]:
    items = [
        _Item(prompt=f"Is {word} an animal, a plant, a tool or food?", answer=kind)
        for word, kind in words.KINDS.items()
    ]
    return _shuffled(random, items)


CATEGORIES: Mapping[str, tuple[Callable[[random.Random], Iterator[_Item]], int]] = {
    "capitals": (_capitals, 12),
    "yes/no facts": (_yes_no, 8),
    "kinds of things": (_kinds, 8),
    "opposites": (_opposites, 8),
    "plurals": (_plurals, 8),
    "sentiment": (_sentiment, 8),
    "addition": (_addition, 16),
    "multiplication": (_multiplication, 16),
    "comparison": (_comparison, 16),
    "sequences": (_sequences, 16),
    "boolean logic": (_booleans, 8),
    "row puzzles": (_rows, 24),
    "JSON extraction": (_extraction, 60),
    "Python output": (_python_output, 16),
    "Python expression": (_python_expression, 40),
}
"""Each kind of question: how it is made, and the most tokens of an answer."""
