"""`sage chat`: a conversation; each question goes to the model that SAGE chooses for it.

Owns: the prompt line and what Ctrl-C and Ctrl-D mean. Must not know: how an answer is made.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

__all__ = ["chat"]

HELP = "/why explains the last choice, /good and /bad teach trust, /exit (or Ctrl-D) leaves."


def chat(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Talk to this model instead of letting SAGE choose.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", "-s", help="Continue the conversation of this name.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="An instruction that holds for the whole chat.")] = None,
) -> None:
    """Talk; models stay loaded between questions. Ctrl-C stops an answer, Ctrl-D leaves."""
    from sage.cli.render import fail, notes
    from sage.cli.stream import Printer, loading_spinner
    from sage.cli.trust import rate_turn
    from sage.errors import SageError
    from sage.kernel.sense import Request, clean
    from sage.kernel.session import open_kernel
    from sage.types import Message, new_id

    session = session or new_id("chat")
    start = (Message(role="system", content=system),) if system else ()
    with open_kernel() as kernel, loading_spinner(kernel.bus):
        notes().print(f"[dim]session {session} · {HELP}[/dim]")
        last = None
        while (line := _read_line()) is not None:
            command = line.strip().lower()
            if command in ("/exit", "/quit"):
                break
            if not command:
                continue
            if command.startswith("/"):
                if command not in ("/why", "/good", "/bad"):
                    notes().print(f"[dim]{HELP}[/dim]")
                elif last is None:
                    notes().print("[dim]There is no answer yet.[/dim]")
                elif command == "/why":
                    notes().print(last.decision.reason, markup=False)
                else:
                    rate_turn(
                        kernel.store, kernel.learn, kernel.clock, last.turn_id, float(command == "/good")
                    )
                    notes().print("[dim]Noted.[/dim]")
                continue
            messages = (*start, Message(role="user", content=clean(line.strip())))
            printer = Printer()
            remove = kernel.bus.subscribe(printer.on_event)
            try:
                request = Request(messages=messages, session=session, model=model)
                last = kernel.tick(request, on_piece=printer.on_piece)
                printer.show(last)
            except KeyboardInterrupt:
                printer.stop()
                notes().print("[dim]Stopped; what was said is kept in the log.[/dim]")
            except SageError as error:
                printer.stop()
                fail(error)
            finally:
                remove()


def _read_line() -> str | None:
    """The next line, or None at the end. Ctrl-C at the prompt drops the line."""
    while True:
        try:
            if sys.stdin.isatty():
                return input("> ")
            return sys.stdin.readline() or None
        except EOFError:
            return None
        except KeyboardInterrupt:
            typer.echo("", err=True)
