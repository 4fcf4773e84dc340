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
        if found["codebook"] != codebook.id:
            raise UsageError(
                f"This trust was learned under codebook {found['codebook']}, yours is {codebook.id}.",
                mend="Use the same embedder on both machines: see sage doctor",
            )
        rows = [_row(row, codebook.cells, now) for row in found["rows"][:MAX_ROWS]]
        resets = {str(name): _time(at, now) for name, at in found["resets"].items()}
        return TrustBook(
            codebook,
            origin=str(found["origin"]),
            half_life=math.inf,
            prior_strength=1.0,
            rows=rows,
            resets=resets,
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise UnsafeFile(
            f"This is no trust that SAGE has written: {error}", mend="sage trust export"
        ) from error


def _row(row: dict[str, Any], cells: int, now: float) -> TrustRow:
    sums, weights = np.zeros(cells), np.zeros(cells)
    at = np.array(row["cells"], np.intp)
    if len(at) and not (at.min() >= 0 and at.max() < cells):
        raise ValueError(f"a row names cells outside 0..{cells - 1}")
    sums[at], weights[at] = np.array(row["sums"], float), np.array(row["weights"], float)
    return TrustRow(
        origin=str(row["origin"]),
        candidate=str(row["candidate"]),
        since=_time(row["since"], now),
        events=int(row["events"]),
        at=_time(row["at"], now),
        total=float(row["total"]),
        sums=sums,
        weights=weights,
        drift=_drift(row["drift"]),
    )


def _drift(numbers: dict[str, float]) -> Drift:
    drift = Drift(**{name: float(value) for name, value in numbers.items()})  # type: ignore[arg-type]
    if not all(math.isfinite(value) for value in dataclasses.astuple(drift)) or abs(drift.level) > 1.0:
        raise ValueError("its drift cannot be")
    return drift


def _time(value: float, now: float) -> float:
    """A time in the future is now: what another clock says must not outlast what is learned here."""
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is no time")
    return min(value, now)
