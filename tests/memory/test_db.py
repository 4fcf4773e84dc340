"""The database survives what machines do to it, and harms no file it does not understand."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sage.errors import StoreError
from sage.memory.db import Database, check_sqlite, sqlite_version
from sage.memory.migrations import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from conftest import Lockable

WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture
def path(home: Path) -> Path:
    return home / "sage.db"


def start_writer(path: Path, prefix: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(path), prefix, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def put(db: Database, name: str, value: str = "x") -> None:
    db.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (name, value))


def names(db: Database) -> list[str]:
    return [row[0] for row in db.execute("SELECT name FROM facts ORDER BY name")]


def write_until_refused(db: Database) -> tuple[int, StoreError]:
    """How many rows were acknowledged, and the error that ended it."""
    for number in range(1000):
        try:
            with db.transaction():
                put(db, str(number), "x" * 1000)
        except StoreError as error:
            return number, error
    raise AssertionError("every write was taken")


def test_opens_durable_wal_with_foreign_keys(path: Path) -> None:
    with Database(path) as db:
        assert db.execute("PRAGMA journal_mode") == [("wal",)]
        assert db.execute("PRAGMA synchronous") == [(2,)]  # 2 is FULL
        assert db.execute("PRAGMA foreign_keys") == [(1,)]
        assert db.execute("PRAGMA busy_timeout") == [(10_000,)]
        assert db.execute("PRAGMA application_id") == [(APPLICATION_ID,)]
        assert db.integrity() == "ok"
        with pytest.raises(StoreError, match="FOREIGN KEY"):
            db.execute("INSERT INTO decisions (turn_id, record) VALUES ('no such turn', '{}')")


def test_makes_the_folder(tmp_path: Path) -> None:
    with Database(tmp_path / "a" / "b" / "sage.db") as db:
        assert db.version == len(MIGRATIONS)


def test_opening_again_changes_nothing(path: Path) -> None:
    with Database(path) as db:
        db.execute("INSERT INTO facts (name, value) VALUES ('a', 'b')")
        schema = db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name")
    with Database(path) as db:
        assert db.version == len(MIGRATIONS)
        assert db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name") == schema
        assert db.execute("SELECT * FROM facts") == [("a", "b")]


def test_the_schema_has_every_table(path: Path) -> None:
    with Database(path) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables >= {
        *("turns", "decisions", "outcomes", "contexts", "rates", "accounts", "entries", "facts"),
        *("trust_rows", "trust_resets", "opinions", "opinion_pairs"),
        *("passages", "passages_fts", "passage_vectors", "recall_blocks", "recall_postings"),
    }


@pytest.mark.parametrize("amount", [0, -1])
def test_entries_are_positive(path: Path, amount: int) -> None:
    with Database(path) as db, pytest.raises(StoreError, match="CHECK"):
        db.execute(
            "INSERT INTO entries (at, turn_id, debit, credit, amount, reason)"
            " VALUES (0, 't', 'a', 'b', ?, '')",
            (amount,),
        )


def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    with Database(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"version 99.*version {len(MIGRATIONS)}") as caught:
        Database(path)
    assert "Upgrade SAGE" in caught.value.mend
    assert "SAGE_HOME" in caught.value.mend
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    import sqlite3

    other = sqlite3.connect(path)
    other.execute("CREATE TABLE turns (theirs)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"x" * 50, b"garbage" * 5000, b"SQLite format 3\0" + b"\1" * 9000],
    ids=["short", "garbage", "header only"],
)
def test_what_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a database") as caught:
        Database(path)
    assert "sage memory repair" in caught.value.mend
    assert path.read_bytes() == content


def test_a_schema_overwritten_with_noise_is_refused_and_left_alone(path: Path) -> None:
    Database(path).close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xa5\x5a" * 1998  # the rest of page 1: the schema
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        Database(path)
    assert "sage memory repair" in caught.value.mend
    assert path.read_bytes() == bytes(content)


def test_damage_inside_is_found(path: Path) -> None:
    with Database(path) as db:
        for number in range(200):
            db.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (str(number), "x" * 500))
    content = bytearray(path.read_bytes())
    content[-4096:] = b"\xff" * 4096
    path.write_bytes(content)
    with Database(path) as db:
        try:
            found = db.integrity()
        except StoreError as error:
            found = error.message
        assert found != "ok"


def test_a_truncated_file_is_found(path: Path) -> None:
    with Database(path) as db:
        for number in range(200):
            db.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (str(number), "x" * 500))
    content = path.read_bytes()[:8192]
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"), Database(path) as db:
        db.execute("SELECT count(value) FROM facts")
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Database(path)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Database(tmp_path / "taken" / "sage.db")


def test_a_read_only_folder_is_refused_with_a_mend(lockable: Lockable) -> None:
    with lockable.locked() as folder, pytest.raises(StoreError) as caught:
        Database(folder / "sage.db")
    assert "chmod" in caught.value.mend
    assert list(lockable.folder.iterdir()) == []


def test_a_read_only_file_is_refused_and_left_alone(lockable: Lockable) -> None:
    path = lockable.folder / "sage.db"
    Database(path).close()
    before = path.read_bytes()
    with lockable.locked(), pytest.raises(StoreError, match="cannot be opened or written") as caught:
        Database(path)
    assert "chmod" in caught.value.mend
    assert path.read_bytes() == before


def test_an_unreadable_file_is_refused(lockable: Lockable) -> None:
    path = lockable.folder / "sage.db"
    Database(path).close()
    path.chmod(0)
    with lockable.locked(), pytest.raises(StoreError, match="cannot be opened"):
        Database(path)


def test_a_full_database_keeps_what_was_acknowledged(path: Path) -> None:
    with Database(path) as db:
        pages = db.execute("PRAGMA page_count")[0][0]
        db.execute(f"PRAGMA max_page_count = {pages + 20}")
        acknowledged, error = write_until_refused(db)
        assert "No room" in error.message
        assert "df -h" in error.mend
        assert acknowledged > 0
        assert db.execute("SELECT count(*) FROM facts") == [(acknowledged,)]
        assert db.integrity() == "ok"


def test_a_write_the_system_refuses_keeps_what_was_acknowledged(path: Path) -> None:
    """RLIMIT_FSIZE makes the write itself fail, at an arbitrary place in the WAL."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Database(path) as db:
        so_far = max(file.stat().st_size for file in path.parent.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (so_far + 100_000, hard))
        try:
            acknowledged, error = write_until_refused(db)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert error.mend
        assert acknowledged > 0
    with Database(path) as db:
        assert db.execute("SELECT count(*) FROM facts") == [(acknowledged,)]
        assert db.integrity() == "ok"


