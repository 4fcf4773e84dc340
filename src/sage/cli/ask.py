"""`sage ask`: one question, one answer, and why this model gave it.

Owns: the shape of `sage ask --json`. Must not know: how the answer was made.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.options import (
    AsOption,
    DialOption,
    MaxAtpOption,
    MaxUsdOption,
    ModelOption,
    SessionOption,
    SystemOption,
    dial_of,
)

if TYPE_CHECKING:
    from sage.kernel.turn import Reply

__all__ = ["ask", "reply_json"]


def ask(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="The question; without it, or with '-', read from standard input."
        ),
    ] = None,
    model: ModelOption = None,
    session: SessionOption = None,
    namespace: AsOption = None,
    system: SystemOption = None,
    dial: DialOption = None,
    max_atp: MaxAtpOption = None,
    max_usd: MaxUsdOption = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a JSON schema that the answer must meet.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The longest answer, in tokens.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, metavar="T", help="0 is greedy.")] = 0.0,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The same seed, the same answer.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End the answer before this text.")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="S", help="Seconds to answer in; slower models are left out."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a question; SAGE chooses the model that answers."""
    from sage.cli.render import emit_json
    from sage.cli.stream import printing, progress
    from sage.kernel.sense import Request
    from sage.kernel.session import open_kernel
    from sage.types import Message, new_id

    messages = [Message(role="system", content=system)] if system else []
    messages.append(Message(role="user", content=_prompt(prompt)))
    request = Request(
        messages=tuple(messages),
        session=session or new_id("ask"),
        namespace=namespace,
        model=model,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        stop=tuple(stop or ()),
        schema=_schema(schema),
        deadline_s=deadline,
        dial=dial_of(dial),
        max_atp=max_atp,
        max_usd=max_usd,
    )
    with open_kernel() as kernel:
        if json:
            with progress(kernel.bus):
                reply = kernel.tick(request)
            emit_json(reply_json(reply))
            return
        with printing(kernel.bus) as printer:
            printer.show(kernel.tick(request, on_piece=printer.on_piece))


def reply_json(reply: Reply) -> dict[str, Any]:
    """The contract of `sage ask --json`."""
    from sage.memory.verbatim import plain

    return {
        "answer": reply.answer,
        "model": reply.model,
        "finish_reason": reply.finish_reason,
        "decision": {key: value for key, value in plain(reply.decision).items() if key != "chosen"},
        "irp": dict(reply.irp),
        "usage": dict(reply.usage),
        "atp": dict(reply.atp),
        "turn_id": reply.turn_id,
    }


def _prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return _as_utf8(prompt)
    if sys.stdin.isatty():
        typer.echo("Type the question, then Ctrl-D:", err=True)
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _as_utf8(argument: str) -> str:
    """An argument as the terminal sent it: under LC_ALL=C Python takes UTF-8 for bytes without meaning."""
    try:
        return os.fsencode(argument).decode("utf-8", "replace")
    except UnicodeEncodeError:
        return argument


def _schema(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    import json

    from sage.errors import NotFound, UsageError

    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.", mend="Give a file with a JSON schema") from error
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", mend=f"Correct {path}") from error
    if not isinstance(schema, dict):
        raise UsageError(f"{path} is not a JSON schema: it must hold an object.", mend=f"Correct {path}")
    return schema
