"""`sage trust`: what outcomes have taught, why a choice was made, and teaching by hand.

Owns: how trust is shown. Must not know: how it is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sage.clock import Clock
    from sage.memory.verbatim import VerbatimStore
    from sage.types import Outcome

__all__ = ["app", "rate_turn"]

app = typer.Typer(no_args_is_help=True, help="What SAGE has learned about each model, and why it chose one.")


@app.command()
def show(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this model.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Expected quality of each model at each kind of work."""
    from sage.cli.render import console, emit_json, print_table
    from sage.cli.trust_view import FULL_MODELS, trust_rows, trust_table
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.session import open_stores
    from sage.zoo.catalog import find_card, load_catalog
    from sage.zoo.sources import present

    home, clock = sage_home(), SystemClock()
    catalog = load_catalog(home)
    cards = [find_card(catalog, model)] if model else [c for c in catalog.values() if present(c, home)]
    with open_stores(home, load_settings(), clock) as stores, stores.trust.book() as book:
        rows = [row for card in cards for row in trust_rows(book, card.name, card.prior, clock.time())]
        fallen = {card.name: drift.level for card in cards if (drift := book.drift(card.name)).disgraced}
    if json:
        emit_json(rows)
        return
    if not rows:
        console().print("No model is on this machine yet: sage models pull")
        return
    print_table(trust_table(rows))
    if len(cards) > FULL_MODELS:
        note = "spread and evidence of one: sage trust show MODEL"
    else:
        note = (
            "n: evidence, in outcomes faded by age. Without any, the card counts, and how others did there."
        )
    console().print(note, style="dim")
    for name, level in fallen.items():
        console().print(
            f"{name} has become worse by {-level:.2f}; it is tried again now and then", markup=False
        )


