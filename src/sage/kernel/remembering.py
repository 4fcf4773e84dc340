"""What memory gives to a request, and what it keeps of a turn.

Owns: which memories are read for a request, how much of them a model is given, what each learns at the end.
Must not know: candidates, prices, models.

Whatever is wrong with memory, a request is answered without it. What was recalled is data: it is quoted, it
stands with the user's own words, and nothing but the model that answers reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sage.errors import SageError
from sage.kernel.sense import count_tokens
from sage.kernel.stores import Stores
from sage.memory.recall import Recalled, newest_that_fit, recall_session
from sage.memory.salience import Context
from sage.types import Message, Situation

__all__ = [
    "NOTHING",
    "UNKNOWN_SALIENCE",
    "Brought",
    "Heard",
    "bring_back",
    "fitting",
    "keep_turn",
    "lighter",
    "salience_of",
    "with_quotes",
]

UNKNOWN_SALIENCE = 0.5
"""Of a request that could not be appraised: it gets the usual."""

STRENGTHENED = 3
"""So many of the best passages that were shown for an answer grow stronger."""

WRONG = 0.5
"""Answers of less quality than this are not shown again as something that was said."""

_SPEAKER = "user"


@dataclass(frozen=True, kw_only=True, slots=True)
class Brought:
    """What memory gives: the last turns of the session (``history``), and ``quotes`` of what else was said in
    this namespace that fits, as one text; ``shown`` are the ids of its passages, the best first. ``tokens``
    are those of both. ``alone``: memory was looked through, and the session begins here."""

    history: tuple[Message, ...] = ()
    quotes: str = ""
    shown: tuple[int, ...] = ()
    tokens: int = 0
    alone: bool = False


NOTHING = Brought()


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """How an answer was received: the quality that was ``expected`` of its model, what was ``found`` by a
    verifier (None: nothing), and the share of drafts that ``disagree``."""

    expected: float = 0.5
    found: float | None = None
    disagree: float = 0.0


def salience_of(situation: Situation, stores: Stores, *, now: float) -> float:
    """How much a request deserves attention, 0..1."""
    try:
        look = stores.salient.look(situation.prompt, namespace=situation.namespace, now=now)
    except SageError as error:
        _say("appraise", error)
        return UNKNOWN_SALIENCE
    return look.salience.total


def bring_back(situation: Situation, stores: Stores, *, room: int, most: int) -> Brought:
    """What fits into ``room`` tokens beside the request; quotations take half of it and ``most`` at most."""
    try:
        session, namespace = situation.session, situation.namespace
        history = recall_session(
            stores.turns, session, namespace=namespace, budget=room, count_tokens=count_tokens
        )
        budget = min(most, room // 2)
        recalled = _elsewhere(situation, stores, history, budget=budget)
        alone = budget > 0 and not history and not stores.turns.has_done(session, namespace=namespace)
    except SageError as error:
        _say("recall", error)
        return NOTHING
    quotes = recalled.text
    taken = count_tokens(quotes) if quotes else 0
    history = newest_that_fit(history, room - taken, count_tokens)
    best = sorted((hit for hit in recalled.hits if hit.rank), key=lambda hit: hit.rank)
    return Brought(
        history=history,
        quotes=quotes,
        shown=tuple(hit.passage.id for hit in best),
        tokens=taken + sum(count_tokens(message.content) for message in history),
        alone=alone,
    )


def fitting(brought: Brought, room: int) -> Brought:
    """As much of it as ``room`` tokens hold: the quotations whole or not at all, then the newest of the
    session."""
    taken = count_tokens(brought.quotes) if brought.quotes else 0
    if taken > room:
        brought, taken = replace(brought, quotes="", shown=()), 0
    return replace(brought, history=newest_that_fit(brought.history, room - taken, count_tokens))


def lighter(brought: Brought) -> Brought:
    """Less of it, when a model found it too long: half of the session goes, at last the quotations."""
    if not brought.history:
        return NOTHING
    return replace(brought, history=brought.history[(len(brought.history) + 2) // 4 * 2 :])


def with_quotes(conversation: Iterable[Message], quotes: str) -> tuple[Message, ...]:
    """The conversation with the quotations before the words of its last question."""
    messages = list(conversation)
    for place in reversed(range(len(messages))):
        if messages[place].role == "user" and quotes:
            messages[place] = replace(
                messages[place], content=f"{quotes}\n\nThe question now:\n{messages[place].content}"
            )
            break
    return tuple(messages)


def keep_turn(turn_id: str, brought: Brought, stores: Stores, heard: Heard, *, now: float) -> None:
    """Let salient memory hear what was said in a turn that is done, and strengthen what served it.

    Raises:
        StoreError: the database fails; nothing of it is kept then.
    """
    contexts = {
        passage.id: Context(
            asked=passage.speaker != _SPEAKER,
            nearby=heard.expected,
            expected=None if heard.found is None else heard.expected,
            found=heard.found,
            disagree=heard.disagree,
        )
        for passage in stores.passages.of_turn(turn_id)
    }
    with stores.db.transaction():
        stores.salient.hear(list(contexts), contexts=contexts)
        if brought.shown and (heard.found is None or heard.found >= WRONG):
            stores.salient.used(brought.shown[:STRENGTHENED], now=now)


def _elsewhere(
    situation: Situation, stores: Stores, history: tuple[Message, ...], *, budget: int
) -> Recalled:
    """What fits the request of all that was said in its namespace and does not stand before the model anyway,
    without answers that turned out wrong."""
    if budget <= 0:
        return Recalled(hits=(), abstained=False)
    session = stores.passages.last(situation.session, namespace=situation.namespace, count=len(history))
    recalled = stores.recall.recall(
        situation.prompt,
        namespace=situation.namespace,
        exclude=[passage.id for passage in session],
        asker=_SPEAKER,
        budget=budget,
        count_tokens=count_tokens,
    )
    wrong = stores.turns.judged_below(WRONG, [hit.passage.turn_id or "" for hit in recalled.hits])
    present = {message.content for message in situation.messages}
    hits = tuple(
        hit
        for hit in recalled.hits
        if hit.passage.text not in present
        and (hit.passage.speaker == _SPEAKER or hit.passage.turn_id not in wrong)
    )
    return replace(recalled, hits=hits)


def _say(work: str, error: SageError) -> None:
    logging.getLogger(__name__).warning("Memory could not %s, so it is done without: %s", work, error.message)
