"""A damaged database is set aside, never deleted, and what can be read of it is kept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.errors import StoreError
from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said
from sage.memory.salvage import TABLES, repair
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Situation

TURNS = 300
WORDS = "word " * 60


@pytest.fixture
def path(home: Path) -> Path:
    """A database of turns that were answered, with their passages, and one passage that was imported."""
    path = home / "sage.db"
    with Database(path) as db:
        store = VerbatimStore(db, FakeClock())
        with db.transaction():
            for number in range(TURNS):
                turn, message = (
                    f"turn-{number:04}",
                    Message(role="user", content=f"question {number} " + WORDS),
                )
                situation = Situation(
                    messages=(message,), kind="fact", prompt_tokens=1, max_tokens=1, session=f"s{number % 9}"
                )
                store.begin(turn, situation)
                answer = f"answer {number}"
                store.finish(turn, status="done", answer=answer, model="m", usage={}, irp=None, atp=None)
        PassageStore(db).add(Said(session="s", speaker="me", at=1.0, text="imported heron"))
    return path


def damage(path: Path, pages: int, *, seed: int = 1) -> bytes:
    """Overwrite some pages, but not the first, which says where everything is."""
    content, chance = bytearray(path.read_bytes()), random.Random(seed)  # noqa: S311
    for page in chance.sample(range(1, len(content) // 4096), pages):
        content[page * 4096 : (page + 1) * 4096] = chance.randbytes(4096)
    path.write_bytes(content)
    return bytes(content)


def count(path: Path, table: str) -> int:
    with Database(path) as db:
        assert db.integrity() == "ok"
        return int(db.execute(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608


def test_every_table_is_saved_or_made_from_others(path: Path) -> None:
    made = {"recall_blocks", "recall_postings", "salience_words", "sqlite_sequence"}
    with Database(path) as db:
        rows = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    found = {row[0] for row in rows if not row[0].startswith(("passages_fts", "sqlite_stat"))}
    assert set(TABLES) | made >= found
    assert set(TABLES) <= found


def test_a_sound_database_is_left_alone(path: Path) -> None:
    before = path.read_bytes()
    assert repair(path) is None
    assert path.read_bytes() == before
    assert repair(path.with_name("none.db")) is None


@pytest.mark.parametrize("seed", range(6))
def test_most_is_saved_where_some_pages_are_damaged(path: Path, seed: int) -> None:
    content = damage(path, 3, seed=seed)
    saved = repair(path)
    assert saved is not None
    assert saved.aside.read_bytes() == content
    with Database(path) as db:
        assert db.integrity() == "ok"
        turns = {row[0] for row in db.execute("SELECT id FROM turns")}
        said = {row[0] for row in db.execute("SELECT text FROM passages")}
        heron = db.execute("SELECT rowid FROM passages_fts WHERE passages_fts MATCH 'heron'")
    assert (saved.rows["turns"], saved.rows["passages"]) == (len(turns), len(said))
    # Three leaves hold few rows; a damaged inner page takes all below it, but what was said is there twice.
    both = {int(text.split()[1]) for text in said if text[0] in "qa"} | {int(turn[5:]) for turn in turns}
    assert len(both) > 0.6 * TURNS
    assert bool(heron) == ("imported heron" in said)


def test_an_overwritten_index_costs_nothing(path: Path) -> None:
    with Database(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'turns_session'")[0][0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    saved = repair(path)
    assert saved is not None
    assert (saved.rows["turns"], saved.rows["passages"]) == (TURNS, 2 * TURNS + 1)
    assert count(path, "turns") == TURNS
    assert repair(path) is None


def test_what_is_lost_whole_leaves_an_empty_database(path: Path) -> None:
    path.write_bytes(b"x" * 9000)
    saved = repair(path)
    assert saved is not None
    assert saved.aside.read_bytes() == b"x" * 9000
    assert "nothing" in str(saved)
    assert count(path, "turns") == 0
    path.write_bytes(b"y" * 9000)
    again = repair(path)
    assert again is not None
    assert again.aside != saved.aside


def test_a_file_cut_short_keeps_its_beginning(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4 // 4096 * 4096])
    saved = repair(path)
    assert saved is not None
    assert saved.rows["turns"] + saved.rows["passages"] > 100


def test_a_newer_database_is_not_repaired(path: Path) -> None:
    with Database(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="version 99"):
        repair(path)
    assert path.read_bytes() == before


def test_a_repair_that_was_killed_is_begun_again(path: Path) -> None:
    damage(path, 3)
    code = (
        "import os, sys, signal; from pathlib import Path; from sage.memory import salvage\n"
        "salvage.os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "salvage.repair(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    saved = repair(path)
    assert saved is not None
    assert count(path, "turns") == saved.rows["turns"]
    assert not path.with_name("sage.db.fresh").exists()
