"""What becomes of a turn and of its outcomes: everything that learns from them, in one place.

Owns: the order in which stores learn. Must not know: what they make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from sage.economy.pool import card_shift
from sage.errors import ModelNotFound, SageError
from sage.irp.plugins.language import Drafts
from sage.kernel.remembering import Heard, keep_turn
from sage.kernel.stores import Stores
from sage.kernel.teaching import rating, teach
from sage.kernel.turn import Turn
from sage.memory.patterns import Refinement
from sage.memory.verbatim import VerbatimStore
from sage.types import Outcome
from sage.zoo.card import ModelCard

__all__ = ["Lesson", "keep", "learn", "learn_from"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What there is to learn from a turn that was answered; no ``refinement`` where it was stopped."""

    drafts: Drafts
    outcomes: tuple[Outcome, ...]
    heard: Heard
    refinement: Refinement | None


def learn_from(
    lesson: Lesson, turn: Turn, catalog: Mapping[str, ModelCard], stores: Stores, *, now: float
) -> list[Outcome]:
    """Let salient and pattern memory, trust and the evidence of opinions learn, each for itself: where one
    cannot, the others do. Returns the outcomes that were learned."""
    learned: list[Outcome] = []
    with suppress(SageError), stores.db.savepoint():
        keep_turn(turn.id, turn.brought, stores, lesson.heard, now=now)
    if lesson.refinement is not None:
        with suppress(SageError), stores.db.savepoint():
            stores.patterns.learn(turn.id, turn.situation.namespace, lesson.refinement)
    for outcome in lesson.outcomes:
        try:
            with stores.db.savepoint():
                if learn(outcome, catalog.get(outcome.candidate), stores):
                    learned.append(outcome)
        except (SageError, ValueError):
            with suppress(SageError, ValueError), stores.db.savepoint():
                keep(outcome, catalog.get(outcome.candidate), stores)
    drafts = tuple(draft for draft in lesson.drafts if not draft.remembered)
    with suppress(SageError, ValueError), stores.db.savepoint():
        stores.opinions.learn(
            list(dict.fromkeys(draft.model for draft in drafts)),
            partial(
                teach,
                drafts=drafts,
                outcomes=lesson.outcomes,
                schema=turn.situation.schema is not None,
            ),
        )
    return learned


def learn(outcome: Outcome, card: ModelCard | None, stores: Stores) -> bool:
    """Record an outcome once and let trust learn from it; False when it was known.

    ``card`` is the candidate's, where there is one. What a user says later is also evidence about the answers
    of that turn; what a verifier says at once was learned with its drafts.

    Raises:
        TurnNotFound: the outcome belongs to no turn. ModelNotFound: its candidate had no part in the turn.
        ValueError: its quality is not in [0, 1].
    """
    if outcome.candidate not in _taking_part(outcome.turn_id, stores.turns):
        raise ModelNotFound(
            f"{outcome.candidate!r} had no part in {outcome.turn_id}: nothing can be learned of it there.",
            mend=f"See who had: sage trust explain {outcome.turn_id}",
        )
    learned = stores.trust.learn(_shifted(outcome, card))
    if learned and outcome.source == "user":
        told = stores.turns.turn(outcome.turn_id).irp.get("opinions", ())
        stores.opinions.learn(*rating(told, outcome))
    return learned


def keep(outcome: Outcome, card: ModelCard | None, stores: Stores) -> bool:
    """Record an outcome that could not be learned from: who opens the book of trust next does. False when it
    was known.

    Raises:
        TurnNotFound: the outcome belongs to no turn.
    """
    return stores.turns.record_outcome(_shifted(outcome, card))


def _shifted(outcome: Outcome, card: ModelCard | None) -> Outcome:
    """With what the card claims for this kind of work."""
    return replace(outcome, shift=card_shift(card.prior, outcome.kind) if card else 0.0)


def _taking_part(turn_id: str, turns: VerbatimStore) -> set[str]:
    """Who was considered for a turn, tried for it, or wrote a draft of it."""
    decision = turns.decision(turn_id)
    told = turns.turn(turn_id).irp.get("opinions", ())
    rows = [*decision.get("candidates", ()), *decision.get("failures", ())]
    return {row["name"] for row in rows} | {opinion["model"] for opinion in told}
