"""``sage models``: which models there are, pull one, look at one, remove one.

Owns: these commands' words and tables. Must not know: how a file is fetched, vetted or run.
Only light imports at the top; the rest is imported when a command runs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.estimate import estimate
from sage.cli.lookup import AsJson, Name, find_model, measured_rates
from sage.cli.remote import add

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sage.events import Event, EventBus
    from sage.zoo.card import ModelCard

__all__ = ["app"]

app = typer.Typer(help="The models SAGE may choose from.", no_args_is_help=True)

STATES = {"absent": "not pulled", "damaged": "damaged", "present": "on disk"}

RATES = {
    "prompt_tok_s": "reads",
    "generate_tok_s": "writes",
    "load_s": "loads in",
    "rss_bytes": "takes",
    "prompt_usd_mtok": "a million tokens read cost",
    "generate_usd_mtok": "a million tokens written cost",
}
"""The rates of a card and of the database that tell a person something, and how they read."""

NOTE_BYTES, NOTE_AFTER_S = 200_000_000, 1.0
"""Checking a larger file than this may take longer than a person waits without a word."""


def _rows(home: Path) -> list[dict[str, Any]]:
    from sage.zoo.catalog import every_card
    from sage.zoo.host import resident_models
    from sage.zoo.sources import state

    loaded = resident_models(home)
    return [
        {
            "name": card.name,
            "present": (here := state(card, home)) == "present",
            "state": here,
            "resident": card.name in loaded,
            "bytes": card.bytes,
            "license": card.license,
            "source": card.source,
            "capabilities": sorted(card.capabilities),
        }
        for card in every_card(home).values()
    ]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every known model: is it on this machine, is it in memory."""
    from sage.cli.render import emit_json, human_bytes, print_table
    from sage.config import sage_home

    rows = _rows(sage_home())
    if as_json:
        emit_json(rows)
        return
    from rich.table import Table

    table = Table("model", "size", "state", "licence", "can", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for row in rows:
        state = STATES[row["state"]]
        if row["source"].startswith("openai:"):
            state = "on a server"
        elif row["present"]:
            state = "in memory" if row["resident"] else "scripted" if row["source"] == "fake" else state
        size, can = human_bytes(row["bytes"]), ", ".join(row["capabilities"])
        table.add_row(row["name"], size, state, row["license"], can)
    print_table(table)


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
    from sage.zoo.card import EMBEDDING
    from sage.zoo.catalog import add_user_card, default_cards, every_card, find_card

    home, offline = sage_home(), load_settings().models.offline
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
    for card in cards:
        if card.backend == "fake":
            console().print(f"{card.name}: scripted, there is nothing to pull", markup=False)
            continue
        if card.remote:
            console().print(f"{card.name}: a server runs it, there is nothing to pull", markup=False)
            continue
        if card.backend == EMBEDDING and (lacking := _lacking_libraries()):
            notes().print(f"To use it: {lacking}", markup=False)
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
            from sage.zoo.vet import read_gguf

            add_user_card(home, sources.describe(card, read_gguf(path)))
        done = f"{human_bytes(card.bytes)}, checked, {path}"
        if not fetched:
            done = "already here, checked"
        elif was != "absent":
            done = f"was damaged; fetched again: {done}"
        console().print(f"{card.name}: {done}", markup=False)


def _lacking_libraries() -> str:
    """The command that installs what runs the embedding model; empty where it is there."""
    from importlib.util import find_spec

    from sage.memory.minilm import INSTALL

    return "" if all(find_spec(name) for name in ("onnxruntime", "tokenizers")) else INSTALL


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


def _rate(key: str, value: float, who: str) -> str:
    from sage.cli.render import human_bytes

    if key.endswith("_bytes"):
        figure = human_bytes(value)
    elif key.endswith("_tok_s"):
        figure = f"{value:.0f} tokens/s"
    elif key.endswith("_usd_mtok"):
        figure = f"{value:.2f} USD"
    else:
        figure = f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{RATES.get(key, key)} {figure} ({who})"


def _file_line(card: ModelCard, home: Path) -> str:
    from sage.zoo.sources import model_path, state

    if card.backend == "fake":
        return "scripted, no file"
    if card.remote:
        return "none; a server runs it"
    path, here = model_path(card, home), state(card, home)
    if here == "absent":
        return f"not pulled; sage models pull {card.name}"
    return str(path) if here == "present" else f"{path} is damaged; sage models pull {card.name}"


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Everything about one model, and where its file is."""
    from dataclasses import asdict

    from sage.cli.lines import hang
    from sage.cli.render import console, emit_json, human_bytes
    from sage.zoo.card import EMBEDDING
    from sage.zoo.sources import model_path, state

    card, home = find_model(name)
    here = state(card, home)
    measured = {key: value for key, value in measured_rates(home, name).items() if key in RATES}
    no_file = card.backend == "fake" or card.remote
    if as_json:
        value = asdict(card) | {"capabilities": sorted(card.capabilities)}
        value |= {"present": here == "present", "state": here, "measured": measured}
        emit_json(
            value | {"path": str(model_path(card, home)) if here == "present" and not no_file else None}
        )
        return
    rates = {key: _rate(key, figure.value, figure.provenance) for key, figure in card.rates.items()}
    rates |= {key: _rate(key, value, "measured here") for key, value in measured.items()}
    lines = {
        "model": card.name,
        "file": _file_line(card, home),
        "size": "" if no_file else human_bytes(card.bytes),
        "sha256": "" if no_file else card.sha256 or "unknown",
        "source": "" if card.backend == "fake" else card.source,
        "key": f"in {card.key_env}" if card.key_env else "",
        "packages": ", ".join(f"{m.package} {m.version}" for m in card.members),
        "licence": card.license,
        "context": f"{card.context_length} tokens",
        "can": ", ".join(sorted(card.capabilities)),
        "asked by": "" if card.backend == EMBEDDING else card.prompt_style,
        "quality": ", ".join(f"{'any' if k == '*' else k} {v:.2f}" for k, v in card.prior.items()),
        "quality is": card.prior_provenance if card.prior else "",
        "rates": ", ".join(rates[key] for key in sorted(rates, key=[*RATES, *rates].index)),
        "notice": card.notice,
    }
    for key, text in lines.items():
        if text:
            console().print(f"{key:11} {hang(text, 12)}", markup=False, soft_wrap=True)


app.command()(add)
app.command()(estimate)


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
