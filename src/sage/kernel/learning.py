"""What becomes of an outcome: everything that learns from it, in one place.

Owns: the order in which stores learn. Must not know: what they make of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sage.economy.pool import card_shift
from sage.kernel.teaching import rating
from sage.memory.books import Books
from sage.memory.opinion_store import OpinionStore
from sage.memory.trust_store import TrustStore
from sage.memory.verbatim import VerbatimStore
from sage.types import Outcome
from sage.zoo.card import ModelCard

__all__ = ["Stores", "learn"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stores:
    """What one ``SAGE_HOME`` keeps: what was said, spent, trusted, and shown by answers."""

    turns: VerbatimStore
    books: Books
    trust: TrustStore
    opinions: OpinionStore


def learn(outcome: Outcome, card: ModelCard | None, stores: Stores) -> bool:
    """Record an outcome once and let trust learn from it; False when it was known.

    ``card`` is the candidate's, where there is one. What a user says later is also evidence about the answers
    of that turn; what a verifier says at once was learned with its drafts.

    Raises:
        TurnNotFound: the outcome belongs to no turn. ValueError: its quality is not in [0, 1].
    """
    shift = card_shift(card.prior, outcome.kind) if card else 0.0
    learned = stores.trust.learn(replace(outcome, shift=shift))
    if learned and outcome.source == "user":
        told = stores.turns.turn(outcome.turn_id).irp.get("opinions", ())
        stores.opinions.learn(*rating(told, outcome))
    return learned
