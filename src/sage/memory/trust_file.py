"""Trust as a file that another node can read.

Owns: the JSON form of a trust book and the distrust of a file that somebody else wrote.
Must not know: where the file is or what becomes of the book.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from sage.economy.context import Codebook
from sage.economy.drift import Drift
from sage.economy.trust import TrustBook, TrustRow
from sage.errors import UnsafeFile, UsageError

__all__ = ["book_from_json", "book_to_json"]

FORMAT = "sage-trust-1"

MAX_ROWS = 100_000
"""Records, and resets, that one file may hold."""

MAX_EVENTS = 2**53
"""Beyond it a float does not count any more."""

MAX_NAME = 200
"""Characters."""

MAX_MOVE = 3.0
"""How far the sum of a cell may lie beyond its weight: quality, shift and drift are within [-1, 1]."""

EPSILON = 1e-6
"""Relative room for rounding."""


def book_to_json(book: TrustBook) -> str:
    """Every row of the book, the cells without evidence left out."""
    rows = []
    for row in book.rows():
        cells = np.flatnonzero(row.weights)
        rows.append(
            {
                "origin": row.origin,
                "candidate": row.candidate,
                "since": row.since,
                "events": row.events,
                "at": row.at,
                "total": row.total,
                "cells": cells.tolist(),
                "sums": row.sums[cells].tolist(),
                "weights": row.weights[cells].tolist(),
                "drift": dataclasses.asdict(row.drift),
            }
        )
    book_json = {
        "format": FORMAT,
        "codebook": book.codebook.id,
        "views": [view.name for view in book.codebook.views],
        "origin": book.origin,
        "resets": dict(book.resets),
        "rows": rows,
    }
    return json.dumps(book_json, ensure_ascii=False, allow_nan=False) + "\n"


def book_from_json(text: str, codebook: Codebook, *, now: float) -> TrustBook:
    """The book that was written, for merging.

    Raises:
        UnsafeFile: it is not what :func:`book_to_json` writes. UsageError: it is of another codebook.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"it is not in the form {FORMAT}")
        if (theirs := _name(found["codebook"])) != codebook.id:
            views = ", ".join(_name(view) for view in found.get("views", []))
            ours = ", ".join(view.name for view in codebook.views)
            raise UsageError(
                f"This trust was learned under codebook {theirs} ({views}), yours is {codebook.id} ({ours}).",
                mend="Use the same embedder on both machines: see sage doctor",
            )
        for part, kind in (("rows", list), ("resets", dict)):
            if not isinstance(found[part], kind):
                raise ValueError(f"its {part} are none")
            if len(found[part]) > MAX_ROWS:
                raise ValueError(f"it holds {len(found[part])} {part}, {MAX_ROWS} at most are read")
        rows = [_row(row, codebook.cells, now) for row in found["rows"]]
        resets = {_name(name): _time(at, now) for name, at in found["resets"].items()}
        return TrustBook(
            codebook,
            origin=_name(found["origin"]),
            half_life=math.inf,
            prior_strength=1.0,
            rows=rows,
            resets=resets,
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        why = str(error)[:MAX_NAME].encode(errors="backslashreplace").decode()
        raise UnsafeFile(
            f"This is no trust that SAGE has written: {why}",
            mend="On the other machine: sage trust export FILE",
        ) from error


def _row(row: dict[str, Any], cells: int, now: float) -> TrustRow:
    candidate, events, total = _name(row["candidate"]), row["events"], float(row["total"])
    if type(events) is not int or not 0 <= events <= MAX_EVENTS:
        raise ValueError(f"{events!r} is no number of outcomes")
    if not 0.0 <= total <= events * (1.0 + EPSILON):
        raise ValueError(f"{candidate} has evidence of {total} from {events} outcomes")
    at, seen = row["cells"], (np.array(row["sums"], float), np.array(row["weights"], float))
    if any(type(cell) is not int or not 0 <= cell < cells for cell in at) or len(set(at)) < len(at):
        raise ValueError(f"a row needs cells of its own within 0..{cells - 1}")
    if any(column.shape != (len(at),) for column in seen):
        raise ValueError(f"the row of {candidate} needs a sum and a weight for each of {len(at)} cells")
    sums, weights = np.zeros(cells), np.zeros(cells)
    sums[at], weights[at] = seen
    room = EPSILON * (1.0 + total)
    # Written so that what is no number is refused too.
    if not ((weights >= 0.0) & (weights <= total + room)).all():
        raise ValueError(f"the row of {candidate} holds weights beyond its evidence")
    if not (np.abs(sums) <= MAX_MOVE * weights * (1.0 + EPSILON)).all():
        raise ValueError(f"the row of {candidate} holds sums beyond its weights")
    return TrustRow(
        origin=_name(row["origin"]),
        candidate=candidate,
        since=_time(row["since"], now),
        events=events,
        at=_time(row["at"], now),
        total=total,
        sums=sums,
        weights=weights,
        drift=_drift(row["drift"]),
    )


def _name(name: object) -> str:
    """A name that can be stored and shown. Half a surrogate pair raises UnicodeEncodeError, a ValueError."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"a name has 1 to {MAX_NAME} characters")
    name.encode()
    if not name.isprintable():
        raise ValueError("a name holds what cannot be shown")
    return name


def _drift(numbers: dict[str, float]) -> Drift:
    drift = Drift(**{name: float(value) for name, value in numbers.items()})  # type: ignore[arg-type]
    if not all(abs(value) <= MAX_EVENTS for value in dataclasses.astuple(drift)) or abs(drift.level) > 1.0:
        raise ValueError("its drift cannot be")
    return drift


def _time(value: float, now: float) -> float:
    """A time in the future is now: what another clock says must not outlast what is learned here."""
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is no time")
    return min(value, now)
