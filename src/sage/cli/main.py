"""The command ``sage``: which commands there are, and how failures leave the process.

Owns: the command table and exit codes. Must not know: what any command does.
Command modules import nothing heavy until they are called, so that ``sage --help`` stays fast.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from sage import __version__
from sage.cli import ask, bench, chat, config, demo, doctor, logs, memory, models, run, salience, state, trust
from sage.errors import Interrupted, NoDiskSpace, SageError, Terminated, UsageError

__all__ = ["app", "main"]

READER_LEFT = 141
"""Exit code when the reader of a pipe went away: 128 + SIGPIPE, as a shell would say."""

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
"""Errors of a standard stream that are nobody's mistake here: a full disk, a terminal that is gone."""

app = typer.Typer(
    name="sage",
    help="Ask a local model that SAGE chose: permission = expertise x cheapness x persistence.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 internal error, 2 usage, 3 not found, 4 no resources, "
    "5 refused as unsafe, 130 interrupted.",
)


app.command()(ask.ask)
app.command()(chat.chat)
app.command()(demo.demo)
app.add_typer(models.app, name="models")
app.add_typer(trust.app, name="trust")
app.command()(logs.logs)
app.add_typer(memory.app, name="memory")
app.command()(salience.salience)
app.command()(run.run)
app.command()(run.sleep)
app.command()(state.state)
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


def main(argv: list[str] | None = None) -> None:
    """Entry point. Every expected failure becomes one line on stderr and its exit code."""
    _open_streams()
    signal.signal(signal.SIGTERM, _terminated)
    args = sys.argv[1:] if argv is None else argv
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        code = READER_LEFT
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        code = _fail(_unwritable(error), as_json=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not change how this ended
    _let_go()
    sys.exit(code)


def _run(args: list[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        OSError: a standard stream cannot be written; BrokenPipeError: its reader left.
    """
    as_json = _wants_json(args)
    try:
        code: Any = app(args=args, standalone_mode=False)
        if code == Interrupted.exit_code:  # how typer returns from Ctrl-C
            return _interrupted(as_json=as_json)
        return code if isinstance(code, int) else 0
    except SageError as error:
        return _fail(error, as_json=as_json)
    except typer.TyperException as error:  # an unknown option, a value out of range
        return _usage(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(as_json=as_json)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer and Rich make an exit of it
            return READER_LEFT
        raise
    except OSError:
        raise
    except Exception as error:
        if as_json:
            _print_error(type(error).__name__, str(error), "Please report it, with the traceback")
        raise


def _wants_json(args: list[str]) -> bool:
    """Whether stdout is to be JSON. The option of `sage bench` names a file and says nothing of stdout."""
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options and args[0] != "bench"


def _fail(error: SageError, *, as_json: bool) -> int:
    from sage.cli.render import fail

    if as_json:
        _print_error(error.name, error.message, error.mend)
    return fail(error)


def _usage(error: typer.TyperException, *, as_json: bool) -> int:
    """Show the usage line and what is wrong, as typer itself would."""
    show = getattr(error, "show", None)  # only the subclasses for the command line have it
    if show is None:
        raise error
    if as_json:
        _print_error(UsageError.__name__, str(getattr(error, "message", error)), "See sage COMMAND --help")
    with contextlib.suppress(OSError):
        show()
    return int(getattr(error, "exit_code", UsageError.exit_code))


def _interrupted(*, as_json: bool) -> int:
    if as_json:
        _print_error(Interrupted.__name__, "Interrupted.", "")
    with contextlib.suppress(OSError):
        typer.echo("Interrupted.", err=True)
    return Interrupted.exit_code


def _print_error(name: str, message: str, mend: str) -> None:
    """What a program reads instead of the result."""
    from sage.cli.render import emit_json

    emit_json({"error": {"name": name, "message": message, "mend": mend}})


def _unwritable(error: OSError) -> SageError:
    return NoDiskSpace(f"The output cannot be written: {error.strerror}.", mend="Send it where there is room")


def _terminated(_signal: int, _frame: object) -> None:
    """SIGTERM ends a turn as Ctrl-C does: the partial answer is kept and the ATP are settled."""
    raise Terminated


def _open_streams() -> None:
    """Give the standard streams that were closed somewhere to go, so that no file takes their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  open until the process ends
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a character it does not know is no reason to fail
            stream.reconfigure(errors="replace")


def _let_go() -> None:
    """Flush; what cannot be written goes nowhere, or Python would complain of it while it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
