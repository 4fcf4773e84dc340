"""``sage models``: which models there are, pull one, look at one, remove one.

Owns: these commands' words and tables. Must not know: how a file is fetched, vetted or run.
Only light imports at the top; the rest is imported when a command runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sage.events import Event, EventBus
    from sage.zoo.card import ModelCard

__all__ = ["app"]

app = typer.Typer(help="The models SAGE may choose from.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model; see: sage models list")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def _find(name: str) -> tuple[ModelCard, Path]:
    from sage.config import sage_home
    from sage.zoo.catalog import find_card, load_catalog

    home = sage_home()
    return find_card(load_catalog(home), name), home


def _rows(home: Path) -> list[dict[str, Any]]:
    from sage.zoo.catalog import load_catalog
    from sage.zoo.host import resident_models
    from sage.zoo.sources import present

    loaded = resident_models(home)
    return [
        {
            "name": card.name,
            "present": present(card, home),
            "resident": card.name in loaded,
            "bytes": card.bytes,
            "license": card.license,
            "source": card.source,
            "capabilities": sorted(card.capabilities),
        }
        for card in load_catalog(home).values()
    ]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every known model: is it on this machine, is it in memory."""
    from sage.cli.render import console, emit_json, human_bytes
    from sage.config import sage_home

    rows = _rows(sage_home())
    if as_json:
        emit_json(rows)
        return
    from rich.table import Table

    table = Table("model", "size", "state", "licence", "can", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for row in rows:
        state = "in memory" if row["resident"] else "on disk" if row["present"] else "not pulled"
        size, can = human_bytes(row["bytes"]), ", ".join(row["capabilities"])
        table.add_row(row["name"], size, state, row["license"], can)
    console().print(table)


@app.command()
def pull(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[NAME|file:PATH|hf:OWNER/REPO/FILE]",
            help="What to fetch; without it, the default models.",
            show_default=False,
        ),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="What to call a model pulled from file: or hf:.", show_default=False)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Pull an opt-in model without asking.")] = False,
) -> None:
    """Fetch models. A pull that is stopped goes on where it was."""
    from sage.cli.render import console, human_bytes
    from sage.config import load_settings, sage_home
    from sage.errors import Interrupted, UsageError
    from sage.events import EventBus
    from sage.zoo import sources
    from sage.zoo.catalog import add_user_card, default_cards, find_card, load_catalog

    home, offline = sage_home(), load_settings().models.offline
    catalog = load_catalog(home)
    by_uri = what.startswith(("file:", "hf:"))
    if name and not by_uri:
        raise UsageError("--name is for file: and hf:", mend="sage models pull file:PATH --name NAME")
    cards: tuple[ModelCard, ...]
    if by_uri:
        card = _new_card(what, name, catalog, offline=offline)
        cards = (card,)
    else:
        cards = (find_card(catalog, what),) if what else default_cards(catalog)
    for card in cards:
        if sources.present(card, home) and not by_uri:
            console().print(f"{card.name}: already here", markup=False)
            continue
        _consent(card, yes=yes)
        bus = EventBus()
        try:
            with _progress(card, bus):
                path = sources.pull(card, home, bus=bus, offline=offline)
        except KeyboardInterrupt as error:
            again = (
                f"sage models pull {what or card.name}"
                + (f" --name {name}" if name else "")
                + (" --yes" if yes else "")
            )
            raise Interrupted(
                f"Stopped. The whole parts of {card.name} that arrived are kept; it goes on from there.",
                mend=again,
            ) from error
        if by_uri:
            from sage.zoo.vet import read_gguf

            add_user_card(home, sources.describe(card, read_gguf(path)))
        console().print(f"{card.name}: {human_bytes(card.bytes)}, checked, {path}", markup=False)


def _new_card(uri: str, name: str, catalog: dict[str, ModelCard], *, offline: bool) -> ModelCard:
    from sage.errors import UsageError, WeightsMissing
    from sage.zoo.sources import card_from_uri

    if offline and uri.startswith("hf:"):
        raise WeightsMissing(
            "models.offline forbids asking the hub", mend=f"SAGE_MODELS__OFFLINE=false sage models pull {uri}"
        )
    card = card_from_uri(uri, name)
    known = catalog.get(card.name)
    if known is not None and (known.source, known.sha256) != (card.source, card.sha256):
        raise UsageError(
            f"{card.name!r} is already the name of another model",
            mend=f"sage models pull {uri} --name OTHER, or first: sage models rm {card.name}",
        )
    return card


