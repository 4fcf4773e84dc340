"""What is brought back from memory for a piece of work.

Owns: choosing past turns within a budget of tokens. Must not know: how turns are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sage.memory.verbatim import VerbatimStore
from sage.types import Message

__all__ = ["newest_that_fit", "recall_session"]

MOST_TURNS = 50
"""Turns looked at; more than any context of a small model holds."""


def recall_session(
    store: VerbatimStore, session: str, *, budget: int, count_tokens: Callable[[str], int]
) -> tuple[Message, ...]:
    """The newest whole turns of this session that fit into ``budget`` tokens, oldest first."""
    return newest_that_fit(store.history(session, turns=MOST_TURNS), budget, count_tokens)


def newest_that_fit(
    messages: Sequence[Message], budget: int, count_tokens: Callable[[str], int]
) -> tuple[Message, ...]:
    """The end of a conversation of questions and answers, in whole turns, within ``budget`` tokens."""
    kept: list[Message] = []
    for question, answer in reversed(list(zip(messages[::2], messages[1::2], strict=True))):
        budget -= count_tokens(question.content) + count_tokens(answer.content)
        if budget < 0:
            break
        kept[:0] = [question, answer]
    return tuple(kept)