@pytest.mark.parametrize("version", ["3.7.0", "3.45.1", "3.51.2"])
def test_sqlite_with_the_wal_bug_is_refused(version: str) -> None:
    with pytest.raises(StoreError, match=r"3\.51\.3"):
        check_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "4.0.0", sqlite_version()])
def test_sqlite_without_it_is_taken(version: str) -> None:
    check_sqlite(version)


def put_and_break(db: Database, name: str) -> None:
    with db.transaction():
        put(db, name)
        raise KeyError


def nest_and_break(db: Database, name: str) -> None:
    with db.transaction():
        with db.transaction():
            put(db, name)
        raise KeyError


def test_transaction_is_all_or_nothing(path: Path) -> None:
    with Database(path) as db:
        with pytest.raises(KeyError):
            put_and_break(db, "lost")
        assert names(db) == []


def test_a_nested_transaction_is_a_part_of_the_outer_one(path: Path) -> None:
    with Database(path) as db:
        with db.transaction():
            put(db, "outer")
            with db.transaction():
                put(db, "inner")
        assert names(db) == ["inner", "outer"]
        with pytest.raises(KeyError):
            nest_and_break(db, "lost")
        assert names(db) == ["inner", "outer"]


def pass_over_what_fails(db: Database) -> None:
    with db.transaction():
        put(db, "outer")
        with contextlib.suppress(KeyError):
            put_and_break(db, "lost")


def test_a_part_that_failed_cannot_be_passed_over(path: Path) -> None:
    with Database(path) as db:
        with pytest.raises(StoreError, match="A part"):
            pass_over_what_fails(db)
        assert names(db) == []
        with db.transaction():
            put(db, "and it goes on")
        assert names(db) == ["and it goes on"]


def save_and_break(db: Database, *within: str) -> None:
    with db.savepoint():
        put(db, f"lost {within}")
        with contextlib.suppress(KeyError):
            if within:
                save_and_break(db, *within[1:])
        put_and_break(db, "lost too")


def test_a_savepoint_may_fail_alone(path: Path) -> None:
    with Database(path) as db:
        with db.transaction():
            put(db, "outer")
            with contextlib.suppress(KeyError):
                save_and_break(db, "in it")
            with db.savepoint():
                put(db, "inner")
        assert names(db) == ["inner", "outer"]
        with pytest.raises(KeyError):
            save_and_break(db)
        assert names(db) == ["inner", "outer"]


def fail_before_a_savepoint_that_fails(db: Database) -> None:
    with db.transaction():
        with contextlib.suppress(KeyError):
            put_and_break(db, "half")
        with contextlib.suppress(KeyError):
            save_and_break(db)


def test_a_savepoint_does_not_pardon_what_failed_before(path: Path) -> None:
    with Database(path) as db:
        with pytest.raises(StoreError, match="A part"):
            fail_before_a_savepoint_that_fails(db)
        assert names(db) == []


