"""Messages that say the same: salient memory keeps the newest of them, with the strength of all.

Owns: which messages are the same, and what becomes of the others. Must not know: when this is done.

What was said stays in the log as it was said. A short message ("Yes, please") says nothing without the one
before it, so that two of them are not the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

from sage.memory.db import Database

__all__ = ["merge_duplicates"]

ALONE = 24
"""Characters from which on a message stands by itself."""

AT_ONCE = 500
"""Messages read in one piece: some milliseconds."""


def merge_duplicates(db: Database) -> Iterator[int]:
    """Yields how many messages were dropped as hits, a piece at a time, each in a transaction of its own."""
    newest: dict[bytes, int] = {}
    last = 0
    while rows := db.execute(
        "SELECT p.id, p.namespace, p.speaker, p.text FROM salience s JOIN passages p ON p.id = s.passage_id"
        " WHERE s.rank IS NOT NULL AND p.id > ? ORDER BY p.id LIMIT ?",
        (last, AT_ONCE),
    ):
        same: list[tuple[int, int]] = []
        for ident, namespace, speaker, text in rows:
            words = " ".join(text.split()).casefold()
            if len(words) >= ALONE:
                key = hashlib.blake2b(f"{namespace}\0{speaker}\0{words}".encode(), digest_size=12).digest()
                if key in newest:
                    same.append((newest[key], ident))
                newest[key] = ident
        last = rows[-1][0]
        yield _merge(db, same)


def _merge(db: Database, same: list[tuple[int, int]]) -> int:
    merged = 0
    if not same:
        return merged
    with db.transaction():
        for old, new in same:
            ranks = dict(
                db.execute(
                    "SELECT passage_id, rank FROM salience WHERE passage_id IN (?, ?) AND rank IS NOT NULL",
                    (old, new),
                )
            )
            if len(ranks) == 2:  # else one was dropped or forgotten meanwhile
                high, low = max(ranks.values()), min(ranks.values())
                both = high + math.log2(1.0 + math.exp2(max(-60.0, low - high)))  # their odds together
                db.execute(
                    "UPDATE salience SET rank = ?1,"
                    " used = used + (SELECT used FROM salience WHERE passage_id = ?3) WHERE passage_id = ?2",
                    (both, new, old),
                )
                db.execute("UPDATE salience SET rank = NULL WHERE passage_id = ?", (old,))
                merged += 1
    return merged
