"""How well each piece of a question is met by some piece of a message, by the sentence model.

Owns: the codes of pieces, their rows in ``passage_vectors``, and the comparison.
Must not know: other signs of a fit, who asks.

Late interaction (Khattab and Zaharia, "ColBERT", 2020): each piece of the question looks for its best piece
in the message. With MiniLM that finds far more than comparing mean vectors (docs/measured.md). Of common
words and punctuation nothing is kept, of the other pieces the signs of their numbers, 48 bytes a piece, about
0.6 kB a message. Whole numbers would take sixteen times the room and found no more that is beyond noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sage.memory.db import Database
from sage.memory.lexical import STOP

__all__ = ["Meaning", "TokenEmbedder"]

Floats = npt.NDArray[np.float32]

MOST_PIECES = 96
"""Of one message; the sentence model reads about 500 characters of it."""


TELLING = 3
"""Pieces by which two messages are held against each other: two that tell of one thing share these, whatever
else they say."""


class TokenEmbedder(Protocol):
    """What :class:`sage.memory.minilm.MiniLM` offers."""

    def tokens(self, text: str) -> tuple[list[str], Floats]:
        """The pieces of a text and a vector for each, (n, width); width is a multiple of 8.

        Raises:
            SageError: the embedder cannot work here.
        """
        ...


class Meaning:
    """The codes of one database's passages."""

    def __init__(self, db: Database, embedder: TokenEmbedder) -> None:
        self._db = db
        self._embedder = embedder
        self._width = 0
        """Numbers of a piece, known since something was asked."""

    def catch_up(self, *, limit: int, namespace: str | None = None) -> int:
        """Make the codes of up to ``limit`` passages that have none, newest first (about 7 ms each); returns
        how many were made. For idle time."""
        rows = self._db.execute(
            "SELECT id, speaker, text FROM passages WHERE (?1 IS NULL OR namespace = ?1)"
            " AND id NOT IN (SELECT passage_id FROM passage_vectors) ORDER BY id DESC LIMIT ?2",
            (namespace, limit),
        )
        codes = [(ident, _codes(*self._embedder.tokens(f"{who}: {text}"))) for ident, who, text in rows]
        made = 0
        with self._db.transaction():
            for ident, code in codes:
                # The passage may have been forgotten, or coded by another process, while it was read.
                made += len(
                    self._db.execute(
                        "INSERT OR IGNORE INTO passage_vectors (passage_id, data)"
                        " SELECT id, ?2 FROM passages WHERE id = ?1 RETURNING passage_id",
                        (ident, code),
                    )
                )
        return made

    def fit(self, question: str, skip: frozenset[str], ids: Sequence[int]) -> Floats:
        """(len(ids), pieces of the question that are not in ``skip``): best fit of each, about -1..1; NaN in
        the rows of passages without codes."""
        pieces, vectors = self._embedder.tokens(question)
        chosen = _telling(pieces, skip)
        wanted = vectors[chosen or slice(None)]
        result = np.full((len(ids), len(wanted)), np.nan, np.float32)
        if not len(wanted):
            return result
        found = self._codes_of(ids)
        held = [row for row, ident in enumerate(ids) if found.get(ident)]
        if not held:
            return result
        width = self._width = wanted.shape[1]
        codes = np.frombuffer(b"".join(found[ids[row]] for row in held), np.uint8).reshape(-1, width // 8)
        columns = np.ascontiguousarray(_words(codes).T)
        sizes = np.array([len(found[ids[row]]) * 8 // width for row in held])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        for piece, code in enumerate(_words(np.packbits(wanted > 0, axis=1))):
            differ = np.zeros(columns.shape[1], np.uint16)
            for column, word in zip(columns, code, strict=True):
                differ += np.bitwise_count(column ^ word)
            nearest = np.minimum.reduceat(differ, starts)
            # The angle between two vectors is the share of their signs that differ (Charikar 2002).
            result[held, piece] = np.cos(np.pi * nearest / width)
        return result

    def alike(self, some: Sequence[int], others: Sequence[int]) -> Floats:
        """(len(some), len(others)): how much of what a passage says best another says too, the mean of its
        ``TELLING`` nearest pieces, about -1..1; NaN where one has no codes."""
        result = np.full((len(some), len(others)), np.nan, np.float32)
        found = self._codes_of([*some, *others])
        held = [row for row, ident in enumerate(others) if found.get(ident)]
        if not held or not self._width:
            return result
        packed = [_signs(found[others[row]], self._width) for row in held]
        pieces = np.concatenate(packed)
        starts = np.concatenate([[0], np.cumsum([len(part) for part in packed])[:-1]])
        for row, ident in enumerate(some):
            if found.get(ident):
                own = _signs(found[ident], self._width)
                agree = np.maximum.reduceat(own @ pieces.T, starts, axis=1) / pieces.shape[1]
                near = np.cos(np.pi * (1.0 - agree) / 2.0)
                result[row, held] = np.sort(near, axis=0)[-TELLING:].mean(0)
        return result

    def _codes_of(self, ids: Sequence[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for at in range(0, len(ids), 500):
            part = ids[at : at + 500]
            marks = ", ".join("?" * len(part))
            sql = f"SELECT passage_id, data FROM passage_vectors WHERE passage_id IN ({marks})"  # noqa: S608
            found.update((ident, data) for ident, data in self._db.execute(sql, part))
        return found


def _codes(pieces: Sequence[str], vectors: Floats) -> bytes:
    said = _telling(pieces, STOP) or list(range(len(pieces)))
    return np.packbits(vectors[said[:MOST_PIECES]] > 0, axis=1).tobytes()


def _signs(codes: bytes, width: int) -> Floats:
    """(pieces, width) of -1 and 1."""
    bits = np.unpackbits(np.frombuffer(codes, np.uint8).reshape(-1, width // 8), axis=1)
    return bits.astype(np.float32) * 2.0 - 1.0


def _telling(pieces: Sequence[str], skip: frozenset[str]) -> list[int]:
    """Places of the pieces that say what a text is about."""
    return [at for at, piece in enumerate(pieces) if piece not in skip and piece.strip("#").isalnum()]


def _words(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The same bits in words of 64, padded with zeros."""
    return np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))).view(np.uint64)
