"""How an inventory looks: the same sections as tables in a terminal or as a Markdown document.

Owns: columns, words and the Markdown. Must not know: where figures come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sage.zoo.inventory import Choice, Entry, Inventory, Measured

__all__ = ["Section", "as_markdown", "print_sections", "sections"]

NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading, what to know before reading the table, the table. ``figures`` are the columns of numbers."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: frozenset[str] = frozenset()


def sections(inventory: Inventory, measured: Sequence[Measured]) -> list[Section]:
    """The map, the speeds, and three selection tables; those without a measurement say so."""
    sources = "; ".join(
        " ".join(part for part in (f"{m.source}:", m.machine, m.date) if part) for m in measured
    )
    return [
        _models(inventory.entries),
        _speeds(inventory.entries, sources),
        _choices(
            "By task", "task", inventory.by_task, "The best at each task, and the cheapest that is as good."
        ),
        _choices(
            "By memory",
            "takes at most",
            [_in_bytes(choice) for choice in inventory.by_memory],
            "The best over all tasks among those that take no more memory, where that changes who it is.",
        ),
        _choices(
            "By speed",
            "tokens/s at least",
            inventory.by_speed,
            "The best over all tasks among those that write no slower, where that changes who it is.",
        ),
    ]


def _models(entries: Iterable[Entry]) -> Section:
    rows = []
    for entry in entries:
        size = _bytes(entry.bytes) if entry.bytes else "unknown"
        bits = f"{entry.bits_claimed:g}" if entry.bits_claimed else "unknown"
        stored = "unknown" if entry.bits_stored is None else f"{entry.bits_stored:.1f}"
        rows.append(
            (
                entry.name,
                f"~{size}" if entry.bytes_are == "published" else size,
                bits,
                stored + (" (more)" if entry.bits_kept is False else ""),
                entry.status,
                "; ".join(entry.ran_on) or NOT_MEASURED,
            )
        )
    return Section(
        title="Models",
        note="Bits for each weight, claimed and on the disk; (more): over a quarter above the claim.",
        columns=("model", "size", "claimed", "stored", "state", "ran on"),
        rows=tuple(rows),
        figures=frozenset(("size", "claimed", "stored")),
    )


def _speeds(entries: Sequence[Entry], sources: str) -> Section:
    rows = []
    for entry in entries:
        for speed in entry.speed:
            rates = speed.rates
            cells = (
                f"{rates['load_s']:.3g} s" if "load_s" in rates else "",
                f"{rates['prompt_tok_s']:.0f}" if "prompt_tok_s" in rates else "",
                f"{rates['generate_tok_s']:.3g}" if "generate_tok_s" in rates else "",
                _bytes(rates["rss_bytes"]) if "rss_bytes" in rates else "",
            )
            rows.append((entry.name, *cells, speed.who))
    silent = sum(not entry.speed for entry in entries)
    return Section(
        title="Speed",
        note=f"Tokens a second, and memory while it answers. {sources or 'Nothing is measured yet'}. "
        f"Of {silent} models nobody says anything.",
        columns=("model", "loads in", "reads", "writes", "takes", "says who"),
        rows=tuple(rows),
        figures=frozenset(("loads in", "reads", "writes", "takes")),
    )


def _choices(title: str, where: str, choices: Sequence[Choice], note: str) -> Section:
    rows = tuple(
        (
            choice.where,
            choice.best,
            f"{choice.quality:.2f}",
            choice.cheapest,
            f"{choice.cheapest_quality:.2f}",
            f"{choice.n:.0f}",
            choice.source,
        )
        for choice in choices
    )
    return Section(
        title=title,
        note=note if rows else f"{note} {NOT_MEASURED.capitalize()}.",
        columns=(where, "best", "quality", "cheapest as good", "its quality", "n", "measured by"),
        rows=rows,
        figures=frozenset(("quality", "its quality", "n")),
    )


def _in_bytes(choice: Choice) -> Choice:
    from dataclasses import replace

    return replace(choice, where=_bytes(float(choice.where)))


def _bytes(count: float) -> str:
    from sage.cli.render import human_bytes

    return human_bytes(count)


def as_markdown(parts: Iterable[Section]) -> str:
    """A document whose columns also line up as plain text."""
    lines = ["# The models"]
    for part in parts:
        lines += ["", f"## {part.title}", "", part.note]
        if part.rows:
            lines += ["", *_table(part)]
    return "\n".join(lines)


def _table(part: Section) -> list[str]:
    rows = [part.columns, *([cell.replace("|", "\\|") for cell in row] for row in part.rows)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(part.columns))]
    right = [column in part.figures for column in part.columns]

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.rjust(width) if figure else cell.ljust(width)
            for cell, width, figure in zip(cells, widths, right, strict=True)
        ]
        return f"| {' | '.join(placed)} |"

    rule = [
        f"{'-' * (width + 1)}{':' if figure else '-'}" for width, figure in zip(widths, right, strict=True)
    ]
    return [line(rows[0]), f"|{'|'.join(rule)}|", *(line(row) for row in rows[1:])]


def print_sections(parts: Iterable[Section]) -> None:
    """Tables for a terminal."""
    from rich.table import Table
    from rich.text import Text

    from sage.cli.render import console, print_table

    for number, part in enumerate(parts):
        if number:
            console().print()
        console().print(part.title, style="bold")
        console().print(part.note, style="dim", markup=False, soft_wrap=not console().is_terminal)
        if not part.rows:
            continue
        table = Table(*part.columns, box=None, pad_edge=False)
        for column, name in zip(table.columns, part.columns, strict=True):
            column.justify = "right" if name in part.figures else "left"
        for row in part.rows:
            table.add_row(*(Text(cell) for cell in row))
        print_table(table)
