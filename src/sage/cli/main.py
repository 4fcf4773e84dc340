"""The command ``sage``: which commands there are, and how failures leave the process.

Owns: the command table and exit codes. Must not know: what any command does.
Command modules import nothing heavy until they are called, so that ``sage --help`` stays fast.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from sage import __version__
from sage.cli import ask, bench, chat, config, demo, doctor, logs, models, trust
from sage.errors import Interrupted, SageError

__all__ = ["app", "main"]

app = typer.Typer(
    name="sage",
    help="Ask a local model that SAGE chose: permission = expertise x cheapness x persistence.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 internal error, 2 usage, 3 not found, 4 no resources, "
    "5 refused as unsafe, 130 interrupted.",
)


app.command()(ask.ask)
app.command()(chat.chat)
app.command()(demo.demo)
app.add_typer(models.app, name="models")
app.add_typer(trust.app, name="trust")
app.command()(logs.logs)
app.command()(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")


def _version(show: bool) -> None:
    if show:
        typer.echo(f"sage {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Choose, answer, learn."""


def _usage(error: typer.TyperException) -> int:
    """Show the usage line and what is wrong, as typer itself would."""
    show = getattr(error, "show", None)  # only the subclasses for the command line have it
    if show is None:
        raise error
    show()
    return int(getattr(error, "exit_code", 2))


def _terminated(_signal: int, _frame: object) -> None:
    """SIGTERM ends a turn as Ctrl-C does: the partial answer is kept and the ATP are settled."""
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> None:
    """Entry point. Every expected failure becomes one line on stderr and its exit code."""
    from sage.cli.render import fail

    signal.signal(signal.SIGTERM, _terminated)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a character it does not know is no reason to fail
            stream.reconfigure(errors="replace")
    try:
        code: Any = app(args=argv, standalone_mode=False)
        if code == Interrupted.exit_code:  # how typer returns from Ctrl-C
            typer.echo("Interrupted.", err=True)
    except SageError as error:
        code = fail(error)
    except typer.TyperException as error:  # an unknown option, a value out of range
        code = _usage(error)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("Interrupted.", err=True)
        code = Interrupted.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code if isinstance(code, int) else 0)