def _consent(card: ModelCard, *, yes: bool) -> None:
    """Opt-in models come with a notice; without a terminal to ask on, only ``--yes`` will do."""
    import sys

    from sage.errors import Interrupted, UsageError

    if not card.opt_in:
        return
    typer.echo(card.notice, err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{card.name} is opt-in", mend=f"sage models pull {card.name} --yes")
    if not typer.confirm("Pull it?", default=False, err=True):
        raise Interrupted(f"{card.name} was not pulled.")


def _progress(card: ModelCard, bus: EventBus) -> AbstractContextManager[None]:
    """A bar on a terminal; elsewhere a plain line each tenth of the way."""
    from contextlib import contextmanager

    from sage.cli.render import human_bytes, notes
    from sage.events import PullProgress

    @contextmanager
    def lines() -> Iterator[None]:
        said = -1

        def show(event: Event) -> None:
            nonlocal said
            if isinstance(event, PullProgress) and event.done * 10 // event.total > said:
                said = event.done * 10 // event.total
                of = f"{human_bytes(event.done)} of {human_bytes(event.total)}"
                typer.echo(f"{event.model}: {event.done * 100 // event.total} % ({of})", err=True)

        bus.subscribe(show)
        yield

    @contextmanager
    def bar() -> Iterator[None]:
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=notes(), transient=True) as shown:
            task = shown.add_task(card.name, total=card.bytes)

            def show(event: Event) -> None:
                if isinstance(event, PullProgress):
                    shown.update(task, completed=event.done)

            bus.subscribe(show)
            yield

    return bar() if notes().is_terminal else lines()


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Everything the card says, and where the file is."""
    from dataclasses import asdict

    from sage.cli.render import console, emit_json, human_bytes
    from sage.zoo.sources import model_path, present

    card, home = _find(name)
    here = present(card, home)
    if as_json:
        value = asdict(card) | {"capabilities": sorted(card.capabilities), "present": here}
        emit_json(value | {"path": str(model_path(card, home)) if here else None})
        return
    rates = {key: f"{figure.value:g} ({figure.provenance})" for key, figure in card.rates.items()}
    lines = {
        "model": card.name,
        "file": str(model_path(card, home)) if here else f"not pulled; sage models pull {card.name}",
        "size": human_bytes(card.bytes),
        "sha256": card.sha256 or "unknown",
        "source": card.source,
        "packages": ", ".join(f"{m.package} {m.version}" for m in card.members),
        "licence": card.license,
        "context": f"{card.context_length} tokens",
        "can": ", ".join(sorted(card.capabilities)),
        "asked by": card.prompt_style,
        "quality": ", ".join(f"{k} {v:.2f}" for k, v in card.prior.items()),
        "quality is": card.prior_provenance if card.prior else "",
        "rates": ", ".join(f"{k} {v}" for k, v in rates.items()),
        "notice": card.notice,
    }
    for key, text in lines.items():
        if text:
            console().print(f"{key:11} {text}", markup=False)


@app.command()
def estimate(
    name: Name,
    context: Annotated[
        int | None,
        typer.Option(
            "--context", min=1, help="Tokens of context; left out: models.context.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How much memory the model will take, and whether that is free now."""
    from dataclasses import asdict

    from sage.cli.render import console, emit_json, human_bytes
    from sage.config import load_settings
    from sage.errors import WeightsMissing
    from sage.hardware.budget import budget_bytes
    from sage.hardware.probe import probe
    from sage.zoo.estimate import estimate as estimate_memory
    from sage.zoo.sources import model_path, present
    from sage.zoo.vet import read_gguf

    card, home = _find(name)
    if not present(card, home):
        raise WeightsMissing(f"{name} is not on this machine", mend=f"sage models pull {name}")
    settings = load_settings().models
    tokens = context or settings.context
    memory = estimate_memory(read_gguf(model_path(card, home)), context=tokens)
    free = budget_bytes(probe(), settings.memory_limit_gb)  # what loading itself would go by
    fits = memory.total <= free
    if as_json:
        totals = {"total": memory.total, "free": free, "fits": fits}
        emit_json({"name": name, "context": tokens} | asdict(memory) | totals)
        return
    for label, value in [*asdict(memory).items(), ("total", memory.total), ("free", free)]:
        console().print(f"{label:9} {human_bytes(value):>8}", markup=False)
    verdict = "fits" if fits else f"does not fit: {human_bytes(memory.total - free)} too much"
    console().print(f"{name} with {tokens} tokens of context {verdict}.", markup=False)


@app.command()
def rm(name: Name) -> None:
    """Delete the model's file, and what a stopped pull left of it. The card stays."""
    from sage.cli.render import console, human_bytes
    from sage.errors import WeightsMissing
    from sage.zoo.sources import remove

    card, home = _find(name)
    freed = remove(card, home)
    if not freed:
        raise WeightsMissing(f"{name} is not on this machine", mend="sage models list")
    console().print(f"{name}: {human_bytes(freed)} freed", markup=False)
