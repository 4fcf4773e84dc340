"""``sage models``: which models there are, pull one, look at one, remove one.

Owns: these commands' words and tables. Must not know: how a file is fetched, vetted or run.
Only light imports at the top; the rest is imported when a command runs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from sage.cli import resident
from sage.cli.estimate import estimate
from sage.cli.lookup import Name, find_model
from sage.cli.remote import add
from sage.cli.shelf import list_, show
from sage.cli.zoo_map import discover, inventory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sage.events import Event, EventBus
    from sage.zoo.card import ModelCard

__all__ = ["app"]

app = typer.Typer(help="The models SAGE may choose from.", no_args_is_help=True)

NOTE_BYTES, NOTE_AFTER_S = 200_000_000, 1.0
"""Checking a larger file than this may take longer than a person waits without a word."""


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
    """Fetch models. One that is here is checked, and fetched again if it is damaged.

    A pull that is stopped goes on where it was.
    """
    from sage.cli.render import console, human_bytes, notes
    from sage.config import load_settings, sage_home
    from sage.errors import Interrupted, UsageError
    from sage.events import EventBus, ModelPulled
    from sage.zoo import sources
    from sage.zoo.catalog import add_user_card, default_cards, every_card, find_card

    home, settings = sage_home(), load_settings().models
    offline = settings.offline
    catalog = every_card(home)
    by_uri = what.startswith(("file:", "hf:"))
    if name and not by_uri:
        raise UsageError("--name is for file: and hf:", mend="sage models pull file:PATH --name NAME")
    cards: tuple[ModelCard, ...]
    if by_uri:
        card = _new_card(what, name, catalog, offline=offline)
        cards = (card,)
    else:
        _refuse_path(what, catalog)
        cards = (find_card(catalog, what),) if what else default_cards(catalog)
        cards = tuple(_pinned(card, offline=offline) for card in cards)
    for card in cards:
        if card.backend == "fake":
            console().print(f"{card.name}: scripted, there is nothing to pull", markup=False)
            continue
        if card.remote:
            console().print(f"{card.name}: a server runs it, there is nothing to pull", markup=False)
            continue
        if lacking := _to_use(card, home, catalog):
            notes().print(f"To use {card.name}: {lacking}", markup=False, soft_wrap=True)
        if large := _too_large(card, catalog, settings.memory_limit_gb):
            notes().print(large, markup=False, soft_wrap=True)
        was = sources.state(card, home)
        if was == "absent":
            _consent(card, yes=yes)
        bus, fetched = EventBus(), list[ModelPulled]()
        bus.subscribe(lambda e, to=fetched: to.append(e) if isinstance(e, ModelPulled) else None)  # type: ignore[misc]
        try:
            with _checking(card, bus, here=was != "absent"), _progress(card, bus):
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
            add_user_card(home, sources.describe(card, sources.vetted(card, home)))
        elif card != catalog[card.name]:
            add_user_card(home, card)
        done = f"{human_bytes(card.bytes)}, checked, {path}"
        if not fetched:
            done = "already here, checked"
        elif was != "absent":
            done = f"was damaged; fetched again: {done}"
        console().print(f"{card.name}: {done}", markup=False)


def _to_use(card: ModelCard, home: Path, catalog: dict[str, ModelCard]) -> str:
    """What is needed beside the weights, and what is said of the model; empty where that is nothing."""
    from importlib.util import find_spec

    from sage.memory.minilm import INSTALL
    from sage.zoo.card import EMBEDDING
    from sage.zoo.card_status import as_one, obstacles

    if card.backend == EMBEDDING:
        return "" if all(find_spec(name) for name in ("onnxruntime", "tokenizers")) else INSTALL
    pull_it = f"sage models pull {card.name}"
    found = as_one(each for each in obstacles(card, home, catalog) if each.mend != pull_it)
    return f"{found.message}; {found.mend}" if found else ""


def _too_large(card: ModelCard, catalog: dict[str, ModelCard], limit_gb: float) -> str:
    """That no free memory would do for the model; empty where it may fit."""
    from sage.cli.render import human_bytes
    from sage.hardware.budget import memory_floor
    from sage.hardware.probe import memory
    from sage.zoo.card import EMBEDDING
    from sage.zoo.estimate_card import card_estimate

    total = memory().total
    most = total - memory_floor(total)
    most = min(most, int(limit_gb * 1e9)) if limit_gb > 0 else most
    least = None if card.backend == EMBEDDING else card_estimate(card, catalog)
    if least is None or least.total <= most:
        return ""
    return (
        f"{card.name} takes at least {human_bytes(least.total)} of memory, and models may take "
        f"{human_bytes(most)}: it will not be loaded (models.memory_limit_gb, or a machine with more)"
    )


def _refuse_path(what: str, catalog: dict[str, ModelCard]) -> None:
    from shlex import quote

    from sage.errors import ModelNotFound

    if what not in catalog and ("/" in what or what.endswith(".gguf")):
        raise ModelNotFound(f"No model is called {what!r}.", mend=f"sage models pull {quote(f'file:{what}')}")


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


def _pinned(card: ModelCard, *, offline: bool) -> ModelCard:
    """The card with the size and hash that the hub states for its file today, where it had none.

    Raises:
        UnsafeFile: it is unfit. WeightsMissing: nobody serves it, or the hub may not be asked.
    """
    from dataclasses import replace

    from sage.errors import UnsafeFile, WeightsMissing
    from sage.zoo.card_status import how_to_get
    from sage.zoo.sources import card_from_uri

    if card.unfit:
        raise UnsafeFile(f"{card.name} is not pulled: {card.unfit}", mend=f"sage models show {card.name}")
    if card.source == "unpublished":
        raise WeightsMissing(
            f"The weights of {card.name} are published nowhere; where you have them, say in which folder",
            mend=how_to_get(card),
        )
    if card.bytes or not card.source.startswith("hf:"):
        return card
    if offline:
        raise WeightsMissing(
            f"{card.name} is not on this machine, and models.offline forbids asking the hub",
            mend=f"SAGE_MODELS__OFFLINE=false sage models pull {card.name}",
        )
    served = card_from_uri(card.source, card.name)
    return replace(card, source=served.source, bytes=served.bytes, sha256=served.sha256)


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


@contextmanager
def _checking(card: ModelCard, bus: EventBus, *, here: bool) -> Iterator[None]:
    """Say that a large file is being checked, if that takes a while."""
    from threading import Timer

    from sage.cli.render import human_bytes

    said = f"Checking {card.name} ({human_bytes(card.bytes)}) ..."
    note = Timer(NOTE_AFTER_S, lambda: typer.echo(said, err=True))
    note.daemon = True
    bus.subscribe(lambda _event: note.cancel())
    if here and card.bytes > NOTE_BYTES:
        note.start()
    try:
        yield
    finally:
        note.cancel()


def _progress(card: ModelCard, bus: EventBus) -> AbstractContextManager[None]:
    """A bar on a terminal; elsewhere a plain line each tenth of the way."""
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
        shown = progress.Progress(*columns, console=notes(), transient=True)
        task = shown.add_task(card.name, total=card.bytes)

        def show(event: Event) -> None:
            if isinstance(event, PullProgress):
                shown.start()  # not before: what is here is only checked
                shown.update(task, completed=event.done)

        bus.subscribe(show)
        try:
            yield
        finally:
            shown.stop()

    return bar() if notes().is_terminal else lines()


app.command("list")(list_)
app.command()(show)
app.command()(discover)
app.command()(inventory)
app.command()(add)
app.command()(estimate)
app.command()(resident.ps)
app.command()(resident.load)
app.command()(resident.unload)


@app.command()
def rm(name: Name) -> None:
    """Delete a model's file; a card of your own goes too."""
    from sage.cli.render import console, human_bytes
    from sage.errors import WeightsMissing
    from sage.zoo.catalog import every_card, remove_user_card
    from sage.zoo.sources import remove

    card, home = find_model(name)
    freed = 0 if card.backend == "fake" or card.remote else remove(card, home)
    done = [f"{human_bytes(freed)} freed"] if freed else []
    if remove_user_card(home, name):
        done.append(f"its card is removed from {home / 'catalog.toml'}")
        if name in every_card(home):
            done.append("the shipped card of that name is in force again")
    if not done:
        raise WeightsMissing(f"{name} is not on this machine", mend="sage models list")
    console().print(f"{name}: {'; '.join(done)}", markup=False)
