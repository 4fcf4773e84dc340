"""What can be said of answers by others than their authors.

Owns: turning drafts into outcomes. Must not know: what trust does with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from sage.irp.plugins.language import Draft, Drafts, likeness
from sage.kernel.turn import Turn
from sage.types import Outcome, OutcomeSource

__all__ = ["RIGHT", "alike", "comparable", "judge", "outcome", "passes"]

_PASSES = re.compile(
    r"(?:sorry[,.]? )?(?:but )?(?:i|we) (?:(?:do not|don't|cannot|can't|could not|couldn't) "
    r"(?:really |actually )?(?:know|say|tell|answer|help|find)|am not sure|have no (?:idea|information))"
    r"|i'm (?:not sure|sorry|afraid|unable)|(?:no idea|not sure|unknown|n/?a|no answer)\W*$"
)

COMPARABLE = 80
"""Characters. Longer answers never agree word for word, though both be right."""

RIGHT = 0.75
"""Quality from which on an answer that was judged is given again."""

AGREED = 0.9
"""Likeness from which on two answers are the same. Dissent teaches nothing: "Paris." and "The capital of
France is Paris." differ by 0.7, and one of two that dissent may well be right."""


def judge(
    turn: Turn, drafts: Drafts, *, verify: Callable[[str], float] | None, now: float
) -> tuple[Outcome, ...]:
    """One outcome for each model whose first draft can be judged.

    By the caller's verifier, where there is one; else by saying the same as another model, where answers are
    short enough to be compared and say something: that two do not know speaks for neither. A schema that was
    kept says nothing: the grammar sees to that. A schema that was not kept, by a model that ended of itself,
    is that model's failure.
    """
    first: dict[str, Draft] = {}
    for draft in drafts:
        if draft.completion.ended:
            first.setdefault(draft.model, draft)
    outcomes: list[Outcome] = []
    for model, draft in first.items():
        text = draft.completion.text
        peers = [other.completion.text for name, other in first.items() if name != model and other.valid]
        if verify is not None:
            quality = _verified(verify, text)
            # That an answer given again is still right is no new work: nobody is trusted more for it.
            if quality is not None and not (draft.remembered and quality >= RIGHT):
                outcomes.append(outcome(turn, model, quality, "verifier", now))
        elif not draft.valid and draft.completion.finish_reason == "stop":
            outcomes.append(outcome(turn, model, 0.0, "verifier", now))
        elif not passes(text) and any(alike(text, peer) for peer in peers):
            outcomes.append(outcome(turn, model, 1.0, "agreement", now))
    return tuple(outcomes)


def passes(text: str) -> bool:
    """Whether an answer only says that its author has none (in English)."""
    return comparable(text) and _PASSES.match(text.strip().lower().replace("\u2019", "'")) is not None


def comparable(text: str) -> bool:
    """Whether an answer is short enough to be the same as another's."""
    return len(text) <= COMPARABLE


def alike(one: str, other: str) -> bool:
    """Whether two short answers say the same."""
    return comparable(one) and comparable(other) and likeness(one, other) >= AGREED


def _verified(verify: Callable[[str], float], text: str) -> float | None:
    """What the verifier says, or None where it fails or gives no number: an answer is not lost to that."""
    try:
        quality = float(verify(text))
    except Exception:
        return None
    return quality if math.isfinite(quality) else None


def outcome(turn: Turn, model: str, quality: float, source: OutcomeSource, now: float) -> Outcome:
    """An outcome of this turn; its id is the same each time, so that it counts once."""
    return Outcome(
        event_id=f"{turn.id}/{source}/{model}",
        turn_id=turn.id,
        candidate=model,
        kind=turn.situation.kind,
        quality=min(1.0, max(0.0, quality)),
        source=source,
        at=now,
    )
