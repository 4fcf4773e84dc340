"""Stored outcomes with the places of their turns' texts: what trust learns from, again where it must.

Owns: reading them in order, a page at a time, and placing texts that were noted for another codebook.
Must not know: what is learned from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sage.economy.context import Context
from sage.memory.db import Database
from sage.memory.locate import Locator
from sage.types import Outcome

__all__ = ["Lesson", "Lessons"]

PAGE = 64

_NAMES = ("event_id", "turn_id", "candidate", "kind", "quality", "source", "at", "shift")
_NOTED = "c.codebook, c.labels, c.cells, c.membership, t.prompt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One outcome, where its text lies, and its row id: the order in which outcomes were stored."""

    row_id: int
    outcome: Outcome
    context: Context


class Lessons:
    """The outcomes of one database, for one locator."""

    def __init__(self, db: Database, locator: Locator) -> None:
        self._db = db
        self._locator = locator

    def newest(self) -> int:
        """The row id of the newest outcome; 0 where there is none."""
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM outcomes")[0][0])

    def before_newest(self, count: int) -> int:
        """The row id after which there are ``count`` outcomes, or 0 where there are fewer."""
        found = self._db.execute("SELECT rowid FROM outcomes ORDER BY rowid DESC LIMIT 1 OFFSET ?", (count,))
        return int(found[0][0]) if found else 0

    def count(self, up_to: int) -> int:
        """Outcomes up to a row id."""
        return int(self._db.execute("SELECT count(*) FROM outcomes WHERE rowid <= ?", (up_to,))[0][0])

    def after(self, row_id: int) -> list[Lesson]:
        """The next outcomes after ``row_id``, oldest first: a page of them at most, none at the end."""
        columns = ", ".join(f"o.{name}" for name in _NAMES)
        rows = self._db.execute(
            f"SELECT {_NOTED}, o.rowid, {columns} FROM outcomes o"  # noqa: S608
            " CROSS JOIN turns t ON t.id = o.turn_id LEFT JOIN contexts c ON c.turn_id = t.id"
            " WHERE o.rowid > ? ORDER BY o.rowid LIMIT ?",
            (row_id, PAGE),
        )
        contexts = self._contexts([row[:5] for row in rows])
        return [
            Lesson(row_id=row[5], outcome=Outcome(**dict(zip(_NAMES, row[6:], strict=True))), context=context)
            for row, context in zip(rows, contexts, strict=True)
        ]

    def context(self, turn_id: str) -> Context | None:
        """Where a turn's text lies; None where there is no such turn."""
        rows = self._db.execute(
            f"SELECT {_NOTED} FROM turns t LEFT JOIN contexts c ON c.turn_id = t.id"  # noqa: S608
            " WHERE t.id = ?",
            (turn_id,),
        )
        return self._contexts(rows)[0] if rows else None

    def _contexts(self, rows: Sequence[tuple[Any, ...]]) -> list[Context]:
        """As they were noted for this codebook, or placed anew, all of these together."""
        found = [self._noted(*row[:4]) for row in rows]
        strange = [number for number, context in enumerate(found) if context is None]
        texts = [rows[number][4] for number in strange]
        labels = [self._labels(rows[number][1]) for number in strange]
        placed = dict(zip(strange, self._locator.locate_all(texts, labels), strict=True))
        return [context or placed[number] for number, context in enumerate(found)]

    def _noted(self, codebook: str, _labels: str, cells: bytes, membership: bytes) -> Context | None:
        if codebook != self._locator.codebook.id:
            return None
        try:
            return self._locator.codebook.context(
                np.frombuffer(cells, "<u2").astype(np.intp), np.frombuffer(membership, "<f4").astype(float)
            )
        except ValueError:  # damaged: the text is still there
            return None

    def _labels(self, noted: str | None) -> dict[str, int]:
        """The labels that were noted, and the first cell of views that there are none for."""
        known: Mapping[str, Any] = json.loads(noted) if noted else {}
        views = [view for view in self._locator.codebook.views if view.centroids is None]
        labels = {view.name: int(known.get(view.name, 0)) for view in views}
        sizes = {view.name: view.size for view in views}
        return {name: label if 0 <= label < sizes[name] else 0 for name, label in labels.items()}
