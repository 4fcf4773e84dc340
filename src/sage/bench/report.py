"""What every benchmark writes, and the tables that are made from it.

Owns: the schema of a result file and its Markdown. Must not know: any suite.

A file holds ``suite``, ``command``, ``at`` (ISO date), ``machine``, ``settings`` (what was varied or fixed:
repeats, seeds, data) and ``rows``: flat objects. Those of one kind have the same keys.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sage.hardware.probe import probe

__all__ = ["Spread", "insert_tables", "markdown", "spread", "spread_columns", "write_result"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Repeated measurements: the middle one and the ends."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest of at least one value."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def spread_columns(name: str, values: Sequence[float | None], *, digits: int) -> dict[str, float | None]:
    """The median under ``name`` and the extremes under ``name_low`` and ``name_high``: of the values there
    are, None where there are none or where one is infinite, which is what never happened."""
    known = [value for value in values if value is not None]
    found = spread(known) if known else None
    ends = {"": found.median, "_low": found.low, "_high": found.high} if found else {}
    return {
        name + end: round(value, digits) if value is not None and math.isfinite(value) else None
        for end in ("", "_low", "_high")
        for value in [ends.get(end)]
    }


def write_result(
    path: Path,
    *,
    suite: str,
    command: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write one result file; returns what was written. ``more``: what a suite measures beyond a table."""
    machine = probe()
    result = {
        "suite": suite,
        "command": command,
        "at": time.strftime("%Y-%m-%d"),
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.usable_cores,
            "memory_gb": round(machine.memory_total / 1e9, 1),
            "arch": machine.arch,
        },
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
        **(more or {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return result


def markdown(
    result: Mapping[str, Any],
    *,
    where: Mapping[str, Sequence[str]] | None = None,
    columns: Sequence[str] = (),
) -> str:
    """The rows as a Markdown table, with the command and the machine below.

    ``where`` keeps the rows that have these columns with one of these values; ``columns`` (default: those of
    the first row) are shown.

    Raises:
        ValueError: no row is left.
    """
    rows = [
        row
        for row in result["rows"]
        if all(str(row.get(key)) in values for key, values in (where or {}).items())
    ]
    if not rows:
        raise ValueError(f"{result['suite']} has no row where {where}")
    keys = list(columns or rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(_cell(row[key]) for key in keys) + " |" for row in rows]
    machine = result["machine"]
    lines += [
        "",
        f"`{result['command']}`, {result['at']}, {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gb']} GB.",
    ]
    return "\n".join(lines)


def insert_tables(text: str, folder: Path) -> str:
    """Replace what stands between ``<!-- bench NAME -->`` and ``<!-- end -->`` by the table of NAME.json.

    ``<!-- bench NAME mode=full policy=sage|knn columns=policy|cost -->`` shows a part of it.
    """

    def table(match: re.Match[str]) -> str:
        name, *parts = shlex.split(match[1])
        chosen = {key: values.split("|") for key, _, values in (part.partition("=") for part in parts)}
        columns = chosen.pop("columns", ())
        result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        shown = markdown(result, where=chosen, columns=columns)
        return f"<!-- bench {match[1]} -->\n{shown}\n<!-- end -->"

    return re.sub(r"<!-- bench ([^\n]+?) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main() -> None:
    """``python -m sage.bench.report FOLDER DOCUMENT...`` rewrites the tables of the documents."""
    folder, *documents = map(Path, sys.argv[1:])
    for document in documents:
        document.write_text(insert_tables(document.read_text(encoding="utf-8"), folder), encoding="utf-8")


if __name__ == "__main__":
    main()
