"""How commands speak: JSON on stdout, everything for people through one console.

Owns: consoles, error lines, number formats. Must not know: any command.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from sage.errors import SageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "console",
    "emit_json",
    "fail",
    "human_bytes",
    "human_seconds",
    "notes",
    "print_table",
    "printable",
    "table_room",
]


@cache
def console() -> Console:
    """Where results go (stdout). Rich honours a missing terminal by itself."""
    return _console(stderr=False)


@cache
def notes() -> Console:
    """Where progress and warnings go (stderr), so that stdout can be piped."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # Of NO_COLOR Rich makes "no colours" and still writes bold and dim; we make it "no styles".
    return Console(
        stderr=stderr,
        highlight=False,
        soft_wrap=not (sys.stderr if stderr else sys.stdout).isatty(),
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def emit_json(value: Any) -> None:
    """One JSON value on stdout, readable, in the reader's own script."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.flush()


PIPE_WIDTH = 200
"""Columns of a table that goes to a file or a pipe: nothing is cut there."""


def table_room() -> int:
    """Columns that a table on stdout may take."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return PIPE_WIDTH if piped else console().width


def print_table(table: Table, *, width: int | None = None) -> None:
    """A table on stdout; without blanks at the ends of lines where it is piped."""
    out = console()
    out.width = width or table_room()
    if sys.stdout.isatty():
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def fail(error: SageError) -> int:
    """Say what is wrong and how to mend it; returns the exit code."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    with contextlib.suppress(OSError):  # where stderr cannot be written, the exit code still tells
        # What a file, a model or a server called itself may stand in it.
        typer.secho(printable(f"sage: {error.message}"), err=True, fg="red" if colour else None)
        if error.mend:
            typer.echo(printable(f"  fix: {error.mend}"), err=True)
    return error.exit_code


def human_bytes(count: float) -> str:
    """``98 MB``: decimal units, as disks and package indexes count."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def human_seconds(seconds: float) -> str:
    """``0.34 s``, ``12 s``."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def printable(text: str) -> str:
    """Text that cannot steer the terminal: what a model wrote loses control characters and the marks
    that turn the direction of writing (Arabic and Hebrew need none of those)."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(c) else c for c in text)


def _steers(c: str) -> bool:
    if unicodedata.category(c) == "Cc":
        return c not in "\n\t"
    return c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
