"""What earlier turns say of refining this one, and what it will say to later ones.

Owns: what makes two questions the very same, when an answer that was judged may be given again, and reading a
refinement off its drafts. Must not know: how patterns are stored, or when refinement stops.

Whatever is wrong with pattern memory, a request is refined without it.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

from sage.economy.context import Context
from sage.errors import SageError
from sage.irp.plugins.language import Drafts
from sage.kernel.judge import RIGHT
from sage.kernel.remembering import Brought
from sage.kernel.stores import Stores
from sage.kernel.weighing import Weighing
from sage.memory.patterns import GIVEN_AGAIN, UNKNOWN, Expectation, Judged, Refinement, Taken
from sage.memory.verbatim import to_json
from sage.types import Decision, Situation

__all__ = [
    "LANGUAGE",
    "expected_of",
    "given_again",
    "judged_before",
    "question_of",
    "refinement_of",
    "remembering",
]

LANGUAGE = "language"
"""The plugin that refines answers in words."""


def question_of(situation: Situation, brought: Brought) -> str | None:
    """A digest of exactly what is asked; None where the same words may be answered otherwise the next time:
    in a conversation that goes on, where chance is wanted, or where memory was not looked through."""
    if not brought.alone or situation.temperature > 0.0:
        return None
    asked = [situation.messages, situation.schema, situation.stop, situation.max_tokens]
    return hashlib.blake2b(to_json(asked).encode(), digest_size=16).hexdigest()


def judged_before(
    question: str | None, situation: Situation, brought: Brought, stores: Stores
) -> tuple[Judged, ...]:
    """Answers to this very question that a user or a verifier has judged, the newest judgement first."""
    if question is None:
        return ()
    try:
        return stores.patterns.judged(question, namespace=situation.namespace, shown=brought.shown)
    except SageError as error:
        _say(error)
        return ()


def given_again(judged: tuple[Judged, ...], decision: Decision) -> Judged | None:
    """The newest answer that was right and whose author may answer now."""
    allowed = {score.name for score in decision.candidates}
    return next((each for each in judged if each.quality >= RIGHT and each.model in allowed), None)


def remembering(decision: Decision, again: Judged) -> Decision:
    """The decision for an answer that is given again."""
    reason = f"The very same question was answered in {again.turn_id} and judged right: that answer again."
    return replace(decision, chosen=again.model, mode="remembered", reason=reason)


def expected_of(context: Context, situation: Situation, stores: Stores) -> Expectation:
    """What refining did in situations like this."""
    try:
        return stores.patterns.expect(context, LANGUAGE, namespace=situation.namespace)
    except SageError as error:
        _say(error)
        return UNKNOWN


def refinement_of(drafts: Drafts, weighing: Weighing, context: Context, question: str | None) -> Refinement:
    """What each draft changed, and at which price. Nothing was refined where an answer was given again."""
    steps: list[Taken] = []
    before = 0
    for count in range(1, len(drafts) + 1):
        weighed = weighing.weigh(drafts[:count])
        best = weighed.best
        steps.append(
            Taken(
                energy=min(weighed.energies),
                best=drafts[best].model,
                gain=weighed.energies[before] - weighed.energies[best] if count > 1 else 0.0,
                price=weighing.price(drafts[count - 1].model) if count > 1 else 0.0,
            )
        )
        before = best
    plugin = GIVEN_AGAIN if drafts[0].remembered and len(drafts) == 1 else LANGUAGE
    return Refinement(plugin=plugin, context=context, question=question, steps=tuple(steps))


def _say(error: SageError) -> None:
    logging.getLogger(__name__).warning(
        "Pattern memory could not be read, so it is done without: %s", error.message
    )
