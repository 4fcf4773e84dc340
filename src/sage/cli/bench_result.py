"""What every command of `sage bench` does beside measuring: it speaks, shows rows, writes the result file.

Owns: that, and fetching the sentence model. Must not know: any suite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["Out", "fetch_minilm", "print_rows", "report", "say", "writable"]

Out = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result file here.")]


def fetch_minilm() -> None:
    """Pull the sentence model where its libraries are; a benchmark without it says less, and still runs."""
    from importlib.util import find_spec

    from sage.cli.models import pull
    from sage.config import load_settings, sage_home
    from sage.errors import SageError
    from sage.memory.minilm import minilm_path

    home = sage_home()
    able = all(find_spec(library) for library in ("onnxruntime", "tokenizers"))
    if not able or minilm_path(home).exists() or load_settings().models.offline:
        return
    say("Fetching MiniLM once, 105 MB (--embedder hash goes without)")
    try:
        pull("minilm")
    except SageError as error:
        say(f"It cannot be had ({error.message}): words and characters alone.")


def say(text: str) -> None:
    """One line of progress, beside the result."""
    from sage.cli.render import notes

    notes().print(text, style="dim", markup=False)


def report(
    out: Path | None,
    suite: str,
    command: str,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Show the rows, and write the result file where one is wanted."""
    from sage.bench.report import write_result
    from sage.cli.render import console

    print_rows(rows)
    if out is not None:
        write_result(out, suite=suite, command=command, settings=settings, rows=rows, more=more)
        console().print(f"written: {out}", style="dim", markup=False)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with the columns of the first row; there is one at least."""
    from rich.table import Table

    from sage.cli.render import print_table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in rows[0]:
        table.add_column(key, justify="left" if key == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    print_table(table)


def writable(path: Path) -> None:
    """A path that cannot be written must not be found out after minutes of measuring.

    Raises:
        UsageError: nothing can be written there.
    """
    from sage.errors import UsageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8"):
            pass
        if not path.stat().st_size:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", mend="Name another file") from None
