"""Long lines for people: wrapped under their own beginning on a terminal, in one piece where they are piped.

Owns: hanging indentation. Must not know: any command.
"""

from __future__ import annotations

import textwrap

from sage.cli.render import console

__all__ = ["hang"]

NARROWEST = 20
"""Columns; on a narrower terminal lines run over rather than become a column of words."""


def hang(text: str, indent: int) -> str:
    """``text`` for a place that starts at column ``indent``; print it with ``soft_wrap=True``.

    Words are never cut, so that paths and commands can be copied.
    """
    lines = text.splitlines()
    if console().is_terminal:
        width = max(NARROWEST, console().width - indent)
        lines = [
            piece
            for line in lines
            for piece in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        ]
    return ("\n" + " " * indent).join(lines)
