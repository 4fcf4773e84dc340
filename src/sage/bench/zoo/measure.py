"""What one model takes and gives: one row for each part of the suite.

Owns: how speed, memory, right answers, long contexts, conversations and multiple choice become rows.
Must not know: which models there are, or what is kept in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sage.bench.report import spread
from sage.bench.zoo.asking import Asked, ask, open_worker
from sage.bench.zoo.choices import Choice
from sage.bench.zoo.longcontext import needles
from sage.bench.zoo.questions import ZooQuestion
from sage.bench.zoo.turns import MAX_TOKENS, STAGES, converse, eight_turns
from sage.config import Settings
from sage.kernel.session import memory_need
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.process import Worker

__all__ = ["measure_answers", "measure_choices", "measure_needles", "measure_speed", "measure_turns"]

Row = dict[str, Any]

PROMPT = "Tell a story about a lighthouse keeper and the ships that pass by. " * 20
"""About 300 tokens: long enough for a steady rate, short enough for every context."""

ANSWER_TOKENS = 128


def measure_speed(home: Path, card: ModelCard, settings: Settings, *, repeats: int) -> Row:
    """Medians over ``repeats`` fresh workers: each loads, reads a prompt, writes an answer, and is weighed.

    Raises:
        SageError: the model cannot be loaded or asked.
    """
    runs = [_run(home, card, settings) for _ in range(repeats)]

    def middle(name: str) -> float:
        return spread([run[name] for run in runs]).median

    rates = spread([run["generate_tok_s"] for run in runs])
    resident, estimate = middle("rss"), memory_need(home, card, settings.models.context)
    return {
        "what": "model",
        "model": card.name,
        "load_s": round(middle("load_s"), 2),
        "prompt_tok_s": round(middle("prompt_tok_s")),
        "generate_tok_s": round(rates.median),
        "low-high": f"{rates.low:.0f}-{rates.high:.0f}",
        "resident_mb": round(resident / 1e6),
        "estimated_mb": round(estimate / 1e6),
        "error": f"{(estimate - resident) / max(1.0, resident):+.0%}",
    }


def _run(home: Path, card: ModelCard, settings: Settings) -> dict[str, float]:
    with open_worker(home, card, settings) as worker:
        request = GenerationRequest(
            messages=(Message(role="user", content=PROMPT),), max_tokens=ANSWER_TOKENS, stop=()
        )
        completion = worker.ask(request, lambda _text: None)
        return {
            "load_s": worker.load_s,
            "prompt_tok_s": completion.prompt_tok_s or 0.0,
            "generate_tok_s": completion.generate_tok_s or 0.0,
            "rss": float(worker.resident_bytes()),
        }


def measure_answers(
    worker: Worker, model: str, category: str, questions: Sequence[ZooQuestion]
) -> tuple[Row, list[Asked], list[float]]:
    """The row of one kind of question, and every answer with its score."""
    asked = [ask(worker, question.request()) for question in questions]
    scores = [question.verify(each.completion.text) for question, each in zip(questions, asked, strict=True)]
    return _row("questions", model, category, scores, asked), asked, scores


def measure_needles(worker: Worker, model: str, category: str, *, length: int, depths: int, seed: int) -> Row:
    """The row of one length, over all depths.

    Raises:
        ContextTooLong: the model's window holds less.
    """
    asked, scores = [], []
    for needle in needles(seed, length, depths):
        asked.append(ask(worker, needle.request()))
        scores.append(needle.verify(asked[-1].completion.text))
    return _row("long context", model, category, scores, asked)


def measure_turns(worker: Worker, model: str, *, conversations: int, seed: int) -> list[Row]:
    """One row a stage of the conversations."""
    scores: dict[str, list[float]] = {stage: [] for stage in STAGES}
    asked: dict[str, list[Asked]] = {stage: [] for stage in STAGES}
    for number in range(conversations):
        turns = eight_turns(seed, number)
        answers: list[Asked] = []

        def reply(messages: tuple[Message, ...], answers: list[Asked] = answers) -> str:
            request = GenerationRequest(messages=messages, max_tokens=MAX_TOKENS, stop=("\n",), seed=0)
            answers.append(ask(worker, request))
            return answers[-1].completion.text

        for turn, right, answer in zip(turns, converse(turns, reply), answers, strict=True):
            scores[turn.stage].append(float(right))
            asked[turn.stage].append(answer)
    return [_row("turns", model, stage, scores[stage], asked[stage]) for stage in STAGES]


def measure_choices(worker: Worker, model: str, category: str, choices: Sequence[Choice]) -> Row:
    """The row of one set of multiple choice, by log likelihood.

    Raises:
        SageError: as :meth:`Worker.score`.
    """
    before, correct, tokens = worker.cpu_seconds(), 0, 0
    for choice in choices:
        scores = worker.score(choice.prompt, choice.answers)
        correct += choice.chosen(scores) == choice.right
        tokens += sum(score.tokens for score in scores)
    count = len(choices)
    return {
        "what": "choices",
        "model": model,
        "category": category,
        "n": count,
        "correct": correct,
        "cpu_s": round((worker.cpu_seconds() - before) / count, 4),
        "tokens_read": round(tokens / count),
        "tokens_written": 0.0,
    }


def _row(what: str, model: str, category: str, scores: Sequence[float], asked: Sequence[Asked]) -> Row:
    """``cpu_s`` and tokens are means of one answer."""
    count = len(asked)
    return {
        "what": what,
        "model": model,
        "category": category,
        "n": count,
        "correct": round(sum(scores)),
        "cpu_s": round(sum(each.cpu_s for each in asked) / count, 4),
        "tokens_read": round(sum(each.completion.prompt_tokens for each in asked) / count),
        "tokens_written": round(sum(each.completion.completion_tokens for each in asked) / count, 1),
    }
