"""How a base model, which only continues text, is asked a question.

Owns: the text it is given and where its answer ends. Must not know: which library runs it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sage.types import Message

__all__ = ["QA_EXAMPLES", "QA_STOP", "qa_prompt"]

QA_STOP = ("\nQ:", "\n\n")
"""Where a base model's answer ends: it would go on to ask itself the next question."""

QA_EXAMPLES = (
    ("What colour is the sky on a clear day?", "Blue."),
    ("What is 4 + 5?", "4 + 5 = 9."),
    ("Is the sentence 'The tea was lovely' positive or negative?", "Positive."),
    ("Is the sentence 'What a dreadful meal' positive or negative?", "Negative."),
    ("Write a sentence about the sea.", "The sea was calm, and the boats came home before dark."),
)
"""A base model continues text, so it is shown that answers are short, complete, and of several kinds.
Each label of the judgement stands once: with one label only, answers lean to it."""


def qa_prompt(messages: Sequence[Message]) -> str:
    """A conversation as the question-and-answer text that a base model can continue."""
    lines = [m.content for m in messages if m.role == "system"]
    for question, answer in QA_EXAMPLES:
        lines.append(f"Q: {question}\nA: {answer}")
    for message in messages:
        if message.role == "user":
            lines.append(f"Q: {message.content}\nA:")
        elif message.role == "assistant" and lines:
            lines[-1] += f" {message.content}"
    return "\n\n".join(lines)
