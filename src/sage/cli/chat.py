"""`sage chat`: a conversation; each question goes to the model that SAGE chooses for it.

Owns: the prompt line and what Ctrl-C and Ctrl-D mean. Must not know: how an answer is made.
"""

from __future__ import annotations

import contextlib
import sys

import typer

from sage.cli.options import AsOption, DialOption, ModelOption, SessionOption, SystemOption, dial_of
from sage.errors import Terminated

__all__ = ["chat"]

COMMANDS = ("/why", "/good", "/bad", "/exit", "/quit")

HELP = "/why explains the last choice, /good and /bad teach trust, /exit (or Ctrl-D) leaves."


def chat(
    model: ModelOption = None,
    session: SessionOption = None,
    namespace: AsOption = None,
    system: SystemOption = None,
    dial: DialOption = None,
) -> None:
    """Talk; models stay loaded between questions. Ctrl-C stops an answer, Ctrl-D leaves."""
    from sage.cli.render import fail, notes
    from sage.cli.stream import printing
    from sage.cli.trust import rate_turn
    from sage.errors import SageError, did_you_mean
    from sage.kernel.sense import Request, clean
    from sage.kernel.session import open_kernel
    from sage.types import Message, new_id
    from sage.zoo.catalog import find_card

    session, turned = session or new_id("chat"), dial_of(dial)
    start = (Message(role="system", content=system),) if system else ()
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  with it, input() has line editing and history
    with open_kernel() as kernel:
        if model is not None and model.partition(":")[0] != "sage":
            find_card(kernel.catalog, model)
        notes().print(f"[dim]session {session} · {HELP}[/dim]")
        last: str | None = None
        while (line := _read_line()) is not None:
            command = line.strip().lower()
            if command in ("/exit", "/quit"):
                break
            if not command:
                continue
            if command.startswith("/"):
                if command not in COMMANDS:
                    hint = did_you_mean(command, COMMANDS)
                    notes().print(f"There is no command {command}.{hint} {HELP}", style="dim", markup=False)
                elif last is None:
                    notes().print("[dim]There is no answer yet.[/dim]")
                elif command == "/why":
                    reason = kernel.store.decision(last).get("reason", "Nobody had been chosen yet.")
                    notes().print(reason, markup=False)
                else:
                    quality = float(command == "/good")
                    new = rate_turn(kernel.store, kernel.learn, kernel.clock, last, quality)
                    said = "Noted." if new else "This answer was rated before; nothing changed."
                    notes().print(said, style="dim")
                continue
            messages = (*start, Message(role="user", content=clean(line.strip())))
            try:
                with printing(kernel.bus) as printer:
                    request = Request(
                        messages=messages, session=session, namespace=namespace, model=model, dial=turned
                    )
                    reply = kernel.tick(request, on_piece=printer.on_piece)
                    last = reply.turn_id
                    printer.show(reply)
                kernel.anticipate()
            except Terminated:
                raise
            except KeyboardInterrupt:
                last = next((turn.id for turn in kernel.store.turns(session=session, limit=1)), last)
                notes().print("[dim]Stopped; what was said is kept in the log.[/dim]")
            except SageError as error:
                fail(error)


def _read_line() -> str | None:
    """The next line, or None at the end. Ctrl-C at the prompt drops the line."""
    while True:
        try:
            if sys.stdin.isatty() and sys.stdout.isatty():
                return input("> ")
            if sys.stdin.isatty():  # stdout takes the answers alone
                typer.echo("> ", err=True, nl=False)
            return sys.stdin.readline() or None
        except EOFError:
            return None
        except Terminated:
            raise
        except KeyboardInterrupt:
            typer.echo("", err=True)