def lose_the_transaction(db: Database) -> None:
    with db.transaction():
        put(db, "lost")
        db.execute("ROLLBACK")  # as SQLite does by itself on a full disk
        with contextlib.suppress(StoreError), db.savepoint():
            put(db, "alone")


def test_after_a_rollback_by_sqlite_nothing_of_the_rest_is_kept(path: Path) -> None:
    with Database(path) as db:
        with pytest.raises(StoreError, match="A part"):
            lose_the_transaction(db)
        assert names(db) == []


def test_read_only_reads_and_refuses_to_write(path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        Database(path, read_only=True)
    assert not path.exists()
    with Database(path) as writer, Database(path, read_only=True) as reader:
        writer.execute("INSERT INTO facts (name, value) VALUES ('a', 'b')")
        assert reader.execute("SELECT * FROM facts") == [("a", "b")]
        with pytest.raises(StoreError):
            reader.execute("DELETE FROM facts")


def test_a_read_only_folder_can_be_read(lockable: Lockable) -> None:
    path = lockable.folder / "with spaces?" / "sage.db"
    with Database(path) as db:
        put(db, "a")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    with lockable.locked(), Database(path, read_only=True) as db:
        assert names(db) == ["a"]


def test_read_only_does_not_migrate(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="version 0"):
        Database(path, read_only=True)
    assert path.read_bytes() == b""


def test_a_closed_database_says_so(path: Path) -> None:
    db = Database(path)
    db.close()
    db.close()
    with pytest.raises(StoreError, match="closed"):
        db.execute("SELECT 1")


def test_eight_threads_and_three_processes_lose_nothing(path: Path) -> None:
    """The processes make the file themselves, at the same moment."""
    writers = [start_writer(path, f"process{number}", 400) for number in range(3)]
    errors: list[BaseException] = []
    with Database(path) as db:

        def write(prefix: str) -> None:
            try:
                for number in range(100):
                    name = f"{prefix}-{number}"
                    with db.transaction():
                        db.execute("INSERT INTO facts (name, value) VALUES (?, 'x')", (name,))
                        db.execute("INSERT INTO accounts (name, balance) VALUES (?, 0)", (name,))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(f"thread{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            _, complaint = writer.communicate(timeout=60)
            assert (writer.returncode, complaint) == (0, "")
        assert errors == []
        assert db.execute("SELECT count(*), count(DISTINCT name) FROM facts") == [(2000, 2000)]
        assert db.execute("SELECT count(*) FROM accounts NATURAL JOIN facts") == [(2000,)]
        assert db.integrity() == "ok"


def kill_writers(path: Path, kills: int) -> None:
    acknowledged: set[str] = set()
    for number in range(kills):
        writer = start_writer(path, f"run{number}", 0)
        assert writer.stdout is not None
        acknowledged.add(writer.stdout.readline().strip())
        time.sleep(number % 11 / 100)  # at another place of the work each time
        writer.kill()
        rest, complaint = writer.communicate(timeout=60)
        assert (writer.returncode, complaint) == (-signal.SIGKILL, "")
        # A line cut off by the kill was not acknowledged.
        acknowledged.update(line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n"))
        with Database(path) as db:
            found = {row[0] for row in db.execute("SELECT name FROM facts")}
            assert acknowledged <= found
            assert db.execute("SELECT count(*) FROM accounts NATURAL JOIN facts") == [(len(found),)]
            assert db.integrity() == "ok"
    assert len(acknowledged) > kills


def test_what_was_acknowledged_survives_ten_kills(path: Path) -> None:
    kill_writers(path, 10)


@pytest.mark.slow
def test_what_was_acknowledged_survives_three_hundred_kills(path: Path) -> None:
    kill_writers(path, 300)


@pytest.mark.parametrize("after", ["BEGIN IMMEDIATE", "INSERT", "COMMIT"])
def test_an_interrupt_at_any_point_locks_nobody_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    path = home / "sage.db"
    with Database(path) as db, Database(path) as other:
        execute = Database.execute

        def interrupted(self: Database, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
            rows = execute(self, sql, params)
            if sql.startswith(after):
                raise KeyboardInterrupt
            return rows

        with monkeypatch.context() as patch:
            patch.setattr(Database, "execute", interrupted)
            with pytest.raises(KeyboardInterrupt), db.transaction():
                db.execute("INSERT INTO facts (name, value) VALUES ('a', '1')")
        for each in (db, other):
            with each.transaction():
                each.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('b', '2')")
        kept = [name for (name,) in db.execute("SELECT name FROM facts ORDER BY name")]
        assert kept == (["a", "b"] if after == "COMMIT" else ["b"])


def test_what_was_said_is_its_owners_alone(tmp_path: Path) -> None:
    with Database(tmp_path / "new" / "sage.db") as db:
        db.execute("INSERT INTO facts (name, value) VALUES ('a', '1')")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
        assert set(modes.values()) == {0o600}
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
