"""``sage models list`` and ``sage models show``: what is known of the models, and what stands in their way.

Owns: these commands' words and tables. Must not know: how a file is fetched, vetted or run.
Only light imports at the top; the rest is imported when a command runs.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.lookup import AsJson, Name, find_model, measured_rates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.table import Table

    from sage.errors import SageError
    from sage.zoo.card import ModelCard

__all__ = ["count_word", "list_", "show", "size_word"]

RATES = {
    "prompt_tok_s": "reads",
    "generate_tok_s": "writes",
    "load_s": "loads in",
    "rss_bytes": "takes",
    "disk_bytes": "lies on the disk with",
    "prompt_usd_mtok": "a million tokens read cost",
    "generate_usd_mtok": "a million tokens written cost",
}
"""The rates of a card and of the database that tell a person something, and how they read."""


def _row(card: ModelCard, home: Path, catalog: Mapping[str, ModelCard], loaded: Any) -> dict[str, Any]:
    from sage.zoo.card_status import as_one, obstacles, status
    from sage.zoo.sources import state

    found = obstacles(card, home, catalog)
    return {
        "name": card.name,
        "present": (here := state(card, home)) == "present",
        "state": here,
        "status": status(card, found[0] if found else None),
        "obstacle": _error(as_one(found)),
        "notice": card.notice,
        "resident": card.name in loaded,
        "default": card.default,
        "bytes": card.bytes,
        "expected_bytes": card.expected_bytes,
        "parameters": card.parameters,
        "license": card.license,
        "source": card.source,
        "backend": card.backend,
        "capabilities": sorted(card.capabilities),
    }


def _error(found: SageError | None) -> dict[str, str] | None:
    return None if found is None else {"name": found.name, "message": found.message, "mend": found.mend}


def size_word(card: ModelCard) -> str:
    """Size on disk; with a ``~`` before it where nobody has counted the bytes."""
    from sage.cli.render import human_bytes

    if card.bytes:
        return human_bytes(card.bytes)
    return f"~{human_bytes(card.expected_bytes)}" if card.expected_bytes else ""


def _size_there(card: ModelCard, home: Path) -> str:
    """Size of what lies on the disk, where that is not what the card says."""
    from sage.cli.render import human_bytes
    from sage.zoo.sources import stamp

    return human_bytes(sum(size for _file, _inode, size, *_times in stamp(card, home)))


def _state_word(row: dict[str, Any], rests_s: float) -> str:
    """The state for people; a model in memory goes on answering when its file is gone."""
    if row["resident"]:
        return (
            "in memory"
            if row["present"]
            else f"in memory, file {'gone' if row['state'] == 'absent' else 'damaged'}"
        )
    if rests_s > 0 and not row["obstacle"]:
        return f"rests {rests_s:.0f} s"
    return str(row["status"])


def list_(
    everything: Annotated[
        bool, typer.Option("--all", help="Also the known models that are not on this machine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the models that are here, and the default ones.

    Where a terminal is narrow, licences are left out.
    """
    from sage.cli.lines import hang
    from sage.cli.render import console, emit_json, notes, print_table
    from sage.cli.zoo_tables import WARNED, footnote
    from sage.config import sage_home
    from sage.zoo.catalog import every_card
    from sage.zoo.notes import resident_models
    from sage.zoo.remembered import resting

    home = sage_home()
    catalog, loaded, rests = every_card(home), resident_models(home), resting(home)
    rows = [_row(card, home, catalog, loaded) for card in catalog.values()]
    if as_json:
        emit_json(rows)
        return
    shown = [
        row for row in rows if everything or row["state"] != "absent" or row["default"] or row["resident"]
    ]
    lines, warnings = list[tuple[str, ...]](), list[str]()
    for row in shown:
        card = catalog[row["name"]]
        word = _state_word(row, rests.get(card.name, 0.0))
        if card.warning:
            word = f"{word} {WARNED}"
            warnings.append(footnote(card.name, card.warning))
        size = size_word(card) if row["state"] != "damaged" else _size_there(card, home)
        lines.append((card.name, size, word, card.license, ", ".join(row["capabilities"])))
    print_table(_table(lines))
    for line in warnings:
        console().print(hang(line, len(WARNED) + 1), style="dim", markup=False, soft_wrap=True)
    if all(row["state"] == "absent" for row in rows):
        notes().print("None is here yet: sage models pull, or sage models discover", style="dim")
    if left := len(rows) - len(shown):
        with suppress(OSError):  # the list was shown, whatever becomes of the hint
            notes().print(f"{left} more are known: sage models list --all", style="dim")


def _table(lines: list[tuple[str, ...]]) -> Table:
    """The list; where the terminal is narrow, licences go rather than parts of names."""
    from rich.table import Table

    from sage.cli.render import table_room

    titles = ("model", "size", "state", "licence", "can")
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    narrow = sum(widths) + 2 * len(widths) > table_room()
    table = Table(box=None, pad_edge=False)
    for title, width in zip(titles, widths, strict=True):
        if not (narrow and title == "licence"):
            table.add_column(
                title, justify="right" if title == "size" else "left", min_width=width * (title == "model")
            )
    for line in lines:
        kept = zip(line, titles, strict=True)
        table.add_row(*(cell for cell, title in kept if not (narrow and title == "licence")))
    return table


