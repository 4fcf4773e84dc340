"""The command `sage` as a whole: help, version, exit codes, and how little it imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import sage
from sage import errors
from sage.cli.main import app, main
from sage.errors import SageError

COMMANDS = {"ask", "chat", "demo", "models", "trust", "logs", "doctor", "config"}

HEAVY = ("torch", "rich.table", "pydantic", "apsw", "xllamacpp", "psutil", "numpy", "jsonschema")


def tree(root: type[SageError]) -> Iterator[type[SageError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_help_lists_every_command(run_sage: Any) -> None:
    done = run_sage("--help")
    assert done.returncode == 0
    listed = set(re.findall(r"^  ([a-z]+)  ", done.stdout, re.MULTILINE))
    assert listed >= COMMANDS
    assert "permission = expertise x cheapness x persistence" in " ".join(done.stdout.split())


def test_the_exit_codes_in_the_help_are_those_of_the_errors() -> None:
    epilog = str(app.info.epilog)
    said = {int(code) for code in re.findall(r"\b(\d+) [a-z]", epilog)}
    assert said == {0} | {error.exit_code for error in tree(SageError)}
    names = dict(re.findall(r"\b(\d+) ([a-z ]+)", epilog))
    assert "not found" in names["3"]
    assert errors.NotFound.exit_code == 3
    assert "no resources" in names["4"]
    assert errors.ResourceError.exit_code == 4
    assert "unsafe" in names["5"]
    assert errors.UnsafeFile.exit_code == 5
    assert "interrupted" in names["130"]
    assert errors.Interrupted.exit_code == 130


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = f"""
import json, sys
sys.argv = ["sage", *{args!r}]
from sage.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print("\\n" + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_version(run_sage: Any) -> None:
    done = run_sage("--version")
    assert (done.returncode, done.stdout) == (0, f"sage {sage.__version__}\n")


def test_no_arguments_shows_the_help(run_sage: Any) -> None:
    done = run_sage()
    assert "Usage: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command(run_sage: Any) -> None:
    done = run_sage("aks")
    assert done.returncode == 2
    assert "aks" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", list(tree(SageError)), ids=lambda error: error.__name__)
def test_every_failure_leaves_with_its_code(
    error: type[SageError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_more: Any) -> None:
        raise error("what happened", mend="what to do")

    monkeypatch.setattr("sage.cli.main.app", fail)
    with pytest.raises(SystemExit) as caught:
        main(["ask"])
    assert caught.value.code == error.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sage: what happened"
    assert lines[1].endswith(": what to do")
    assert len(lines) == 2


@pytest.mark.parametrize(
    "command", [(), ("ask",), ("trust",), ("trust", "show"), ("bench", "zoo"), ("logs",)]
)
def test_h_is_help(command: tuple[str, ...], run_sage: Any) -> None:
    short, long = run_sage(*command, "-h"), run_sage(*command, "--help")
    assert short.returncode == 0
    assert short.stdout == long.stdout


@pytest.mark.parametrize("command", ["ask", "chat", "logs"])
def test_the_help_says_what_a_value_is(command: str, run_sage: Any) -> None:
    text = run_sage(command, "-h", env={"COLUMNS": "80"}).stdout
    assert not re.search(r"--[a-z-]+ <", text)


@pytest.mark.parametrize("group", ["", "trust", "bench", "models", "memory", "config"])
def test_first_sentences_fit_80_columns(group: str, run_sage: Any) -> None:
    commands = run_sage(*group.split(), "-h", env={"COLUMNS": "80"}).stdout.split("Commands:")[1]
    assert "..." not in commands


@pytest.mark.parametrize("command", [("residency", "--data"), ("route", "--train")])
def test_a_folder_that_is_not_there_is_told_before_anything_is_fetched(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sage.cli.bench.fetch_minilm", lambda: pytest.fail("it was fetched"))
    with pytest.raises(SystemExit) as ended:
        main(["bench", *command, "/nonexistent"])
    assert ended.value.code == 3
    assert "There is no folder /nonexistent" in capsys.readouterr().err


def test_text_of_models_cannot_steer_the_terminal() -> None:
    from sage.cli.render import printable

    assert printable("a\x1b[31mb\rc\u202ed") == "a\ufffd[31mb\ufffdc\ufffdd"
    harmless = "كيف حالك\n日本\t👩\u200d🔬"
    assert printable(harmless) == harmless


def test_what_an_error_repeats_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from sage.cli.render import fail

    fail(SageError("a\x1b]0;pwned\x07", mend="b\x1b[2J"))
    assert capsys.readouterr().err == "sage: a\ufffd]0;pwned\ufffd\n  fix: b\ufffd[2J\n"
