"""What each model of the zoo would be and cost, for this piece of work, now.

Owns: turning cards, measured rates and residency into candidates.
Must not know: how a candidate is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from sage.errors import LoadFailed, SageError
from sage.types import ANY_KIND, Candidate, Situation
from sage.zoo.card import ModelCard

__all__ = ["USUAL", "Found", "Pricing", "answer_tokens", "candidate"]

LOAD_FLOOR_S = 0.3
"""Starting a worker process and its library, before a byte of weights is read."""

USUAL_ANSWER_TOKENS = 64
"""Length of an answer before any was measured."""

USUAL = Situation(
    messages=(), kind=ANY_KIND, prompt_tokens=128, max_tokens=2**20, session="", needs=frozenset()
)
"""A usual piece of work: what it costs here says what is dear."""

GUESS: Mapping[str, float] = {"prompt_tok_s": 200.0, "generate_tok_s": 30.0}
"""Rates of a model that nobody has measured: those of half a billion weights in 4 bits on two cores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What was seen of a model's files: whether they are here, what keeps it from being loaded, and the bytes
    of memory it will take (its size on disk, where there is an obstacle)."""

    present: bool
    obstacle: SageError | None
    memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pricing:
    """What a price is predicted from: rates by model, what is loaded, bytes a second from storage; seconds
    until those that failed lately may be tried again; seconds since the loads in flight began."""

    rates: Mapping[str, Mapping[str, float]]
    resident: Collection[str]
    disk_bytes_s: float
    context: int
    resting: Mapping[str, float] = field(default_factory=dict)
    loading: Mapping[str, float] = field(default_factory=dict)


def candidate(
    card: ModelCard,
    situation: Situation,
    pricing: Pricing,
    *,
    obstacle: SageError | None,
    memory_bytes: Callable[[ModelCard], int],
) -> Candidate:
    """The card as a candidate for this situation. An ``obstacle`` to loading it makes it unavailable, an
    unsafe file does, and so does failing again and again, for a while. What is being loaded counts as loaded,
    but for the time that is left of its load: that is paid already, by who asked first."""
    unavailable = obstacle
    memory = card.bytes
    if unavailable is None:
        try:
            memory = memory_bytes(card)
        except SageError as error:
            unavailable = error
    if unavailable is None and card.name in pricing.resting:
        seconds = pricing.resting[card.name]
        unavailable = LoadFailed(
            f"it failed lately and rests for {seconds:.0f} s more", mend="sage logs shows why it failed"
        )
    resident = card.name in pricing.resident or card.name in pricing.loading
    measured = pricing.rates.get(card.name, {})
    usual = _measured_or(card, measured, USUAL_TOKENS, USUAL_ANSWER_TOKENS)
    answer = _measured_or(card, measured, answer_tokens(situation.kind), usual)
    room = card.room(pricing.context)
    tokens = min(situation.prompt_tokens + situation.context_tokens, room)
    run_s = tokens / _measured_or(card, measured, "prompt_tok_s", GUESS["prompt_tok_s"])
    written = min(answer, situation.max_tokens)
    run_s += written / _measured_or(card, measured, "generate_tok_s", GUESS["generate_tok_s"])
    load_s = _measured_or(card, measured, "load_s", LOAD_FLOOR_S + card.bytes / pricing.disk_bytes_s)
    return Candidate(
        name=card.name,
        prior=card.prior,
        capabilities=card.abilities,
        context_length=room,
        memory_bytes=memory,
        resident=resident,
        load_bytes=0 if resident else card.bytes,
        est_load_s=_left_of_load(card, pricing, load_s) if resident else load_s,
        est_run_s=run_s,
        est_tokens=tokens + written,
        reload_s=load_s,
        reload_bytes=card.bytes,
        est_usd=(tokens * _usd(card, "prompt_usd_mtok") + written * _usd(card, "generate_usd_mtok")) / 1e6,
        family=card.family,
        unavailable=unavailable,
    )


def _left_of_load(card: ModelCard, pricing: Pricing, load_s: float) -> float:
    """Seconds until a model can be asked that is loaded or being loaded. A load that takes longer than it
    should will take as long again."""
    if card.name not in pricing.loading:
        return 0.0
    since = pricing.loading[card.name]
    return load_s - since if since < load_s else since


def answer_tokens(kind: str) -> str:
    """The name of the rate that holds how long a model's answers to this kind of work are."""
    return f"answer_tokens.{kind}"


USUAL_TOKENS = answer_tokens(ANY_KIND)


def _usd(card: ModelCard, name: str) -> float:
    """The price of a million tokens; nothing where the card names none, as for what runs here."""
    figure = card.rates.get(name)
    return figure.value if figure else 0.0


def _measured_or(card: ModelCard, measured: Mapping[str, float], name: str, otherwise: float) -> float:
    """What was measured here; else what the card says; else the guess."""
    if name in measured:
        return measured[name]
    figure = card.rates.get(name)
    return figure.value if figure else otherwise
