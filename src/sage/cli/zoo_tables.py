"""How an inventory looks: the same sections as tables in a terminal or as a Markdown document.

Owns: columns, words and the Markdown. Must not know: where figures come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sage.zoo.inventory import Choice, Entry, Inventory, Learned, Measured

__all__ = ["WARNED", "Section", "as_markdown", "footnote", "print_sections", "sections"]

NAMES = ("model", "best", "cheapest as good")
"""Columns whose cells a person copies: they are never shortened."""

WARNED = "!"
"""Follows the state of a model that its card warns of; a line under the table says why."""

NOBODY = "nobody"
"""Stands where no model was right once."""

FIGURES = ("size", "bits", "stored", "loads in", "reads", "writes", "takes", "%", "n", "memory", "tokens/s")
"""Columns of numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading, what to know before reading the table, the table, what its marks stand for."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...] = ()


def sections(inventory: Inventory, measured: Sequence[Measured]) -> list[Section]:
    """The map, the speeds, three selection tables, and what was learned here; what has no rows says so."""
    sources = "; ".join(
        " ".join(part for part in (f"{m.source}:", m.machine, m.date) if part) for m in measured
    )
    return [
        _models(inventory.entries),
        _speeds(inventory.entries, sources),
        _choices(
            "By task",
            "task",
            inventory.by_task,
            "The best at each task, and the cheapest that is as good; right answers in %, of n questions "
            "that each of the models was asked.",
        ),
        _choices(
            "By memory",
            "memory",
            [_in_bytes(choice) for choice in inventory.by_memory],
            "The best over all tasks among those that take no more memory, where that changes who it is.",
        ),
        _choices(
            "By speed",
            "tokens/s",
            inventory.by_speed,
            "The best over all tasks among those that write no slower, where that changes who it is.",
        ),
        _learned(inventory.learned),
    ]


def footnote(name: str, warning: str) -> str:
    """What is said of a model whose state has the mark."""
    return f"{WARNED} {name}: {warning}"


def _models(entries: Sequence[Entry]) -> Section:
    rows = []
    for entry in entries:
        size = _bytes(entry.bytes) if entry.bytes else "unknown"
        bits = f"{entry.bits_claimed:g}" if entry.bits_claimed else ""
        stored = "" if entry.bits_stored is None else f"{entry.bits_stored:.1f}"
        rows.append(
            (
                entry.name,
                f"~{size}" if entry.bytes_are == "published" else size,
                bits,
                stored + ("" if entry.bits_kept is None else " " if entry.bits_kept else "+"),
                f"{entry.status} {WARNED}" if entry.warning else entry.status,
                "; ".join(entry.ran_on),
            )
        )
    return Section(
        title="Models",
        note="~: as published. Bits claimed for each weight, and stored (+: over a quarter more). "
        f"{WARNED}: see below the table. Ran on: where somebody measured it.",
        columns=("model", "size", "bits", "stored", "state", "ran on"),
        rows=tuple(rows),
        footnotes=tuple(footnote(entry.name, entry.warning) for entry in entries if entry.warning),
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
    )


def _choices(title: str, where: str, choices: Sequence[Choice], note: str) -> Section:
    rows = tuple(
        (
            choice.where,
            choice.best or NOBODY,
            f"{100 * choice.quality:.0f}",
            choice.cheapest or NOBODY,
            f"{100 * choice.cheapest_quality:.0f}",
            f"{choice.n:.0f}",
        )
        for choice in choices
    )
    by = ", ".join(dict.fromkeys(choice.source for choice in choices))
    return Section(
        title=title,
        note=f"{note} Measured by: {by}." if rows else f"{note} Not measured.",
        columns=(where, "best", "%", "cheapest as good", "%", "n"),
        rows=rows,
    )


def _learned(learned: Sequence[Learned]) -> Section:
    note = "Expected quality in %, after n outcomes of your own questions. Each model had other questions: "
    return Section(
        title="Learned here",
        note=f"{note}see sage trust show." if learned else "Nothing yet: no outcome of yours is known.",
        columns=("kind", "model", "%", "n"),
        rows=tuple((one.kind, one.model, f"{100 * one.quality:.0f}", f"{one.n:.0f}") for one in learned),
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
        if part.footnotes:
            lines += ["", *(f"- {line}" for line in part.footnotes)]
    return "\n".join(lines)


def _table(part: Section) -> list[str]:
    rows = [part.columns, *([cell.replace("|", "\\|") for cell in row] for row in part.rows)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(part.columns))]
    right = [column in FIGURES for column in part.columns]

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

    from sage.cli.lines import hang
    from sage.cli.render import console, print_table, table_room

    for number, part in enumerate(parts):
        if number:
            console().print()
        console().print(part.title, style="bold")
        console().print(part.note, style="dim", markup=False, soft_wrap=not console().is_terminal)
        if not part.rows:
            continue
        widths = [max(map(len, cells)) for cells in zip(part.columns, *part.rows, strict=True)]
        gap = 2 if sum(widths) + 2 * len(widths) <= table_room() else 1
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
        for name, width in zip(part.columns, widths, strict=True):
            whole = name in NAMES or name in FIGURES
            table.add_column(
                name,
                justify="right" if name in FIGURES else "left",
                min_width=width if whole else None,
                no_wrap=whole,
                overflow="fold",
            )
        for row in part.rows:
            table.add_row(*(Text(cell) for cell in row))
        print_table(table)
        for line in part.footnotes:
            console().print(hang(line, len(WARNED) + 1), style="dim", markup=False, soft_wrap=True)
