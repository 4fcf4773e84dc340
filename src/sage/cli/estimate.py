"""``sage models estimate``: what a model will take, before anything is loaded.

Owns: the words and the table of an estimate, which ``sage models load --estimate-only`` shows too.
Must not know: how bytes are computed.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sage.cli.lookup import AsJson, Name, check_runnable, find_model, measured_rates

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
    """Memory before loading, and whether it is free."""
    show_estimate(name, context, as_json=as_json)


def show_estimate(name: str, context: int | None, *, as_json: bool) -> bool:
    """Say what the model will take; returns whether it fits now.

    Raises:
        SageError: it cannot be run here, as ``check_runnable`` says; UnsafeFile: its file is damaged.
    """
    from dataclasses import asdict

    from sage.cli.render import console, emit_json, human_bytes
    from sage.config import load_settings
    from sage.errors import UnsafeFile
    from sage.hardware.budget import budget_bytes
    from sage.hardware.probe import memory
    from sage.kernel.session import memory_need, memory_parts
    from sage.zoo.card import EMBEDDING

    card, home = find_model(name)
    check_runnable(card, home)
    settings = load_settings().models
    tokens = card.room(context or settings.context)
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
        emit_json({"name": name, "context": tokens} | parts | found)
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
    return fits
