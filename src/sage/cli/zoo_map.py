"""``sage models discover`` and ``sage models inventory``: what lies on this machine, and what is known of it.

Owns: these commands' words and tables, and where an inventory's measurements come from. Must not know: how
stores are read or choices made. Only light imports at the top; the rest is imported when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.lookup import AsJson

if TYPE_CHECKING:
    from sage.errors import UsageError
    from sage.zoo.card import ModelCard
    from sage.zoo.discover import Found
    from sage.zoo.inventory import Learned, Measured
    from sage.zoo.stores import Place, Walk

__all__ = ["discover", "inventory"]

SAY_EVERY = 2000
"""Files and folders between two signs of life."""


def discover(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Folders or GGUF files to look at; without any, the stores of other programs.",
            show_default=False,
        ),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Write cards for what is new, so that SAGE may choose it.")
    ] = False,
    name: Annotated[
        str, typer.Option("--name", help="What to call the one model at PATH.", metavar="NAME")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Find models that other programs have put on this machine.

    Without a PATH: in the stores of Hugging Face, Ollama and LM Studio. Nothing is copied or changed.
    """
    import os

    from sage.config import sage_home
    from sage.zoo import discover as finding
    from sage.zoo.catalog import every_card
    from sage.zoo.stores import Walk, known_places, place_of

    home = sage_home()
    catalog = every_card(home)
    places = [place_of(_there(path)) for path in paths or ()] or known_places(os.environ, Path.home())
    walk = Walk(on_progress=_progress())
    found = list(finding.discover(places, catalog, home, walk))
    if name:
        found = [_renamed(found, name, catalog)]
    added = _add(found, home) if add else []
    if as_json:
        _emit_found(found, added, places, walk)
        return
    _show_found(found, added, places, walk)
    _say_next(found, added, paths or [], home)


def _there(path: Path) -> Path:
    from sage.errors import NotFound

    path = path.expanduser().absolute()
    if not path.exists():
        raise NotFound(f"There is no {path}", mend="sage models discover PATH")
    return path


def _progress() -> Any:
    """On a terminal, a line now and then while a large place is walked."""
    from sage.cli.render import notes

    said = 0

    def show(count: int, folder: Path) -> None:
        nonlocal said
        if notes().is_terminal and count - said >= SAY_EVERY:
            said = count
            notes().print(f"{count} files and folders so far, now {folder}", style="dim", markup=False)

    return show


def _renamed(found: list[Found], name: str, catalog: dict[str, ModelCard]) -> Found:
    """The one find under the user's name; one of the catalogue's names makes it that model."""
    from dataclasses import replace

    from sage.errors import UnsafeFile, UsageError
    from sage.zoo.catalog import check_name
    from sage.zoo.discover import as_known, contradiction

    new = [one for one in found if one.new]
    if len(new) != 1 or new[0].card is None:
        raise _not_one(found, [one.name for one in new], name)
    card, known = new[0].card, catalog.get(check_name(name))
    if new[0].unused and new[0].known_as == name:
        return new[0]
    if known and not known.bytes:
        if why := contradiction(card, known):
            raise UnsafeFile(
                f"{new[0].path} is not {name}: {why}",
                mend=f"Choose another --name than that of a known model, or see: sage models show {name}",
            )
        card = as_known(card, known)
    elif known:
        raise UsageError(f"{name!r} is already the name of another model", mend="Choose another --name")
    return replace(new[0], name=name, card=replace(card, name=name))


def _not_one(found: list[Found], new: list[str], name: str) -> UsageError:
    """Why ``--name`` has nothing, or too much, to name."""
    from shlex import quote

    from sage.cli.render import printable
    from sage.errors import UsageError

    if new:
        listed = ", ".join(new[:10]) + (" ..." if len(new) > 10 else "")
        return UsageError(
            f"--name is for one new model, and there are {len(new)}: {listed}",
            mend=f"sage models discover --add PATH_OF_ONE --name {quote(name)}",
        )
    for one in found:
        if one.known_as:
            return UsageError(
                f"{one.path} is already known as {one.known_as}",
                mend=f"sage models rm {one.known_as}, and then discover it under another name",
            )
    for one in found:
        if one.problem:
            return UsageError(
                printable(f"{one.path} cannot be used: {one.problem}"), mend="sage models discover PATH"
            )
    return UsageError("There is no model to be named there", mend="sage models discover PATH")


