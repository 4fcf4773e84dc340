"""What was acknowledged survives kills and crowds: whole turns, through the stores that serve users."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.config import AtpSettings
from sage.errors import StoreReadOnly
from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Situation

WRITER = Path(__file__).with_name("turn_writer.py")


def start(home: Path, prefix: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(home), prefix, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def books(db: Database) -> Books:
    clock = FakeClock(time.time())
    return Books(db, VerbatimStore(db, clock), clock, AtpSettings(capacity=1e6, recovery_per_s=1e6))


def kill_turns(home: Path, kills: int) -> int:
    """Kill a process that answers, again and again; returns how many turns were acknowledged in all."""
    acknowledged: set[str] = set()
    for number in range(kills):
        writer = start(home, f"run{number}", 0)
        assert writer.stdout is not None
        acknowledged.add(writer.stdout.readline().strip())
        time.sleep(number % 13 / 100)  # at another place of the work each time
        writer.kill()
        rest, complaint = writer.communicate(timeout=60)
        assert (writer.returncode, complaint) == (-signal.SIGKILL, "")
        # A line cut off by the kill was not acknowledged.
        acknowledged.update(line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n"))
        with Database(home / "sage.db") as db:
            assert db.integrity() == "ok"
            done = "SELECT id FROM turns WHERE status = 'done'"
            found = {row[0] for row in db.execute(done)}
            assert acknowledged <= found
            for table, each in (("passages", 2), ("decisions", 1)):
                sql = f"SELECT count(*) FROM {table} WHERE turn_id IN ({done})"  # noqa: S608
                assert db.execute(sql) == [(each * len(found),)]
            assert books(db).audit() == {}
            db.execute("INSERT INTO passages_fts (passages_fts) VALUES ('integrity-check')")
    with Database(home / "sage.db") as db:
        VerbatimStore(db, FakeClock()).abandon_dead()
        books(db).release_ended()
        assert db.execute("SELECT name FROM accounts WHERE name LIKE 'held%'") == []
        assert db.execute("SELECT count(*) FROM turns WHERE status = 'running'") == [(0,)]
    return len(acknowledged)


def crowd(home: Path, rows: int) -> None:
    """Eight threads and three processes write ``rows`` turns and passages together."""
    by_process, by_thread = rows // 2 // 9, rows // 2 // 8
    writers = [start(home, f"process{number}", by_process) for number in range(3)]
    errors: list[BaseException] = []
    with Database(home / "sage.db") as db:
        store = PassageStore(db)

        def write(prefix: str) -> None:
            try:
                for number in range(by_thread):
                    store.add(Said(session=prefix, speaker="me", at=1.0, text=f"{prefix} number {number}"))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(f"thread{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            printed, complaint = writer.communicate(timeout=3600)
            assert (writer.returncode, complaint) == (0, "")
            assert len(printed.splitlines()) == by_process
        assert errors == []
        assert db.execute("SELECT count(*) FROM turns WHERE status = 'done'") == [(3 * by_process,)]
        said = 8 * by_thread + 6 * by_process
        assert db.execute("SELECT count(*), count(DISTINCT text) FROM passages") == [(said, said)]
        assert db.execute("SELECT count(*) FROM outcomes") == [(3 * by_process,)]
        assert books(db).audit() == {}
        assert db.integrity() == "ok"


def test_turns_that_were_acknowledged_survive_kills(home: Path) -> None:
    assert kill_turns(home, 5) >= 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_turns_that_were_acknowledged_survive_three_hundred_kills(home: Path) -> None:
    assert kill_turns(home, 300) > 300


def test_a_crowd_loses_nothing(home: Path) -> None:
    crowd(home, 360)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_crowd_loses_nothing_of_a_hundred_thousand(home: Path) -> None:
    """Of these, a third are the passages, outcomes and turns of three processes that answer."""
    crowd(home, 100_000)


@pytest.mark.parametrize("kilobytes", [300, 600, 1200])
def test_a_full_disk_is_told_and_takes_nothing_away(kilobytes: int, home: Path) -> None:
    """Wherever the room ends: what was acknowledged stays, and with room again work goes on."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes * 1000},) * 2);"
    code = f"{limit} import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(WRITER), str(home), "full", "0"],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 1
    assert "StoreError" in done.stderr or "StoreReadOnly" in done.stderr
    with Database(home / "sage.db") as db:
        assert db.integrity() == "ok"
        found = {row[0] for row in db.execute("SELECT id FROM turns WHERE status = 'done'")}
        assert set(done.stdout.split()) <= found
        assert books(db).audit() == {}
    after = start(home, "after", 3)
    assert len(after.communicate()[0].split()) == 3


def test_a_database_that_may_not_grow_says_so(home: Path) -> None:
    with Database(home / "sage.db") as db:
        pages = db.execute("PRAGMA page_count")[0][0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
        store = VerbatimStore(db, FakeClock())
        long = Situation(
            messages=(Message(role="user", content="x" * 100_000),),
            kind="fact",
            prompt_tokens=1,
            max_tokens=1,
            session="s",
        )
        with pytest.raises(StoreReadOnly, match="No room left") as caught:
            store.begin("turn-a", long)
        assert "df -h" in caught.value.mend
        assert store.turns() == []


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_a_day_changes_no_order_and_no_sum(jump: float, home: Path) -> None:
    clock = FakeClock(1e9)
    with Database(home / "sage.db") as db:
        store = VerbatimStore(db, clock)
        for number in range(4):
            message = Message(role="user", content=f"question {number}")
            situation = Situation(
                messages=(message,), kind="fact", prompt_tokens=1, max_tokens=1, session="s"
            )
            store.begin(f"turn-{number}", situation)
            if number == 1:
                clock.advance(jump)
            store.finish(f"turn-{number}", status="done", answer="a", model="m", usage={}, irp=None, atp=None)
        assert [turn.id for turn in store.turns()] == [f"turn-{n}" for n in (3, 2, 1, 0)]
        assert all((turn.seconds or 0.0) >= 0.0 for turn in store.turns())
        assert [p.text for p in PassageStore(db).last("s", count=99)][::2] == [
            f"question {n}" for n in range(4)
        ]
