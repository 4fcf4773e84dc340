"""What the documents say exists: every command, option, file, settings key and exit code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sage.bench.report import insert_tables
from sage.cli.main import app
from sage.config import Settings

REPO = Path(__file__).resolve().parents[2]
DOCUMENTS = [*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")]
README = REPO / "README.md"


def commands_in(text: str) -> Iterator[str]:
    """Command lines in code blocks and in inline code."""
    for block in re.findall(r"```(?:sh|console|bash)?\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            yield line.strip().removeprefix("$ ")
    yield from re.findall(r"`([^`\n]+)`", text)


def sage_calls() -> list[tuple[str, str]]:
    calls = []
    for path in DOCUMENTS:
        for line in commands_in(path.read_text(encoding="utf-8")):
            call = re.sub(r"^(SAGE_\w+=\S+ +)*", "", line.split("#")[0].strip())
            if re.match(r"sage( |$)", call):
                calls.append((path.name, call))
    return calls


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The click command that these words name, and the words that are left."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("document", "call"), sage_calls())
def test_every_command_exists(document: str, call: str) -> None:
    words = shlex.split(re.split(r"[|<>]", call)[0])[1:]
    if words and words[0].startswith("--"):
        return
    command, rest = find_command(words)
    options = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    for word in rest:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in options, f"{document}: {call}"


def test_there_is_something_to_check() -> None:
    assert len(sage_calls()) > 20


def test_every_command_is_documented() -> None:
    """No feature that only its author knows: the reference names every command and option."""
    reference = (REPO / "docs" / "reference.md").read_text(encoding="utf-8")

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, sub in command.commands.items():
                yield from walk(sub, f"{path} {name}")
        else:
            yield path, command

    for path, command in walk(typer.main.get_command(app), "sage"):
        section = re.search(rf"^### `{path}[ `].*?(?=^##|\Z)", reference, flags=re.DOTALL | re.MULTILINE)
        assert section, f"{path} is not in docs/reference.md"
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert option in section[0], f"{path} {option} is not in docs/reference.md"


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_tables_come_from_result_files() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert insert_tables(text, REPO / "docs" / "bench") == text, f"make tables would change {path.name}"


def test_readme_is_one_screen_and_names_the_two_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
    assert len(text.splitlines()) <= 110


def test_settings_in_documents_exist() -> None:
    known = {
        f"{section}.{key}"
        for section, values in Settings.model_construct().model_dump().items()
        for key in values
    }
    sections = "|".join({key.split(".")[0] for key in known})
    for path in DOCUMENTS:
        for name in re.findall(rf"`((?:{sections})\.[a-z_]+)`", path.read_text(encoding="utf-8")):
            assert name in known or name.endswith((".py", ".toml", ".json", ".jsonl")), (
                f"{path.name}: no setting {name}"
            )


def test_exit_codes_in_documents_are_those_of_the_errors() -> None:
    """And 0 done, 1 internal error, 141 the reader of a pipe went away, which are no class of ours."""
    from sage import errors

    reference = (REPO / "docs" / "reference.md").read_text(encoding="utf-8")
    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    said = {int(code) for code in re.findall(r"^\| (\d+) \|", reference, flags=re.MULTILINE)}
    assert said == codes | {0, 1, 141}


def test_files_in_commands_exist() -> None:
    for path in DOCUMENTS:
        for name in re.findall(r"\bexamples/[\w./-]+", path.read_text(encoding="utf-8")):
            assert (REPO / name).is_file(), f"{path.name}: {name}"


def test_every_halt_reason_is_documented() -> None:
    """Those that come with an answer; `hung` ends in an error."""
    from sage.irp.protocol import Refined

    reference = (REPO / "docs" / "reference.md").read_text(encoding="utf-8")
    reasons = set(re.findall(r"``([a-z_]+)``", (Refined.__doc__ or "").split("or the plugin")[0]))
    for reason in reasons - {"halt_reason", "hung", "latest", "state"}:
        assert f"`{reason}`" in reference, reason
