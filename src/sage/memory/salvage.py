"""A damaged database is set aside and made again from what can be read of it.

Owns: finding out whether a file is damaged, setting it aside, and reading rows around the damage.
Must not know: what a row means, or how SQLite is spoken to.

The damaged file is renamed, with the date, and never deleted. Only tables are read, along their own order:
indexes, full-text and recall indexes are made again from them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage.errors import StoreDamaged, StoreError
from sage.memory.db import Database

__all__ = ["TABLES", "Salvaged", "repair"]

PAGE = 200
"""Rows read at once where nothing is damaged."""

FARTHEST = 1 << 24
"""Row ids that are looked ahead of damage for the next readable row."""

TABLES = (
    *("turns", "decisions", "contexts", "outcomes", "passages", "passage_vectors"),
    *("salience", "salience_weights", "refinements", "replay"),
    *("accounts", "entries", "facts", "rates", "trust_rows", "trust_resets", "opinions", "opinion_pairs"),
)
"""Those that are not made again from others; whoever is referred to comes first."""

ENDINGS = ("", "-wal", "-shm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Salvaged:
    """Where the damaged file is now, the rows that were saved of each table, and how often reading failed."""

    aside: Path
    rows: dict[str, int]
    failures: int

    def __str__(self) -> str:
        kept = ", ".join(f"{count} {name}" for name, count in self.rows.items() if count and name in SHOWN)
        return (
            f"The database was damaged. It was set aside as {self.aside}, and made again from what could be "
            f"read of it: {kept or 'nothing'}."
        )


LONGEST_GAP = 1 << 34
"""Bytes that may be missing at the end: a header that says more is damaged itself."""

SHOWN = ("turns", "passages", "outcomes")


def repair(path: Path) -> Salvaged | None:
    """Set a damaged database aside and make it again; None, and no change, where it is sound or not there.

    Two processes that find the same damage: the second waits, and finds a sound file. A process that still
    has the damaged file open must be started again.

    Raises:
        StoreError: it is another program's, newer, or cannot be read or written at all.
    """
    with _one_at_a_time(path):
        if not path.exists() or _sound(path):
            return None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = next(
            name
            for number in range(1000)
            if not (
                name := path.with_name(f"{path.name}.damaged-{stamp}{f'-{number}' if number else ''}")
            ).exists()
        )
        fresh = path.with_name(f"{path.name}.fresh")
        _delete(fresh)  # of a repair that was cut off
        with _whole(path) as readable, Database(fresh) as new:
            rows, failures = _copy(readable, new)
            new.checkpoint()
        # First the damaged one goes: a crash between the two leaves no database (the next start makes a new
        # one), but never a sound one beside a foreign WAL.
        for ending in reversed(ENDINGS):
            with suppress(FileNotFoundError):
                os.rename(f"{path}{ending}", f"{aside}{ending}")
        os.rename(fresh, path)
        return Salvaged(aside=aside, rows=rows, failures=failures)


def _sound(path: Path) -> bool:
    try:
        with Database(path) as db:
            return db.integrity() == "ok"
    except StoreDamaged:
        return False


def _copy(path: Path, new: Database) -> tuple[dict[str, int], int]:
    rows, failures = dict.fromkeys(TABLES, 0), 0
    try:
        old = Database(path, read_only=True)
    except StoreDamaged:
        return rows, 1
    with old:
        for table in TABLES:
            columns = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
            reader = _Reader(old, table, columns)
            for batch in reader.batches():
                rows[table] += _store(new, table, columns, batch)
            failures += reader.failures
    return rows, failures


def _store(new: Database, table: str, columns: list[str], batch: list[tuple[Any, ...]]) -> int:
    """Rows of a batch that the new database takes: not those that refer to a row that was lost."""
    names, marks = ", ".join(["rowid", *columns]), ", ".join("?" * (len(columns) + 1))
    sql = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  names of ours
    turn = columns.index("turn_id") if table == "passages" else -1
    taken = 0
    with new.transaction():
        for row in batch:
            for form in (row, _without(row, turn + 1)) if turn >= 0 else (row,):
                try:
                    with new.savepoint():
                        new.execute(sql, form)
                except StoreError:
                    continue
                taken += 1
                break
    return taken


def _without(row: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    """What was said is kept, also where its turn is lost."""
    return (*row[:at], None, *row[at + 1 :])


class _Reader:
    """The rows of one table in their order, with the row id first, around what cannot be read."""

    def __init__(self, db: Database, table: str, columns: list[str]) -> None:
        self._db = db
        self._sql = (
            f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED"  # noqa: S608  names of ours
            " WHERE rowid > ? ORDER BY rowid LIMIT ?"
        )
        self.failures = 0

    def batches(self) -> Iterator[list[tuple[Any, ...]]]:
        last, size = -(1 << 62), PAGE
        while True:
            rows = self._read(last, size)
            if rows is None and size > 1:
                size = 1
            elif rows is None:
                if (past := self._past(last)) is None:
                    return
                last = past
            elif rows:
                yield rows
                last = rows[-1][0]
                size = min(PAGE, 2 * size)
            else:
                return

    def _read(self, after: int, count: int) -> list[tuple[Any, ...]] | None:
        try:
            return self._db.execute(self._sql, (after, count))
        except StoreError:
            self.failures += 1
            return None

    def _past(self, last: int) -> int | None:
        """The least row id behind the damage after ``last`` from which on reading works again."""
        bad, step = max(last, 0), 1
        while self._read(bad + step, 1) is None:
            bad, step = bad + step, 2 * step
            if step > FARTHEST:
                return None
        good = bad + step
        while good - bad > 1:
            middle = (good + bad) // 2
            if self._read(middle, 1) is None:
                bad = middle
            else:
                good = middle
        return good


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file that is as long as its header says; SQLite reads nothing of a shorter one. What is missing of it
    is added, as zeros, to a copy."""
    with path.open("rb") as file:
        head = file.read(100)
    size = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    said = (65536 if size == 1 else size) * pages
    if not path.stat().st_size < said < LONGEST_GAP + path.stat().st_size:
        yield path
        return
    longer = path.with_name(f"{path.name}.longer")
    try:
        _delete(longer)
        shutil.copyfile(path, longer)
        if (wal := Path(f"{path}-wal")).exists():
            shutil.copyfile(wal, f"{longer}-wal")
        os.truncate(longer, said)
        yield longer
    finally:
        _delete(longer)


def _delete(path: Path) -> None:
    for ending in ENDINGS:
        Path(f"{path}{ending}").unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """The lock ends with its process, however that ends."""
    try:
        lock = os.open(path.with_name(f"{path.name}.repair"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path.parent} cannot be written: {error.strerror}", mend="sage doctor") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
