"""How familiar a message is: its words against those of a namespace, and the nearest of the last messages.

Owns: the counts of words, and distance without a sentence model. Must not know: what makes a message salient.

Words are stems hashed to ``BITS`` bits, so a namespace has at most 2**``BITS`` rows however long it lives.
What a message contributed is in ``salience.words``; triggers add and take away exactly that, so a message
that was forgotten leaves no count behind.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping

from sage.memory import lexical
from sage.memory.db import Database
from sage.memory.salience import Reading

__all__ = ["Familiar", "word_keys"]

BITS = 18
MESSAGES = -1
"""The row that counts the messages themselves."""

WINDOW = 200
"""Messages that the nearest one is looked for among."""

MOST_WORDS = 400
"""Words of one message that are read; its time stays bounded."""

RAREST = 3


def word_keys(text: str) -> dict[int, str]:
    """The hashed words of a message, each once, and a word of the message for each."""
    found = lexical.terms(text[:40_000])[:MOST_WORDS]
    return {lexical.term_key(term) & ((1 << BITS) - 1): term for term in found}


class Familiar:
    """What a namespace is used to. Counts are read from the database at every look, so several processes
    agree; the window is read once and followed."""

    def __init__(self, db: Database, namespace: str) -> None:
        self._db = db
        self._namespace = namespace
        self._window: deque[tuple[int, list[int]]] = deque()
        self._holders: dict[int, deque[int]] = {}
        self._newest = 0
        self._forgotten = 0

    def look(self, words: Mapping[int, str]) -> Reading:
        """What memory has to say of the words (:func:`word_keys`) of a message that it does not hold yet.

        Raises:
            StoreError: the database fails.
        """
        self._follow()
        counts = self._counts(words)
        messages = counts.get(MESSAGES, 0)
        surprise = {key: math.log((messages + 1) / (counts.get(key, 0) + 1)) for key in words}
        nearest, near = self._nearest(surprise)
        rarest = sorted((key for key in words if surprise[key] > 0), key=lambda key: -surprise[key])[:RAREST]
        return Reading(
            nats=max(0.0, sum(surprise.values())),
            new=sum(1 for key in words if key not in counts),
            near=near,
            nearest=nearest,
            rarest=tuple(words[key] for key in rarest),
        )

    def _counts(self, keys: Iterable[int]) -> dict[int, int]:
        rows = self._db.execute(
            "SELECT word, messages FROM salience_words WHERE namespace = ?1"
            " AND word IN (SELECT value FROM json_each(?2))",
            (self._namespace, json.dumps([MESSAGES, *keys])),
        )
        return {int(key): int(count) for key, count in rows}

    def _nearest(self, surprise: Mapping[int, float]) -> tuple[int | None, float]:
        """The message of the window that has most of these words, the newest of equal ones, and the share of
        the words' squared weight that it has."""
        weights = {key: nats * nats for key, nats in surprise.items() if nats > 0}
        found: dict[int, float] = {}
        for key, weight in weights.items():
            for ident in self._holders.get(key, ()):
                found[ident] = found.get(ident, 0.0) + weight
        if not found:
            return None, 0.0
        best = max(found, key=lambda ident: (found[ident], ident))
        return best, found[best] / sum(weights.values())

    def _follow(self) -> None:
        (forgotten,) = self._db.execute(
            "SELECT coalesce((SELECT value FROM facts WHERE name = 'passages.forgotten'), 0)"
        )[0]
        if int(forgotten) != self._forgotten:
            self._window.clear()
            self._holders.clear()
            self._newest, self._forgotten = 0, int(forgotten)
        rows = self._db.execute(
            "SELECT passage_id, words FROM salience WHERE namespace = ? AND passage_id > ?"
            " ORDER BY passage_id DESC LIMIT ?",
            (self._namespace, self._newest, WINDOW),
        )
        for ident, words in reversed(rows):
            self._newest = int(ident)
            held = json.loads(words)
            self._window.append((self._newest, held))
            for key in held:
                self._holders.setdefault(key, deque()).append(self._newest)
            if len(self._window) > WINDOW:
                for key in self._window.popleft()[1]:
                    self._holders[key].popleft()
