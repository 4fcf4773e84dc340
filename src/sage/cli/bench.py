"""`sage bench`: measurements on this machine, one JSON file each.

Owns: the commands. Must not know: how anything is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measure: models, and what SAGE itself costs.")

Out = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result file here.")]


@app.command()
def zoo(
    out: Out = None,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Fresh workers for each model.")] = 5,
) -> None:
    """Load time, speed and memory of every model on this machine."""
    from sage.bench.zoo import measure_zoo
    from sage.config import load_settings, sage_home

    settings = load_settings()
    rows = measure_zoo(sage_home(), settings, repeats=repeats, progress=_say)
    fixed = {"repeats": repeats, "context": settings.models.context, "threads": settings.models.threads}
    _report(out, "zoo", f"sage bench zoo --repeats {repeats}", fixed, rows)


@app.command()
def answers(
    out: Out = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Orders of the questions, where trust learns.")
    ] = 3,
) -> None:
    """Ask fifty questions of each model alone, and of SAGE.

    Shown: right answers, seconds and drafts of each, in one run.
    """
    from sage.bench.answers import measure_answers
    from sage.config import load_settings, sage_home

    rows = measure_answers(sage_home(), load_settings(), seeds=seeds, progress=_say)
    _report(out, "answers", f"sage bench answers --seeds {seeds}", {"seeds": seeds}, rows)


@app.command()
def tick(
    out: Out = None,
    ticks: Annotated[
        int, typer.Option(min=20, metavar="N", help="Ticks for each number of candidates.")
    ] = 300,
) -> None:
    """What SAGE adds to an answer, with a model that answers at once."""
    from sage.bench.tick import measure_tick

    rows = measure_tick(ticks=ticks, models=(2, 10, 100))
    _report(out, "tick", f"sage bench tick --ticks {ticks}", {"ticks": ticks}, rows)


def _say(text: str) -> None:
    from sage.cli.render import notes

    notes().print(text, style="dim", markup=False)


def _report(
    out: Path | None, suite: str, command: str, settings: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    from rich.table import Table

    from sage.bench.report import write_result
    from sage.cli.render import console, print_table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in rows[0]:
        table.add_column(key, justify="left" if key == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    print_table(table)
    if out is not None:
        write_result(out, suite=suite, command=command, settings=settings, rows=rows)
        console().print(f"written: {out}", style="dim", markup=False)