def _add(found: list[Found], home: Path) -> list[str]:
    from sage.zoo.catalog import add_user_cards

    new = [one.card for one in found if one.new and one.card]
    if new:
        add_user_cards(home, new)
    return [card.name for card in new]


def _emit_found(found: list[Found], added: list[str], places: list[Place], walk: Walk) -> None:
    from sage.cli.render import emit_json
    from sage.zoo.card_status import stored_bits

    def value(one: Found) -> dict[str, Any]:
        card = one.card
        told = {} if card is None else {
            "backend": card.backend,
            "family": card.family,
            "parameters": card.parameters,
            "bits_claimed": card.bits or None,
            "bits_stored": stored[0] if (stored := stored_bits(card)) else None,
            "context_length": card.context_length,
            "prompt_style": card.prompt_style,
            "license": card.license,
            "base": card.base,
            "unfit": card.unfit,
        }  # fmt: skip
        return {
            "name": one.name,
            "store": one.store,
            "path": str(one.path),
            "bytes": one.bytes,
            "problem": one.problem or None,
            "known_as": one.known_as or None,
            "new": one.new,
            "added": one.name in added,
            "also": [str(path) for path in one.also],
        } | told

    emit_json(
        {
            "looked_in": [{"store": place.store, "path": str(place.root)} for place in places],
            "models": [value(one) for one in found],
            "unread": [{"path": str(path), "why": why} for path, why in walk.unread],
            "cut_short": [str(path) for path in walk.cut_short],
        }
    )


def _show_found(found: list[Found], added: list[str], places: list[Place], walk: Walk) -> None:
    from rich.table import Table
    from rich.text import Text

    from sage.cli.render import console, human_bytes, notes, print_table, printable
    from sage.cli.shelf import count_word
    from sage.zoo.card_status import stored_bits

    if not places:
        console().print(
            "Neither Hugging Face, Ollama nor LM Studio keep models here. A folder: sage models discover PATH"
        )
        return
    table = Table(box=None, pad_edge=False)
    for title in ("model", "size", "weights", "claimed", "stored", "in", "file", "state"):
        figure = title in ("size", "weights", "claimed", "stored")
        table.add_column(title, justify="right" if figure else "left", overflow="fold")
    for one in found:
        card, state = one.card, "new"
        if one.problem:
            state = printable(one.problem)
        elif one.name in added:
            state = "added"
        elif one.known_as:
            state = f"known as {one.known_as}{', not here until it is added' if one.unused else ''}"
        elif card and card.unfit:
            state = f"unfit: {card.unfit}"
        weights = count_word(card.parameters) if card and card.parameters else ""
        stored = stored_bits(card) if card else None
        claimed = f"{card.bits:g}" if card and card.bits else ""
        bits = f"{stored[0]:.1f}" if stored else ""
        # What stands on the disk may hold anything; it is text, never markup.
        size = human_bytes(one.bytes) if one.bytes else ""
        where = printable(_place_word(one.path, places))
        cells = (one.name, size, weights, claimed, bits, one.store, where, state)
        table.add_row(*(Text(cell) for cell in cells))
    if found:
        print_table(table)
    else:
        console().print(f"No models in {', '.join(str(place.root) for place in places)}", markup=False)
    twice = sum(len(one.also) for one in found)
    if twice:
        notes().print(
            f"{twice} more files are the same models in other places (--json names them)", style="dim"
        )
    for path, why in walk.unread[:10]:
        notes().print(printable(f"{path}: {why}"), style="dim", markup=False)
    for path in walk.cut_short:
        notes().print(
            printable(f"{path}: too much to look at; name a folder further down"), style="dim", markup=False
        )


def _place_word(path: Path, places: list[Place]) -> str:
    """A path as short as it is clear: within the place that was looked at."""
    inside = (path.relative_to(place.root) for place in places if path.is_relative_to(place.root))
    return str(next((part for part in inside if part.parts), path))


