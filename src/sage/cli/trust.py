"""`sage trust`: what outcomes have taught, why a choice was made, and teaching by hand.

Owns: how trust is shown. Must not know: how it is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sage.clock import Clock
    from sage.economy.trust import Belief
    from sage.memory.verbatim import VerbatimStore
    from sage.types import Outcome

__all__ = ["app", "decision_table", "rate_turn", "trust_rows", "trust_table"]

FULL_MODELS = 2
"""So many models are shown with spread and evidence beside each other in 80 columns."""

app = typer.Typer(no_args_is_help=True, help="What SAGE has learned about each model, and why it chose one.")


@app.command()
def show(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this model.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Expected quality of each model at each kind of work."""
    from sage.cli.render import console, emit_json, print_table
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.session import open_books
    from sage.zoo.catalog import find_card, load_catalog
    from sage.zoo.sources import present

    home, clock = sage_home(), SystemClock()
    catalog = load_catalog(home)
    cards = [find_card(catalog, model)] if model else [c for c in catalog.values() if present(c, home)]
    with open_books(home, load_settings(), clock) as (_store, books):
        book = books.trust()
        rows = [
            row
            for card in cards
            for row in trust_rows(
                card.name, card.prior, lambda name, kind, prior: book.belief(name, kind, prior, clock.time())
            )
        ]
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
        note = "n: evidence, in outcomes faded by age; without any, quality is the card's own."
    console().print(note, style="dim")


@app.command()
def explain(
    turn_id: Annotated[
        str, typer.Argument(metavar="TURN_ID", help="The id of a turn, or its beginning: see sage logs.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Why this model answered, and not another.

    Shown: the three factors of every candidate, who was left out, who failed.
    """
    from sage.cli.render import console, emit_json
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.session import open_books

    with open_books(sage_home(), load_settings(), SystemClock()) as (store, _books):
        turn = store.turn(turn_id)
        decision = store.decision(turn.id)
    if json:
        emit_json({"turn_id": turn.id, **decision})
        return
    out = console()
    if not decision:
        out.print(f"No decision was made: {turn.error}", markup=False)
        return
    out.print(decision["reason"], markup=False)
    out.print(decision_table(decision["candidates"], chosen=decision["chosen"]))
    for name, why in decision["excluded"].items():
        out.print(f"left out: {name}: {why}", markup=False)
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
    from sage.kernel.session import open_books

    clock = SystemClock()
    with open_books(sage_home(), load_settings(), clock) as (store, books):
        learned = rate_turn(store, books.learn, clock, turn_id, quality)
    console().print("Learned." if learned else "This turn was rated before; nothing changed.")


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


def trust_rows(
    name: str, prior: dict[str, float] | Any, belief: Callable[[str, str, Any], Belief]
) -> list[dict[str, Any]]:
    """One row a kind of work."""
    from sage.kernel.sense import KINDS

    rows = []
    for kind in KINDS:
        held = belief(name, kind, prior)
        rows.append(
            {
                "model": name,
                "kind": kind,
                "quality": round(held.mean, 4),
                "sd": round(held.sd, 4),
                "evidence": round(held.evidence, 3),
            }
        )
    return rows


def trust_table(rows: list[dict[str, Any]]) -> Any:
    """Up to two models across, kinds down: quality with its spread, and the evidence where there is some.

    More models go down and kinds across, with the quality alone, so that 80 columns hold them.
    """
    from rich.table import Table

    models = list(dict.fromkeys(row["model"] for row in rows))
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    cells = {(row["kind"], row["model"]): row for row in rows}
    table = Table(box=None, pad_edge=False, header_style="bold")
    few = len(models) <= FULL_MODELS
    table.add_column("kind" if few else "model", no_wrap=True)
    for name in models if few else kinds:
        table.add_column(name, justify="right", no_wrap=True)
    if not few:
        for model in models:
            table.add_row(model, *(f"{cells[kind, model]['quality']:.2f}" for kind in kinds))
        return table
    for kind in kinds:
        line = []
        for model in models:
            row = cells[kind, model]
            seen = f"  n={row['evidence']:.1f}" if row["evidence"] else "       "
            line.append(f"{row['quality']:.2f} ± {row['sd']:.2f}{seen}")
        table.add_row(kind, *line)
    return table


def decision_table(candidates: list[dict[str, Any]], *, chosen: str) -> Any:
    """The candidates with their three factors, the chosen one marked."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(" candidate", no_wrap=True)
    for column in ("expertise", "cheapness", "persistence", "permission", "load+run", "ATP"):
        table.add_column(column, justify="right", no_wrap=True)
    for score in candidates:
        load = "0" if score["resident"] else f"{score['est_load_s']:.1f}"
        table.add_row(
            ("▸" if score["name"] == chosen else " ") + score["name"],
            f"{score['expertise']:.2f}",
            f"{score['cheapness']:.2f}",
            f"{score['persistence']:.1f}",
            f"{score['permission']:.3f}",
            f"{load}+{score['est_run_s']:.1f} s",
            f"{score['est_atp']:.1f}",
            style="bold" if score["name"] == chosen else None,
        )
    return table