def _rate(key: str, value: float, who: str) -> str:
    from sage.cli.render import human_bytes

    if key.endswith("_bytes"):
        figure = human_bytes(value)
    elif key.endswith("_tok_s"):
        figure = f"{value:.0f} tokens/s" if value >= 10 else f"{value:.2g} tokens/s"
    elif key.endswith("_usd_mtok"):
        figure = f"{value:.2f} USD"
    else:
        figure = f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{RATES.get(key, key)} {figure} ({who})"


def count_word(count: int) -> str:
    """``494 million``; a number of fewer than 100,000 in full."""
    if count < 100_000:
        return f"{count:,}"
    return f"{count / 1e6:,.1f} million" if count < 10_000_000 else f"{count / 1e6:,.0f} million"


def _file_line(card: ModelCard, home: Path) -> str:
    from sage.zoo.sources import model_path, state

    if card.backend == "fake":
        return "scripted, no file"
    if card.remote:
        return "none here: a server runs it"
    path, here = model_path(card, home), state(card, home)
    if here == "absent":
        return "unpublished" if card.source == "unpublished" else "not here"
    return str(path) if here == "present" else f"{path} is damaged"


def _in_the_way(card: ModelCard, found: SageError | None) -> str:
    """The obstacle and its mend, unless that is to look at what is on the screen already."""
    if found is None:
        return ""
    shown = card.unfit or found.mend == f"sage models show {card.name}"
    return found.message if shown or not found.mend else f"{found.message}; {found.mend}"


def _size_line(card: ModelCard, home: Path) -> str:
    from sage.cli.render import human_bytes
    from sage.zoo.sources import state

    if state(card, home) == "damaged":
        return f"{_size_there(card, home)} on the disk, {size_word(card)} by its card"
    if card.bytes or not card.expected_bytes:
        return size_word(card) or "unknown"
    published = "as published" if "disk_bytes" in card.rates else "from weights and bits, about"
    return f"{published} {human_bytes(card.expected_bytes)}"


def _weights_line(card: ModelCard, *, damaged: bool) -> str:
    from sage.zoo.card_status import stored_bits

    if not card.parameters:
        return ""
    words = [count_word(card.parameters)]
    if card.active_parameters:
        words.append(f"{count_word(card.active_parameters)} of them at work for a token")
    if card.bits:
        words.append(f"{card.bits:g} bits claimed")
    # Without a size, or with a wrong one, weights and claimed bits are all there is, and prove nothing.
    counted = not damaged and (bool(card.bytes) or "disk_bytes" in card.rates)
    if counted and (stored := stored_bits(card)) is not None:
        where = "in the file" if card.bytes else "as published"
        words.append(f"{stored[0]:.1f} {where}" + ("" if stored[1] else ", which is more"))
    return ", ".join(words)


def show(name: Name, as_json: AsJson = False) -> None:
    """Everything about one model, and where its file is."""
    from dataclasses import asdict

    from sage.cli.lines import hang
    from sage.cli.render import console, emit_json
    from sage.zoo.card import EMBEDDING
    from sage.zoo.card_status import as_one, obstacles, stored_bits
    from sage.zoo.catalog import every_card
    from sage.zoo.sources import model_path, state

    card, home = find_model(name)
    here, measured = state(card, home), measured_rates(home, card.name)
    measured = {key: value for key, value in measured.items() if key in RATES}
    fileless = card.backend == "fake" or card.remote
    found, stored = obstacles(card, home, every_card(home)), stored_bits(card)
    if as_json:
        value = asdict(card) | {"capabilities": sorted(card.capabilities)}
        value |= {"present": here == "present", "state": here, "measured": measured}
        value |= {"expected_bytes": card.expected_bytes, "stored_bits": stored[0] if stored else None}
        value |= {"obstacle": _error(as_one(found))}
        emit_json(
            value | {"path": str(model_path(card, home)) if here == "present" and not fileless else None}
        )
        return
    rates = {key: _rate(key, figure.value, figure.provenance) for key, figure in card.rates.items()}
    rates |= {key: _rate(key, value, "measured here") for key, value in measured.items()}
    lines = {
        "model": card.name,
        "in the way": _in_the_way(card, as_one(found)),
        "file": _file_line(card, home),
        "size": "" if fileless else _size_line(card, home),
        "sha256": "" if fileless else card.sha256 or "unknown",
        "source": "" if card.backend == "fake" else card.source,
        "packages": ", ".join(f"{m.package} {m.version}" for m in card.members),
        "licence": card.license,
        "weights": _weights_line(card, damaged=here == "damaged"),
        "base": card.base,
        "needs": ", ".join(card.requires),
        "context": f"{card.context_length} tokens",
        "can": ", ".join(sorted(card.capabilities)),
        "asked by": "" if card.backend == EMBEDDING else card.prompt_style,
        "quality": ", ".join(f"{'any' if k == '*' else k} {v:.2f}" for k, v in card.prior.items()),
        "quality is": card.prior_provenance,
        "rates": ", ".join(rates[key] for key in sorted(rates, key=[*RATES, *rates].index)),
        "notice": card.notice,
    }
    for key, text in lines.items():
        if text:
            console().print(f"{key:11} {hang(text, 12)}", markup=False, soft_wrap=True)
