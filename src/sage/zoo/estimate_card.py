"""How much memory a model will take at the least, from its card alone: before its weights are here.

Owns: what published figures allow to say. Must not know: what is free, or how weights arrive.
"""

from __future__ import annotations

from collections.abc import Mapping

from sage.zoo import estimate, estimate_torch
from sage.zoo.card import ModelCard
from sage.zoo.estimate import MemoryEstimate

__all__ = ["card_estimate"]

FULL_BITS = 16
"""Weights of so many bits or more are widened as the processor likes; others stay as they are stored."""


def card_estimate(card: ModelCard, catalog: Mapping[str, ModelCard]) -> MemoryEstimate | None:
    """Bytes for the weights (an adapter's with those of its base) and the process around them; None where
    the card says neither size nor weights. The cache of the context is not in it: only a header tells how
    much a token takes. So the model will take more than this.
    """
    parts = [card, *([catalog[card.base]] if card.base in catalog else [])]
    sizes = [_weights(part) for part in parts]
    if not all(sizes):
        return None
    torch = card.backend == "transformers"
    process = estimate_torch.PROCESS_BYTES if torch else estimate.PROCESS_BYTES
    return MemoryEstimate(weights=sum(sizes), kv=0, compute=0, overhead=process)


def _weights(card: ModelCard) -> int:
    if card.backend == "transformers" and card.parameters and card.bits >= FULL_BITS:
        return card.parameters * (2 if estimate_torch.loads_as_bf16() else 4)
    return card.expected_bytes
