"""`sage sleep` and `sage run` as a person meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said

SAGE = [sys.executable, "-m", "sage"]


def sage(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SAGE, *args], env=env(home), capture_output=True, text=True, check=False)


def env(home: Path) -> dict[str, str]:
    return {**os.environ, "SAGE_HOME": str(home), "COLUMNS": "80"}


def remember(home: Path, count: int) -> None:
    with Database(home / "sage.db") as db:
        PassageStore(db).add_many(
            Said(
                namespace="me", session="s", speaker="user", at=1000.0, text=f"This is message {n}, so it is."
            )
            for n in range(count)
        )


def test_sleep_says_what_it_did(home: Path) -> None:
    remember(home, 12)
    done = sage(home, "sleep")
    assert done.returncode == 0, done.stderr
    assert "12  messages appraised that nobody had" in done.stdout
    found = json.loads(sage(home, "sleep", "--json").stdout)
    assert found["ended"] is True
    assert {part["name"]: part["count"] for part in found["parts"]}["salience"] == 0


def test_a_limit_of_no_time_leaves_all_for_the_next(home: Path) -> None:
    remember(home, 3)
    done = sage(home, "sleep", "--limit-s", "0")
    assert done.returncode == 0
    assert "the next sleep goes on" in done.stdout


def test_ctrl_c_ends_it_with_the_report_so_far(home: Path) -> None:
    remember(home, 20_000)
    process = subprocess.Popen([*SAGE, "sleep", "--json"], env=env(home), stdout=subprocess.PIPE, text=True)
    with Database(home / "sage.db", read_only=True) as db:
        while not db.execute("SELECT 1 FROM recall_blocks"):  # it has begun
            time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["ended"] is False
    assert found["parts"][0]["count"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_tells_its_state_and_ends_at_a_signal(home: Path, number: int) -> None:
    process = subprocess.Popen([*SAGE, "run", "--json"], env=env(home), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["event"], first["state"]) == ("state", "WAKE")
    second = sage(home, "run")
    assert second.returncode == 4
    assert f"kill {process.pid}" in second.stderr
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert rest == ""
    assert process.returncode == 0
