"""The tables of trust: rows and resets of a book, and the facts that go with them.

Owns: their SQL. Must not know: when a book is read or written, or what a row means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from sage.economy.context import Codebook
from sage.economy.drift import Drift
from sage.economy.trust import TrustRow
from sage.memory.db import Database
from sage.memory.verbatim import to_json
from sage.types import new_id

__all__ = ["TrustTables"]

ORIGIN = "trust.origin"
VERSION = "trust.version"
LEARNED = "trust.learned."
"""With the id of a codebook: the row id of the newest outcome that its rows hold."""

RESET = "trust.reset."
"""With the name of a candidate: the row id of the newest outcome when it was reset. Clocks may be wrong, and
what was forgotten stays forgotten."""


class TrustTables:
    """What the database keeps of trust under one codebook, and the facts that all codebooks share.

    Nothing here opens a transaction: who writes several things together does.
    """

    def __init__(self, db: Database, codebook: Codebook) -> None:
        self._db = db
        self._codebook = codebook

    def origin(self) -> str:
        """The name of this database among nodes; made once, also where two processes start together."""
        if (known := self._fact(ORIGIN)) is not None:
            return known
        self._db.execute("INSERT OR IGNORE INTO facts (name, value) VALUES (?, ?)", (ORIGIN, new_id("node")))
        return str(self._db.execute("SELECT value FROM facts WHERE name = ?", (ORIGIN,))[0][0])

    def version(self) -> int:
        """Goes up with each change of trust, and with nothing else."""
        return int(self._fact(VERSION) or 0)

    def changed(self) -> int:
        """Note a change of trust; returns the new version."""
        found = self._db.execute(
            "INSERT INTO facts (name, value) VALUES (?, '1')"
            " ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value",
            (VERSION,),
        )
        return int(found[0][0])

    def learned(self) -> int | None:
        """The row id of the newest outcome that the rows of this codebook hold; None for a new codebook."""
        found = self._fact(LEARNED + self._codebook.id)
        return None if found is None else int(found)

    def set_learned(self, row_id: int) -> None:
        """Note up to where outcomes were learned under this codebook."""
        self._set_fact(LEARNED + self._codebook.id, str(row_id))

    def resets(self) -> dict[str, float]:
        """When candidates were reset, for those that were."""
        return dict(self._db.execute("SELECT candidate, at FROM trust_resets"))

    def set_reset(self, candidate: str, at: float, *, newest: int) -> None:
        """Note a reset, and forget what a candidate's answers have shown. ``newest`` outcome: see RESET."""
        self._db.execute("INSERT OR REPLACE INTO trust_resets (candidate, at) VALUES (?, ?)", (candidate, at))
        self._set_fact(RESET + candidate, str(newest))
        self._db.execute("DELETE FROM opinions WHERE candidate = ?", (candidate,))

    def forgotten(self) -> dict[str, int]:
        """By candidate the row id up to which its outcomes are forgotten."""
        found = self._db.execute(
            "SELECT substr(name, ?), value FROM facts WHERE name >= ? AND name < ?",
            (len(RESET) + 1, RESET, RESET + "\U0010ffff"),
        )
        return {candidate: int(value) for candidate, value in found}

    def rows(self) -> list[TrustRow]:
        """The rows of every origin."""
        found = self._db.execute(
            "SELECT origin, candidate, since, events, at, total, sums, weights, drift FROM trust_rows"
            " WHERE codebook = ?",
            (self._codebook.id,),
        )
        return [
            TrustRow(
                origin=origin,
                candidate=candidate,
                since=since,
                events=events,
                at=at,
                total=total,
                sums=np.frombuffer(sums, "<f8").astype(float),
                weights=np.frombuffer(weights, "<f8").astype(float),
                drift=Drift(**json.loads(drift)),
            )
            for origin, candidate, since, events, at, total, sums, weights, drift in found
        ]

    def write(self, row: TrustRow) -> None:
        """Store a row in place of the one that was."""
        self._db.execute(
            "INSERT OR REPLACE INTO trust_rows"
            " (codebook, origin, candidate, since, events, at, total, sums, weights, drift)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._codebook.id,
                row.origin,
                row.candidate,
                row.since,
                row.events,
                row.at,
                row.total,
                row.sums.astype("<f8").tobytes(),
                row.weights.astype("<f8").tobytes(),
                to_json(row.drift),
            ),
        )

    def rewrite(self, rows: Iterable[TrustRow]) -> None:
        """Store these rows in place of all that there are."""
        self._db.execute("DELETE FROM trust_rows WHERE codebook = ?", (self._codebook.id,))
        for row in rows:
            self.write(row)

    def _fact(self, name: str) -> str | None:
        found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,))
        return str(found[0][0]) if found else None

    def _set_fact(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))