@app.command()
def explain(
    turn_id: Annotated[
        str, typer.Argument(metavar="TURN_ID", help="The id of a turn, or its beginning: see sage logs.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Why this model answered, and not another.

    Shown: the factors of the best candidates, the expertise from which on each of the others would have
    won, the settings that mattered, who was left out, who failed.
    """
    from sage.cli.render import console, emit_json
    from sage.cli.trust_view import decision_table, left_out, rule_line
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.session import open_stores
    from sage.memory.structure import describe_structure
    from sage.types import Rule

    with open_stores(sage_home(), load_settings(), SystemClock()) as stores:
        turn = stores.turns.turn(turn_id)
        decision = stores.turns.decision(turn.id)
        signs = stores.trust.signs(turn.id)
    if json:
        emit_json({"turn_id": turn.id, **decision})
        return
    out = console()
    if not decision:
        out.print(f"No decision was made: {turn.error}", markup=False)
        return
    out.print(decision["reason"], markup=False)
    noted = decision.get("rule")  # decisions of the first version have none
    rule = None
    if noted:
        scale = float("inf") if noted["scale"] is None else noted["scale"]
        # Earlier decisions held loads against the same scale as answers.
        rule = Rule(**{"load_scale": scale, **noted, "scale": scale})
    out.print(decision_table(decision["candidates"], chosen=decision["chosen"], rule=rule))
    if rule:
        out.print(rule_line(rule), style="dim", markup=False)
    if "structure" in signs:
        out.print(f"the text: {describe_structure(signs['structure'])}", style="dim", markup=False)
    if decision.get("others"):
        out.print(f"and {decision['others']} more candidates below these", style="dim")
    for names, why in left_out(decision["excluded"]):
        out.print(f"left out: {names}: {why}", markup=False)
    for failure in decision["failures"]:
        out.print(f"failed: {failure['name']}: {failure['message']}", markup=False)


@app.command()
def rate(
    turn_id: Annotated[
        str, typer.Argument(metavar="TURN_ID", help="The id of a turn, or its beginning: see sage logs.")
    ],
    quality: Annotated[
        float, typer.Argument(min=0.0, max=1.0, metavar="QUALITY", help="0 is useless, 1 is right.")
    ],
) -> None:
    """Say how good an answer was. SAGE learns from it; rating a turn again changes nothing."""
    from sage.cli.render import console
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.learning import learn
    from sage.kernel.session import open_stores
    from sage.zoo.catalog import load_catalog

    home, clock = sage_home(), SystemClock()
    catalog = load_catalog(home)
    with open_stores(home, load_settings(), clock) as stores:
        learned = rate_turn(
            stores.turns,
            lambda outcome: learn(outcome, catalog.get(outcome.candidate), stores),
            clock,
            turn_id,
            quality,
        )
    console().print("Learned." if learned else "This turn was rated before; nothing changed.")


@app.command()
def frontier(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The question.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Who would answer, from the cheapest to the best.

    One line for each model that wins at some setting of the dial. Nothing is asked or loaded.
    """
    from rich.table import Table

    from sage.cli.render import console, emit_json, print_table
    from sage.kernel.sense import Request
    from sage.kernel.session import open_kernel
    from sage.types import Message

    with open_kernel() as kernel:
        request = Request(messages=(Message(role="user", content=prompt),), session="frontier")
        points = kernel.frontier(request)
        unit = kernel.settings.selector.price_unit
    if json:
        emit_json([dataclasses.asdict(point) for point in points])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("dial from", "model", "expertise", f"price ({unit})"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for point in points:
        table.add_row(f"{point.dial:.2f}", point.name, f"{point.expertise:.2f}", f"{point.price:.3g}")
    print_table(table)
    console().print("set it with --dial, or selector.dial in sage.toml", style="dim")


@app.command()
def reset(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Whose record is forgotten.")],
) -> None:
    """Forget what was learned about a model.

    Also in every book this one is merged into, and whatever older copies are merged later.
    """
    from sage.cli.render import console
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.session import open_stores
    from sage.zoo.catalog import find_card, load_catalog

    home = sage_home()
    with open_stores(home, load_settings(), SystemClock()) as stores:
        with stores.trust.book() as book:
            known = any(row.candidate == model for row in book.rows())
        # What was learned of a model that is gone from the catalog can be forgotten too.
        name = model if known else find_card(load_catalog(home), model).name
        stores.trust.reset(name)
    console().print(f"What was learned about {name} is forgotten; its card counts again.", markup=False)


@app.command("export")
def export_book(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write; - is stdout.")],
) -> None:
    """Write what was learned to a file, for another machine."""
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.errors import NoDiskSpace
    from sage.kernel.session import open_stores
    from sage.memory.trust_file import book_to_json

    with (
        open_stores(sage_home(), load_settings(), SystemClock()) as stores,
        stores.trust.book() as book,
    ):
        text = book_to_json(book)
    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NoDiskSpace(f"{path} cannot be written: {error.strerror}.", mend="Name another file") from error


@app.command("import")
def import_book(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What sage trust export wrote.")],
) -> None:
    """Take over what another machine has learned.

    Doing it again changes nothing: what is there already is recognised. What the file says of this very
    machine is left out.
    """
    from sage.cli.render import console
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.errors import NotFound
    from sage.kernel.session import open_stores
    from sage.memory.trust_file import book_from_json

    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", mend="sage trust export FILE") from error
    clock = SystemClock()
    with open_stores(sage_home(), load_settings(), clock) as stores:
        other = book_from_json(text, stores.trust.locator.codebook, now=clock.time())
        merged = stores.trust.merge(other)
    console().print(
        f"Merged {merged.records} records of {merged.machines} machines, took over {merged.resets} resets."
    )


@app.command()
def rebuild() -> None:
    """Learn all stored outcomes again.

    For instance after MiniLM was pulled; the newest 2,000 are learned again by themselves.
    """
    from sage.cli.render import console
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.session import open_stores

    with (
        open_stores(sage_home(), load_settings(), SystemClock()) as stores,
        console().status("Learning again ...") as status,
    ):
        count = stores.trust.rebuild(progress=lambda done, all_: status.update(f"{done} of {all_} outcomes"))
    console().print(f"Learned {count} outcomes again.")


def rate_turn(
    store: VerbatimStore, learn: Callable[[Outcome], bool], clock: Clock, turn_id: str, quality: float
) -> bool:
    """The user's own outcome for a turn; False when the turn was rated before.

    Raises:
        TurnNotFound: no such turn. UsageError: the turn has no answer.
    """
    from sage.errors import UsageError
    from sage.types import Outcome

    turn = store.turn(turn_id)
    if not turn.answer:
        raise UsageError(f"{turn.id} has no answer to rate.", mend="See the turns: sage logs")
    return learn(
        Outcome(
            event_id=f"{turn.id}/user/{turn.model}",
            turn_id=turn.id,
            candidate=turn.model,
            kind=turn.kind,
            quality=quality,
            source="user",
            at=clock.time(),
        )
    )
