"""The database: opened safely, migrated, and refused rather than harmed.

Owns: the connection, transactions, migrations, and turning SQLite's errors into StoreError.
Must not know: what any table means. This is the only module that imports SQLite.

A file that is damaged, foreign or newer than this SAGE is never deleted, overwritten or migrated.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw

from sage.errors import StoreDamaged, StoreError, StoreReadOnly
from sage.memory.migrations import APPLICATION_ID, MIGRATIONS

__all__ = ["MIN_SQLITE", "Database", "Value", "check_sqlite", "sqlite_version"]

Value = str | int | float | bytes | None
"""What a column holds."""

MIN_SQLITE = (3, 51, 3)
"""SQLite 3.7.0 to 3.51.2 could corrupt a WAL database when two connections write or checkpoint
at the same instant (sqlite.org/wal.html, section 11, "the WAL-reset bug")."""

REPAIR = "Set it aside and keep what is readable: sage memory repair"

PART_FAILED = "A part of what was to be stored together failed."

BUSY_SECONDS = 10.0
"""How long to wait for another process: far above one commit (milliseconds), short enough to be told."""


def sqlite_version() -> str:
    """The version of the SQLite that apsw brings."""
    return apsw.sqlite_lib_version()


def check_sqlite(version: str) -> None:
    """Raise StoreError if this version of SQLite can lose data."""
    if tuple(int(part) for part in version.split(".")[:3]) < MIN_SQLITE:
        need = ".".join(str(part) for part in MIN_SQLITE)
        raise StoreError(
            f"SQLite {version} can corrupt a database in WAL mode; {need} or newer is needed.",
            mend="pip install --upgrade apsw",
        )


class Database:
    """One SQLite file, safe to call from several threads and several processes.

    One connection behind a lock rather than one a thread: a commit waits for the disk in any case, and
    a transaction then belongs to exactly one thread. Other processes are kept apart by SQLite itself.
    """

    def __init__(self, path: Path, *, read_only: bool = False, kept: bool = True) -> None:
        """Open, and bring to the newest schema unless ``read_only`` (which needs the file to exist). What is
        not ``kept`` lies in this process's memory and ends with it; ``path`` is then only a name.

        Raises:
            StoreDamaged: not a database, or no sound one. StoreReadOnly: unwritable, or the disk is full.
            StoreError: another program's, newer, unreadable, locked.
        """
        check_sqlite(sqlite_version())
        self.path = path
        self.read_only = read_only
        self.kept = kept
        self.damaged = False
        """Whether damage was met since it was opened."""
        self._lock = threading.RLock()
        self._depth = 0
        self._broken = False
        """Whether a part of the transaction that is open has failed."""
        self._connection: apsw.Connection | None = None
        try:
            with self._translated():
                self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def version(self) -> int:
        """The number of the newest migration this file has."""
        return int(self._one("PRAGMA user_version"))

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and fetch every row. Outside a transaction it is durable on return.

        Raises:
            StoreError: see :meth:`__init__`; also a constraint that does not hold.
        """
        with self._lock, self._translated():
            connection = self._open_connection()
            if (
                self._depth and not connection.in_transaction
            ):  # a full disk or an I/O error has undone all of it
                raise StoreError(PART_FAILED, mend=f"Check the disk: df -h {self._folder}")
            return list(connection.execute(sql, tuple(params)))

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[None]:
        """All or nothing, and durable on leaving. Nested, it is part of the outer one, which cannot be
        completed any more when a part has failed: see :meth:`savepoint`.

        BEGIN IMMEDIATE takes the write lock at once: a transaction that begins by reading and then
        writes could not wait for another writer, because what it has read would be out of date. With
        ``write=False`` it only reads, all of one state, and waits for nobody.

        Raises:
            StoreError: a part of it failed, though that was passed over.
        """
        with self._lock:
            if self._depth:
                with self._part():
                    yield
                return
            self._abandon_leftover()
            self._broken = False
            try:
                # Inside the try: Ctrl-C may come between any two instructions, and a transaction that
                # stayed open would lock everybody out.
                self.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                self._depth = 1
                yield
                if self._broken:
                    raise StoreError(PART_FAILED, mend="sage doctor")
                self.execute("COMMIT")
            except BaseException:
                self._depth = 0
                self._abandon_leftover()
                raise
            finally:
                self._depth = 0

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of a transaction that may fail alone: what it did is undone, and the rest goes on. Outside
        of one it is a transaction."""
        with self._lock:
            if not self._depth:
                with self.transaction():
                    yield
                return
            name, was = f"level_{self._depth}", self._broken
            self.execute(f"SAVEPOINT {name}")
            try:
                with self._part():
                    yield
                if self._broken and not was:
                    raise StoreError(PART_FAILED, mend="sage doctor")
                self.execute(f"RELEASE {name}")
            except BaseException:
                self._broken = True  # until what it did is undone
                with suppress(StoreError):
                    self.execute(f"ROLLBACK TO {name}")
                    self.execute(f"RELEASE {name}")
                    self._broken = was
                raise

    @contextmanager
    def _part(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        except BaseException:
            self._broken = True
            raise
        finally:
            self._depth -= 1

    def _abandon_leftover(self) -> None:
        """Roll back what is open: what failed, or what an interrupt left just after BEGIN or in the middle of
        a rollback."""
        if self._connection is not None and self._connection.in_transaction:
            self.execute("ROLLBACK")

    def integrity(self) -> str:
        """``ok``, or what SQLite found wrong, one finding a line. Reads the whole file."""
        found = [str(row[0]) for row in self.execute("PRAGMA integrity_check(20)")]
        found += [
            f"{row[0]}: row {row[1]} has no {row[2]}" for row in self.execute("PRAGMA foreign_key_check")
        ]
        return "\n".join(line for line in found if line != "ok") or "ok"

    def bytes(self) -> tuple[int, int]:
        """Of the database without its WAL: bytes in use, and free bytes that the file keeps for later."""
        size, pages = self._one("PRAGMA page_size"), self._one("PRAGMA page_count")
        free = self._one("PRAGMA freelist_count")
        return (pages - free) * size, free * size

    def checkpoint(self) -> bool:
        """Write the WAL into the file and cut it to nothing; False where a reader in the way kept it."""
        with self._lock, self._translated():
            busy = next(self._open_connection().execute("PRAGMA wal_checkpoint(TRUNCATE)"))[0]
        return not busy

    def compact(self) -> None:
        """Write the whole file anew, without its free parts; needs room for a second one meanwhile."""
        self.execute("VACUUM")
        self.checkpoint()

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open_connection(self) -> apsw.Connection:
        if self._connection is None:
            raise StoreError(f"{self.path} is closed.", mend="Open it again: Database(path)")
        return self._connection

    def _one(self, sql: str) -> Any:
        return self.execute(sql)[0][0]

    def _open(self) -> None:
        if not self.read_only and self.kept:
            # Prompts and answers are their owner's alone; SQLite gives the WAL the rights of the file.
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        flags = (
            apsw.SQLITE_OPEN_READONLY
            if self.read_only
            else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        )
        connection = apsw.Connection(self._name(), flags=flags | apsw.SQLITE_OPEN_URI)
        self._connection = connection
        connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        # Nothing has been written so far; a file that is refused here stays as it is, to the byte.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._recognise()
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self.execute("PRAGMA foreign_keys = ON")
        # Recall at 100,000 messages reads about 2 MB a question, all that SQLite would keep by default.
        self.execute("PRAGMA cache_size = -16000")
        if self.read_only:
            return
        if self.kept:
            self._use_wal()
        # What is deleted is overwritten with zeros: forgotten text must not stay in free parts of the file.
        self.execute("PRAGMA secure_delete = ON")
        # FULL: in WAL mode a commit then waits for the disk, so an acknowledged turn survives
        # power loss too (NORMAL may lose the last commits; sqlite.org/pragma.html#pragma_synchronous).
        self.execute("PRAGMA synchronous = FULL")
        if sys.platform == "darwin":
            # fsync on macOS stops at the drive's own cache; F_FULLFSYNC does not.
            self.execute("PRAGMA fullfsync = ON")
        self._migrate()
        # A folder that cannot be written is noticed only by writing; better now than at the first answer.
        with self.transaction():
            pass

    def _name(self) -> str:
        """What SQLite is asked to open. Even to read, it writes beside the file; where that is impossible,
        nobody else writes either, and a file whose WAL is empty can be read as it is."""
        if not self.kept:
            return ":memory:"
        effective = os.access in os.supports_effective_ids
        if self.read_only and not os.access(self.path.parent, os.W_OK, effective_ids=effective):
            wal = Path(f"{self.path}-wal")
            if not wal.exists() or wal.stat().st_size == 0:
                return f"{self.path.absolute().as_uri()}?immutable=1"
        return self.path.absolute().as_uri()

    def _recognise(self) -> None:
        application = int(self._one("PRAGMA application_id"))
        tables = int(self._one("SELECT count(*) FROM sqlite_schema"))
        if application != APPLICATION_ID and (application != 0 or tables > 0):
            raise StoreError(
                f"{self.path} is a database of another program.", mend="Point SAGE_HOME at another folder"
            )
        found, newest = self.version, len(MIGRATIONS)
        if found > newest:
            raise StoreError(
                f"{self.path} has schema version {found}; this SAGE knows up to version {newest}.",
                mend="Upgrade SAGE (pip install --upgrade sage-kernel), or point SAGE_HOME at another folder",
            )
        if self.read_only and found < newest:
            raise StoreError(
                f"{self.path} has schema version {found}; this SAGE reads version {newest}.",
                mend="Let a command that writes migrate it, e.g. sage doctor",
            )

    def _use_wal(self) -> None:
        # Two processes that make the same new file: SQLite answers "busy" at once here, without waiting,
        # because waiting could be a deadlock.
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                mode = next(self._open_connection().execute("PRAGMA journal_mode = WAL"))[0]
                break
            except apsw.BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreError(
                f"{self.path.parent} does not support SQLite's WAL mode (is it a network drive?).",
                mend="Point SAGE_HOME at a folder on a local disk",
            )

    def _migrate(self) -> None:
        for number, script in enumerate(MIGRATIONS, start=1):
            if self.version >= number:
                continue
            with self.transaction():
                if self.version < number:  # another process may have been first
                    self.execute(script)
                    self.execute(f"PRAGMA user_version = {number}")

    @property
    def _folder(self) -> str:
        """As a shell takes it."""
        return shlex.quote(str(self.path.parent))

    def _make_writable(self) -> str:
        return f"Make it yours: chown -R $(id -u) {self._folder} && chmod -R u+rwX {self._folder}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Every SQLite error leaves as a StoreError that says what to do."""
        try:
            yield
        except apsw.NotADBError as error:
            self.damaged = True
            raise StoreDamaged(f"{self.path} is not a database.", mend=REPAIR) from error
        except apsw.CorruptError as error:
            self.damaged = True
            raise StoreDamaged(f"{self.path} is damaged: {error}", mend=REPAIR) from error
        except (apsw.BusyError, apsw.LockedError) as error:
            raise StoreError(
                f"{self.path} has been locked by another process for {BUSY_SECONDS:.0f} s.",
                mend=f"See which process holds it: fuser -v {shlex.quote(str(self.path))}",
            ) from error
        except apsw.FullError as error:
            raise StoreReadOnly(
                f"No room left to write {self.path}.", mend=f"Free some space: df -h {self._folder}"
            ) from error
        except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError) as error:
            if self.read_only and not self.path.exists():
                raise StoreError(
                    f"{self.path} does not exist.", mend="Ask something first: sage ask"
                ) from error
            raise StoreReadOnly(
                f"{self.path} cannot be opened or written: {error}", mend=self._make_writable()
            ) from error
        except apsw.IOError as error:
            raise StoreError(
                f"The disk failed while {self.path} was used: {error}",
                mend=f"Check the disk: df -h {self._folder}",
            ) from error
        except apsw.Error as error:
            raise StoreError(f"{self.path}: {error}", mend="Check it: sage doctor") from error
        except OSError as error:
            raise StoreReadOnly(
                f"{self._folder} cannot be made: {error.strerror}", mend=self._make_writable()
            ) from error
