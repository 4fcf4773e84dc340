"""From a card to a worker: what it is told to load, and how long it is waited for.

Owns: the settings and the machine's share in that. Must not know: what is loaded already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sage.config import ModelSettings
from sage.errors import ModelNotFound
from sage.hardware.probe import usable_cores
from sage.zoo.card import ModelCard
from sage.zoo.catalog import load_catalog
from sage.zoo.process import PREFILL_S_PER_TOKEN, WorkerLimits, WorkerSpec
from sage.zoo.remote import remote_options
from sage.zoo.sources import model_path

__all__ = ["worker_limits", "worker_spec"]


def worker_spec(home: Path, card: ModelCard, settings: ModelSettings) -> WorkerSpec:
    """How this card is loaded on this machine.

    Raises:
        ConfigError: a server runs it, and that server may not be asked.
        ModelNotFound: it is an adapter, and there is no card of its base.
    """
    return WorkerSpec(
        name=card.name,
        backend=card.backend,
        path=model_path(card, home),
        context=card.room(settings.context),
        threads=settings.threads or max(1, usable_cores() - 1),
        prompt_style=card.prompt_style,
        extra=_extra(home, card, settings),
    )


def _extra(home: Path, card: ModelCard, settings: ModelSettings) -> Mapping[str, Any]:
    """What only this card's backend reads."""
    if card.remote:
        return remote_options(card, settings)
    if card.base:
        base = load_catalog(home).get(card.base)
        if base is None:
            raise ModelNotFound(
                f"{card.name} is an adapter of {card.base}, of which there is no card.",
                mend="sage models list",
            )
        return {**card.script, "base": str(model_path(base, home))}
    return card.script


def worker_limits(card: ModelCard, settings: ModelSettings) -> WorkerLimits:
    """The patience that the settings allow. A server that is silent is no busier for a long prompt than for a
    short one, as far as anybody here can tell: nothing is added for it."""
    return WorkerLimits(
        load_s=settings.load_timeout_s,
        answer_s=settings.answer_timeout_s,
        silence_s=settings.silence_timeout_s,
        stop_s=settings.stop_timeout_s,
        prefill_s=0.0 if card.remote else PREFILL_S_PER_TOKEN,
    )
