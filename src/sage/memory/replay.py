"""The replay buffer: puzzles that were asked, for the reasoner to learn from.

Owns: finding puzzles in what was asked, keeping each once, how many are kept. Must not know: how they are
solved or learned from.

A puzzle is a JSON object with ``train`` and ``test``, lists of ``{"input": grid, "output": grid}`` (a test
may lack its output), as ARC has it: grids of 1 to 30 rows and columns of colours 0 to 9.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sage.memory.db import Database

__all__ = ["MOST", "Puzzle", "Replay", "puzzles_in"]

MOST = 10_000
"""Puzzles kept, the newest: some 30 MB."""

AT_ONCE = 16
"""Turns read in one piece."""

LONGEST = 500_000
"""Characters of a message in which puzzles are looked for: the largest have some 100,000."""

UP_TO = "replay.up_to"

SIDE, COLOURS = 30, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Puzzle:
    """A puzzle as it was asked, and the quality found in the newest answer (None: nobody judged it)."""

    puzzle: Mapping[str, Any]
    solved: float | None


class Replay:
    """The puzzles of one database, of all namespaces: nothing of them is shown to anybody."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def gather(self) -> Iterator[int]:
        """Take up the puzzles of turns that ended since the last time; yields how many, a piece at a time."""
        while rows := self._next():
            found = [
                (row[1], row[2], puzzle)
                for row in rows
                if "train" in row[3]
                for message in json.loads(row[3])
                for puzzle in puzzles_in(message["content"])
            ]
            with self._db.transaction():
                for turn_id, namespace, puzzle in found:
                    self._keep(turn_id, namespace, puzzle)
                self._db.execute(
                    "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (UP_TO, rows[-1][1])
                )
            yield len(found)
        self._judge()

    def _next(self) -> list[tuple[Any, ...]]:
        """Turns that have ended, after the last that was looked at.

        That one is noted by name, for row ids of turns that were forgotten are given again. Where it is gone,
        all are looked at again: no puzzle is kept twice.
        """
        noted = self._db.execute(
            "SELECT t.rowid FROM facts f JOIN turns t ON t.id = f.value WHERE f.name = ?", (UP_TO,)
        )
        return self._db.execute(
            "SELECT rowid, id, namespace, messages FROM turns WHERE rowid > ?1"
            " AND rowid < coalesce((SELECT min(rowid) FROM turns WHERE status = 'running'), ?2)"
            " ORDER BY rowid LIMIT ?3",
            (noted[0][0] if noted else 0, 2**62, AT_ONCE),
        )

    def draw(self, count: int, chance: random.Random) -> list[Puzzle]:
        """Up to ``count`` puzzles, each at most once, all as likely."""
        ids = [row[0] for row in self._db.execute("SELECT id FROM replay ORDER BY id")]
        drawn = chance.sample(ids, min(count, len(ids)))
        found = {
            ident: Puzzle(puzzle=json.loads(puzzle), solved=solved)
            for ident, puzzle, solved in self._db.execute(
                "SELECT id, puzzle, solved FROM replay WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(drawn),),
            )
        }
        return [found[ident] for ident in drawn if ident in found]

    def count(self) -> int:
        """How many there are."""
        return int(self._db.execute("SELECT count(*) FROM replay")[0][0])

    def _keep(self, turn_id: str, namespace: str, puzzle: Mapping[str, Any]) -> None:
        text = json.dumps(puzzle, separators=(",", ":"))
        # Forgotten meanwhile, the turn is not there any more.
        self._db.execute(
            "INSERT INTO replay (namespace, digest, turn_id, puzzle)"
            " SELECT ?, ?, id, ? FROM turns WHERE id = ?"
            " ON CONFLICT (namespace, digest) DO UPDATE SET turn_id = excluded.turn_id",
            (namespace, hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), text, turn_id),
        )

    def _judge(self) -> None:
        """How the newest answers did, and no more puzzles than may be kept."""
        with self._db.transaction():
            # The row ids of the newest turns are used again where these were forgotten.
            self._db.execute(
                "UPDATE facts SET value = (SELECT coalesce(max(rowid), 0) FROM turns)"
                " WHERE name = ? AND value + 0 > (SELECT coalesce(max(rowid), 0) FROM turns)",
                (UP_TO,),
            )
            self._db.execute(
                "UPDATE replay SET solved = found.quality FROM (SELECT turn_id, avg(quality) AS quality"
                " FROM outcomes WHERE source IN ('user', 'verifier') AND turn_id IN"
                " (SELECT turn_id FROM replay) GROUP BY turn_id) AS found"
                " WHERE replay.turn_id = found.turn_id AND solved IS NOT found.quality"
            )
            self._db.execute(
                "DELETE FROM replay WHERE id IN (SELECT id FROM replay ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (MOST,),
            )


def puzzles_in(text: str) -> Iterator[dict[str, Any]]:
    """The puzzles that stand in a text of at most ``LONGEST`` characters, alone or among words."""
    decoder = json.JSONDecoder()
    at = text.find("{") if len(text) <= LONGEST else -1
    while at >= 0:
        # A brace that begins no puzzle costs a look at the next word, not a parse of the rest.
        end = at + 1
        if text[end : end + 40].lstrip().startswith(('"train"', '"test"')):
            try:
                found, end = decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                # What has been read up to there is no puzzle either: each place is read once.
                found, end = None, max(end, error.pos)
            except RecursionError:
                return
            if _is_puzzle(found):
                yield {"train": found["train"], "test": found["test"]}
        at = text.find("{", end)


def _is_puzzle(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    train, test = found.get("train"), found.get("test")
    if not isinstance(train, list) or not isinstance(test, list) or not train or not test:
        return False
    shown = all(isinstance(pair, dict) and {"input", "output"} <= set(pair) for pair in train)
    asked = all(isinstance(pair, dict) and "input" in pair for pair in test)
    return (
        shown
        and asked
        and all(
            _is_grid(pair[side])
            for pair in (*train, *test)
            for side in ("input", "output")
            if pair.get(side) is not None
        )
    )


def _is_grid(grid: Any) -> bool:
    return (
        isinstance(grid, list)
        and 1 <= len(grid) <= SIDE
        and all(isinstance(row, list) and 1 <= len(row) <= SIDE and len(row) == len(grid[0]) for row in grid)
        and all(type(cell) is int and 0 <= cell < COLOURS for row in grid for cell in row)
    )
