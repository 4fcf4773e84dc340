"""Everything that was said, message by message, in the order it was said.

Owns: the rows of ``passages`` and what may stand in one. Must not know: how passages are found again.

Append-only: a passage is never changed, only forgotten, and then its rows in every index go with it (triggers
and foreign keys in ``migrations``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sage.memory.db import Database

__all__ = ["DEFAULT_NAMESPACE", "LONGEST", "Passage", "PassageStore", "Said"]

DEFAULT_NAMESPACE = "default"
"""Whose memory it is where nobody says."""

LONGEST = 32_000
"""Characters kept of one message: of a longer one both ends, because what is asked stands at one of them. The
turn it belongs to keeps the whole."""

GAP = "\n[...]\n"

_COLUMNS = "id, namespace, session, turn_id, speaker, at, text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A message to keep. ``at`` is in seconds since the epoch; ``turn_id`` is None where it was imported."""

    session: str
    speaker: str
    at: float
    text: str
    namespace: str = DEFAULT_NAMESPACE
    turn_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A message that is kept. Ids grow in the order of storing and are never used again."""

    id: int
    namespace: str
    session: str
    turn_id: str | None
    speaker: str
    at: float
    text: str


class PassageStore:
    """The passages of one database, divided into namespaces. What is added is durable on return."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, said: Said) -> int:
        """Keep one message; returns its id.

        Raises:
            ValueError: its time is no number. StoreError: the turn does not exist, or SQLite refuses.
        """
        return self.add_many([said])[0]

    def add_many(self, many: Iterable[Said]) -> list[int]:
        """Keep messages, all or none; returns their ids in the same order. Raises: see :meth:`add`."""
        rows = [(s.namespace, s.session, s.turn_id, s.speaker, _time(s.at), _kept(s.text)) for s in many]
        with self._db.transaction():
            return [
                int(
                    self._db.execute(
                        "INSERT INTO passages (namespace, session, turn_id, speaker, at, text)"
                        " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                        row,
                    )[0][0]
                )
                for row in rows
            ]

    def get(self, ids: Sequence[int]) -> list[Passage]:
        """These passages, in this order; those that are not there are left out."""
        found: dict[int, Passage] = {}
        for at in range(0, len(ids), 500):
            part = ids[at : at + 500]
            marks = ", ".join("?" * len(part))
            sql = f"SELECT {_COLUMNS} FROM passages WHERE id IN ({marks})"  # noqa: S608
            found.update((row[0], _passage(row)) for row in self._db.execute(sql, part))
        return [found[ident] for ident in ids if ident in found]

    def of_turn(self, turn_id: str) -> list[Passage]:
        """What was said in a turn, in its order; nothing where the turn was not done."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM passages WHERE turn_id = ? ORDER BY id",  # noqa: S608
            (turn_id,),
        )
        return [_passage(row) for row in rows]

    def last(self, session: str, *, namespace: str = DEFAULT_NAMESPACE, count: int) -> list[Passage]:
        """The last ``count`` passages of a session (x-from-last), oldest first."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM passages WHERE namespace = ? AND session = ?"  # noqa: S608
            " ORDER BY id DESC LIMIT ?",
            (namespace, session, count),
        )
        return [_passage(row) for row in reversed(rows)]

    def after(self, ident: int, *, namespace: str = DEFAULT_NAMESPACE, limit: int) -> list[Passage]:
        """The first ``limit`` passages of a namespace whose id is above ``ident``, oldest first."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM passages WHERE namespace = ? AND id > ?"  # noqa: S608
            " ORDER BY id LIMIT ?",
            (namespace, ident, limit),
        )
        return [_passage(row) for row in rows]

    def count(self, namespace: str = DEFAULT_NAMESPACE) -> int:
        """How many passages a namespace has."""
        return int(self._db.execute("SELECT count(*) FROM passages WHERE namespace = ?", (namespace,))[0][0])


def _passage(row: tuple[object, ...]) -> Passage:
    ident, namespace, session, turn_id, speaker, at, text = row
    return Passage(
        id=int(str(ident)),
        namespace=str(namespace),
        session=str(session),
        turn_id=None if turn_id is None else str(turn_id),
        speaker=str(speaker),
        at=float(str(at)),
        text=str(text),
    )


def _time(at: float) -> float:
    if not math.isfinite(at):
        raise ValueError(f"a passage was said at {at}, which is no time")
    return at


def _kept(text: str) -> str:
    """At most ``LONGEST`` characters, and only those that UTF-8 has."""
    if len(text) > LONGEST:
        half = (LONGEST - len(GAP)) // 2
        text = text[:half] + GAP + text[-half:]
    return text.encode("utf-8", "replace").decode("utf-8")
