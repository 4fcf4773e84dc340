"""The standard streams of `sage`: full, closed, left by their reader, or in another encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL = Path("/dev/full")


def shell(args: str, redirect: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    command = f"'{sys.executable}' -m sage {args} {redirect}"
    return subprocess.run(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **env},
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("args", ["models list", "ask hi", "ask hi --json", "--help", "logs --json"])
def test_a_full_disk_behind_stdout(args: str, fakes: Any) -> None:
    fakes(one={})
    done = shell(args, ">/dev/full")
    assert done.returncode == 4
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("sage: ")]
    assert lines == ["sage: The output cannot be written: No space left on device."]
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_stderr(fakes: Any) -> None:
    fakes(one={})
    assert shell("ask -m nobody hi", "2>/dev/full").returncode == 3
    assert shell("nonsense", "2>/dev/full").returncode == 2
    assert shell("models list", "2>/dev/full").returncode == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("args", "code"),
    [("ask hi", 0), ("ask hi --json", 0), ("models list", 0), ("ask -m nobody hi", 3), ("oh", 2)],
)
def test_streams_that_are_closed(args: str, code: int, closed: str, fakes: Any) -> None:
    fakes(one={})
    done = shell(args, closed)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    if args == "ask hi" and ">&-" not in closed.replace("2>&-", ""):
        assert done.stdout == b"You said: hi\n"


@pytest.mark.parametrize("args", ["models list", "ask hi", "ask hi --json"])
def test_a_reader_that_is_gone(args: str, fakes: Any) -> None:
    fakes(one={})
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sage", *args.split()],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", ["ask hi", "chat"])
def test_an_answer_on_a_pipe_is_utf8(command: str, fakes: Any) -> None:
    fakes(one={"answer": "café 中"})
    done = subprocess.run(
        [sys.executable, "-m", "sage", *command.split()],
        input=b"hi\n",
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        check=False,
    )
    assert done.stdout.decode("utf-8") == "café 中\n"


@pytest.mark.parametrize(
    ("args", "code", "name"),
    [
        ("ask hi --json -m parot", 3, "ModelNotFound"),
        ("ask --json ''", 2, "UsageError"),
        ("ask --json --no-such hi", 2, "UsageError"),
        ("trust explain --json turn-none", 3, "TurnNotFound"),
        ("models show nobody --json", 3, "ModelNotFound"),
        ("logs --events --session x --json", 2, "UsageError"),
    ],
)
def test_failures_as_json(args: str, code: int, name: str, fakes: Any) -> None:
    fakes(parrot={})
    done = shell(args, "")
    assert done.returncode == code
    (error,) = json.loads(done.stdout).values()
    assert set(error) == {"name", "message", "mend"}
    assert error["name"] == name
    assert error["message"] in done.stderr.decode()


@pytest.mark.parametrize(
    "args", ["ask hi -m parot", "ask -m parot -- --json", "bench kernel --json x --ticks 1"]
)
def test_failures_without_json_leave_stdout_alone(args: str, fakes: Any) -> None:
    fakes(parrot={})
    done = shell(args, "")
    assert done.returncode in (2, 3)
    assert done.stdout == b""


def test_an_interrupted_turn_as_json(start_sage: Any, fakes: Any, slow: Any) -> None:
    fakes(slow=slow)
    sage = start_sage("ask", "--json", "tell me")
    sage.worker()
    sage.process.terminate()
    out, _ = sage.process.communicate(timeout=10)
    assert sage.process.returncode == 130
    assert json.loads(out)["error"]["name"] == "Interrupted"
