"""Options that several commands share, so that they mean the same everywhere.

Owns: their names and help. Must not know: the commands.
"""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AsOption",
    "DialOption",
    "MaxAtpOption",
    "MaxUsdOption",
    "ModelOption",
    "SessionOption",
    "SystemOption",
    "dial_of",
]

ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="Ask this model; without it, SAGE chooses."),
]
SessionOption = Annotated[
    str | None,
    typer.Option("--session", "-s", metavar="NAME", help="Continue the conversation of this name."),
]
AsOption = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Whose memory: a namespace. Without it, memory.namespace."),
]
SystemOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="An instruction that comes before the question.")
]
DialOption = Annotated[
    str | None,
    typer.Option(
        metavar="D", help="From cheapest to best: fast, balanced, deep, or 0 to 1. See sage trust frontier."
    ),
]
MaxAtpOption = Annotated[
    float | None,
    typer.Option(
        min=0.0, metavar="ATP", help="Choose nobody dearer, and begin no further draft, beyond this."
    ),
]
MaxUsdOption = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="USD", help="Leave out models that would be billed more than this."),
]


def dial_of(text: str | None) -> float | None:
    """The number that an option says, or None.

    Raises:
        UsageError: the dial has no such setting.
    """
    from sage.economy.permission import dial_named

    return None if text is None else dial_named(text)
