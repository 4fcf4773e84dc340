"""The rows of a measurement as tables for people.

Owns: which rows make a table, and which columns are worth reading. Must not know: how rows were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["tables"]

TITLES: Mapping[str, str] = {
    "model": "Load, speed and memory",
    "by kind": "Right answers by kind of question",
    "long context": "One sentence found again in a long text",
    "turns": "Conversations of eight turns",
    "choices": "Multiple choice by log likelihood",
    "trust": "Requests until trust knows a model to within 0.1",
    "policy": "Who answers: SAGE replayed on the measured answers, and the others",
    "live": "Who answers: SAGE asked anew, with loads and second opinions",
}
"""What is shown, in this order."""


def tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A title and the rows of each table that has any."""
    for what, title in TITLES.items():
        found = [row for row in rows if row["what"] == what]
        if found:
            yield title, [_shown(row) for row in found]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says the same in every row; means of orders with their ends."""
    hidden = {"what", "models", "how"} | {key for key in row if key.endswith(("_low", "_high"))}
    shown = {key: _with_ends(row, key) for key in row if key not in hidden}
    return {key.replace("_", " "): "-" if value is None else value for key, value in shown.items()}


def _with_ends(row: Mapping[str, Any], key: str) -> Any:
    low, high = (row.get(f"{key}{end}") for end in ("_low", "_high"))
    return row[key] if low is None or low == high else f"{row[key]} ({low}-{high})"
