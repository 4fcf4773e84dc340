"""``sage models estimate``: what a model will take, before anything is loaded.

Owns: the words and the table of an estimate, which ``sage models load --estimate-only`` shows too.
Must not know: how bytes are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sage.cli.lookup import AsJson, Name, check_runnable, find_model, measured_rates

if TYPE_CHECKING:
    from pathlib import Path

    from sage.zoo.card import ModelCard
    from sage.zoo.estimate import MemoryEstimate

__all__ = ["estimate", "show_estimate"]


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
    """Say what memory a model will take, and whether that is free.

    Ends with 4 where it is not.
    """
    if not show_estimate(name, context, as_json=as_json):
        raise typer.Exit(4)


def show_estimate(name: str, context: int | None, *, as_json: bool) -> bool:
    """Say what the model will take; returns whether it fits now.

    Raises:
        SageError: it cannot be run here, as ``check_runnable`` says; UnsafeFile: its file is damaged.
    """
    from dataclasses import asdict

    from sage.cli.render import console, emit_json, human_bytes, notes
    from sage.config import load_settings
    from sage.errors import UnsafeFile
    from sage.hardware.budget import budget_bytes
    from sage.hardware.probe import memory
    from sage.kernel.session import memory_need, memory_parts
    from sage.zoo.card import EMBEDDING

    card, home = find_model(name)
    settings = load_settings().models
    tokens = card.room(context or settings.context)
    if context and tokens < context:
        less = f"{card.name} holds no more than {tokens} tokens of context; {context} were asked for."
        notes().print(less, markup=False, soft_wrap=True)
    if (published := _published(card, home)) is not None:
        return _show_published(card, published, tokens, settings.memory_limit_gb, as_json=as_json)
    check_runnable(card, home)
    try:
        if card.backend == EMBEDDING:
            parts, total = {}, int(card.rates["rss_bytes"].value)
        else:
            no_file = card.backend == "fake" or card.remote
            parts = {} if no_file else asdict(memory_parts(home, card, tokens))
            total = memory_need(home, card, tokens)
    except UnsafeFile as error:
        raise UnsafeFile(f"{name}: {error.message}", mend=error.mend) from error
    measured = int(measured_rates(home, name).get("rss_bytes", 0)) or None
    need = max(total, measured or 0)  # as the kernel does before it loads
    free = budget_bytes(memory(), settings.memory_limit_gb)
    fits = need <= free
    if as_json:
        found = {"total": total, "measured": measured, "need": need, "free": free, "fits": fits}
        emit_json({"name": name, "context": tokens, "figures": "header"} | parts | found)
        return fits
    said = {EMBEDDING: "on its card", "fake": "script"}
    rows = {label: value for label, value in parts.items() if value} or {
        said.get(card.backend, "its worker"): total
    }
    if measured:
        rows |= ({"together": total} if parts else {}) | {"measured here": measured}
    for label, value in (rows | {"total": need, "free": free}).items():
        console().print(f"{label:13} {human_bytes(value):>8}", markup=False)
    verdict = "fits" if fits else f"does not fit: {human_bytes(need - free)} too much"
    console().print(f"{name} with {tokens} tokens of context {verdict}.", markup=False)
    if context is None and not card.remote and card.backend != EMBEDDING:
        other = f"Another context: sage models estimate {card.name} --context N"
        notes().print(other, style="dim", markup=False)
    return fits


def _published(card: ModelCard, home: Path) -> MemoryEstimate | None:
    """What the card alone says, where nothing but weights is lacking; None where it is not so."""
    from sage.errors import WeightsMissing
    from sage.zoo.card_status import obstacles
    from sage.zoo.catalog import every_card
    from sage.zoo.estimate_card import card_estimate

    found = obstacles(card, home, catalog := every_card(home))
    if not found or not all(isinstance(each, WeightsMissing) for each in found):
        return None
    return card_estimate(card, catalog)


def _show_published(
    card: ModelCard, least: MemoryEstimate, tokens: int, limit_gb: float, *, as_json: bool
) -> bool:
    """Say what the card allows to say; returns whether it may fit."""
    from dataclasses import asdict

    from sage.cli.render import console, emit_json, human_bytes
    from sage.hardware.budget import budget_bytes
    from sage.hardware.probe import memory

    free = budget_bytes(memory(), limit_gb)
    fits = least.total <= free
    if as_json:
        found = {"total": least.total, "measured": None, "need": least.total, "free": free, "fits": fits}
        emit_json({"name": card.name, "context": tokens, "figures": "published"} | asdict(least) | found)
        return fits
    for label, value in {
        "weights": least.weights,
        "overhead": least.overhead,
        "at least": least.total,
        "free": free,
    }.items():
        console().print(f"{label:13} {human_bytes(value):>8}", markup=False)
    verdict = "may fit" if fits else f"does not fit: {human_bytes(least.total - free)} too much"
    console().print(
        f"{card.name} {verdict}. It is not here: these are the figures of its card, without the context, "
        "which only its file tells.",
        markup=False,
        soft_wrap=True,
    )
    return fits