def _say_next(found: list[Found], added: list[str], paths: list[Path], home: Path) -> None:
    from shlex import join

    from sage.cli.render import console
    from sage.zoo.card_status import as_one, obstacles
    from sage.zoo.catalog import every_card

    new = [one for one in found if one.new]
    if added:
        console().print(f"Added to {home / 'catalog.toml'}: {', '.join(added)}", markup=False)
        catalog = every_card(home)
        hindered = {name: why for name in added if (why := as_one(obstacles(catalog[name], home, catalog)))}
        for name, why in list(hindered.items())[:5]:
            console().print(f"{name}: {why.message}; fix: {why.mend}", markup=False)
        ready = [name for name in added if name not in hindered]
        if ready:
            console().print(f"Next: sage ask --model {ready[0]} QUESTION, or let SAGE choose", markup=False)
    elif new:
        again = join(["sage", "models", "discover", "--add", *map(str, paths)])
        console().print(f"To use what is new: {again}", markup=False)


def inventory(
    bench: Annotated[
        list[Path] | None,
        typer.Option(
            "--bench",
            help="A result of sage bench zoo; without any, the measurement that ships with SAGE.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown document on stdout.")] = False,
    as_json: AsJson = False,
) -> None:
    """Map all models: size, state, speed, and who is best at what.

    Who is best is told by measurements alone.
    """
    from dataclasses import asdict

    from sage.cli.render import emit_json
    from sage.cli.zoo_tables import as_markdown, print_sections, sections
    from sage.config import sage_home
    from sage.zoo.catalog import every_card
    from sage.zoo.inventory import take_inventory

    home = sage_home()
    catalog = every_card(home)
    here, learned = _of_this_machine(home, catalog)
    measured = [*here, *_benches(bench or [])]
    taken = take_inventory(catalog, home, measured, learned)
    if as_json:
        emit_json(asdict(taken))
    elif markdown:
        typer.echo(as_markdown(sections(taken, measured)))
    else:
        print_sections(sections(taken, measured))


def _of_this_machine(home: Path, catalog: dict[str, ModelCard]) -> tuple[list[Measured], list[Learned]]:
    """What the database knows: rates of this machine, and the trust that outcomes have built."""
    from sage.cli.trust_view import trust_rows
    from sage.clock import SystemClock
    from sage.config import load_settings
    from sage.hardware.probe import probe
    from sage.kernel.session import open_stores
    from sage.zoo.inventory import Learned, Measured

    if not (home / "sage.db").exists():
        return [], []
    clock, learned = SystemClock(), list[Learned]()
    with open_stores(home, load_settings(), clock) as stores:
        rates = stores.books.rates()
        with stores.trust.book() as book:
            for card in catalog.values():
                if book.row(card.name) is None:
                    continue
                learned += [
                    Learned(kind=row["kind"], model=card.name, quality=row["quality"], n=row["evidence"])
                    for row in trust_rows(book, card.name, card.prior, clock.time())
                    if round(row["evidence"]) > 0
                ]
    machine = probe()
    here = Measured(
        source="measured here",
        machine=f"{machine.cpu}, {machine.usable_cores} cores",
        platform=f"{machine.platform} {machine.arch}",
        rates=rates,
    )
    return [here], learned


def _benches(files: list[Path]) -> list[Measured]:
    from sage.bench.zoo.matrix import read_matrix, shipped_matrix

    if not files:
        try:
            return [_of_matrix(shipped_matrix(), "shipped")]
        except FileNotFoundError:  # an installation without the measurement still has a map
            return []
    return [_of_matrix(read_matrix(file), file.name) for file in files]


def _of_matrix(matrix: Any, source: str) -> Measured:
    from sage.zoo.inventory import Measured, Share

    rates, tasks = dict[str, dict[str, float]](), dict[str, dict[str, Share]]()
    for column, model in enumerate(matrix.models):
        every = {
            key: getattr(model, key) for key in ("load_s", "prompt_tok_s", "generate_tok_s", "rss_bytes")
        }
        rates[model.name] = {key: float(value) for key, value in every.items() if value is not None}
        for category in dict.fromkeys(question.category for question in matrix.questions):
            rows = matrix.rows_of(category)
            tasks.setdefault(model.name, {})[category] = Share(
                quality=float(matrix.scores[rows, column].mean()),
                n=len(rows),
                cpu_s=float(matrix.cpu_s[rows, column].mean()),
            )
    return Measured(
        source=source,
        machine=matrix.machine,
        platform=matrix.platform,
        date=matrix.date,
        rates=rates,
        tasks=tasks,
    )
