"""What is left of forgotten text: its distinctive pieces, looked for in the bytes of every file.

Owns: which pieces tell a text from others, and counting them in files.
Must not know: how text is forgotten.

Weights of models are not searched: nothing that was said is ever written to them.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sage.memory.db import Database

__all__ = ["Pieces", "Proof"]

MOST = 64
"""Pieces of either kind; of more text, those at even distances."""

PHRASE = 32
"""Characters of a phrase: it occurs where text is stored as it was said."""

STEM = 7
"""Characters that a word has at least to be looked for by itself: in an index only words are left, without
their endings."""

TELLING = 12
"""Bytes from which on a piece is no coincidence in a file that is no database."""

NOT_SEARCHED = frozenset({"models"})
_RUN = re.compile(r"[^\W_]+(?: [^\W_]+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """How many pieces were looked for, in how many files and bytes; where how many were found; and how many
    pieces were left out because what is kept has them too."""

    pieces: int
    files: int
    bytes: int
    found: dict[str, int]
    also_kept: int

    @property
    def total(self) -> int:
        """Pieces found anywhere: 0 where everything is forgotten."""
        return sum(self.found.values())

    @property
    def in_database(self) -> bool:
        """Whether the database itself, or its WAL, still has any."""
        return any(name in DATABASE for name in self.found)


DATABASE = ("sage.db", "sage.db-wal")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Distinctive pieces of texts."""

    phrases: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Phrases as they were said, and the stems of words."""
        phrases, stems = dict[str, None](), dict[str, None]()
        for text in texts:
            for run in _RUN.findall(text[:100_000]) or [text[:PHRASE]]:
                if len(run.encode("utf-8", "replace")) >= 4:
                    phrases[run[:PHRASE].rstrip()] = None
                stems |= dict.fromkeys(word[:-3].lower() for word in run.split() if len(word) >= STEM + 3)
        return cls(_spread(list(phrases)), _spread(list(stems)))

    def search(self, db: Database, home: Path) -> Proof:
        """Count them in every file of ``home``, but not those that what is kept has too."""
        names = [*self.phrases, *self.stems]
        kept = {piece for piece in names if _is_kept(db, piece)}
        wanted = [piece for piece in names if piece not in kept]
        found, files, size = dict[str, int](), 0, 0
        for path in _files(home):
            database = path.name.startswith("sage.db")
            pieces = [p for p in wanted if database or len(p.encode("utf-8", "replace")) >= TELLING]
            count, length = _count(path, pieces)
            files, size = files + 1, size + length
            if count:
                found[str(path.relative_to(home))] = count
        return Proof(pieces=len(wanted), files=files, bytes=size, found=found, also_kept=len(kept))


def _spread(pieces: list[str]) -> tuple[str, ...]:
    step = max(1.0, len(pieces) / MOST)
    return tuple(pieces[int(number * step)] for number in range(min(MOST, len(pieces))))


def _is_kept(db: Database, piece: str) -> bool:
    """Whether some text of the database has it, or its own table definitions."""
    tables = db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    )
    for (table,) in [*tables, ("sqlite_schema",)]:
        columns = [
            row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[2].upper().startswith("TEXT")
        ]
        if columns:
            tests = " OR ".join(f"instr(lower({column}), lower(?))" for column in columns)
            sql = f"SELECT 1 FROM {table} WHERE {tests} LIMIT 1"  # noqa: S608  names of ours
            if db.execute(sql, [piece] * len(columns)):
                return True
    return False


def _files(home: Path) -> Iterator[Path]:
    for path in sorted(home.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in NOT_SEARCHED:
            yield from (each for each in sorted(path.rglob("*")) if each.is_file() and not each.is_symlink())
        elif path.is_file():
            yield path


def _count(path: Path, pieces: Sequence[str]) -> tuple[int, int]:
    """How many of the pieces a file has, and its bytes."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if not size:
                return 0, 0
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = sum(content.find(piece.encode("utf-8", "replace")) >= 0 for piece in pieces)
            return found, size
    except OSError:
        return 0, 0
