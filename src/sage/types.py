"""The values that pass between layers.

Owns: what a piece of work, a candidate, a decision and an outcome are.
Must not know: how any of them is computed, stored or shown.
Every value is frozen; sequences are tuples, so a value can be logged or shared without a copy.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sage.errors import SageError

__all__ = [
    "ANY_KIND",
    "SCHEMA",
    "Candidate",
    "CandidateScore",
    "Completion",
    "Decision",
    "Failure",
    "Form",
    "GenerationRequest",
    "Message",
    "MetabolicState",
    "Outcome",
    "OutcomeSource",
    "Piece",
    "PriceUnit",
    "Role",
    "Rule",
    "Situation",
    "new_id",
]

Role = Literal["system", "user", "assistant"]

OutcomeSource = Literal["verifier", "user", "agreement", "self"]
"""Who says how good an answer was. Trust ignores ``self``."""

SCHEMA = "schema"
"""The capability of keeping a JSON schema, whatever the model: its backend has it or not."""

ANY_KIND = "*"
"""The context that stands for every kind of work: trust and priors back off to it."""


def new_id(prefix: str) -> str:
    """A short unique id such as ``turn-3f9c2a71b04e`` (48 random bits)."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """One piece of work, as the kernel sees it after ``sense``.

    ``kind`` is the context label trust is kept under; ``prompt_tokens`` is an estimate made
    before any tokenizer is loaded, ``context_tokens`` the same for what was recalled (which may be
    shortened); ``namespace`` says whose memory it is; ``needs`` are capabilities a candidate must have.
    ``deadline_s``, ``max_atp`` and ``max_usd`` are ceilings on what one answer may take.
    """

    messages: tuple[Message, ...]
    kind: str
    prompt_tokens: int
    max_tokens: int
    session: str
    namespace: str = "default"
    context_tokens: int = 0
    needs: frozenset[str] = frozenset({"text"})
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    deadline_s: float | None = None
    max_atp: float | None = None
    max_usd: float | None = None

    @property
    def prompt(self) -> str:
        """The text of the last user message."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """Something that could do the work: an expert, a model or a device.

    Times are seconds, sizes are bytes. ``est_load_s`` and ``load_bytes`` are 0 when resident;
    ``reload_s`` and ``reload_bytes`` are what loading it takes or would take, were it unloaded. ``prior``
    maps a kind of work to the published or measured quality in [0, 1]; ``family`` names its relatives.
    ``est_tokens`` and ``est_usd`` are what the work would take and be billed. ``unavailable`` is the
    failure that choosing it would end in.
    """

    name: str
    prior: Mapping[str, float]
    capabilities: frozenset[str]
    context_length: int
    memory_bytes: int
    resident: bool
    load_bytes: int
    est_load_s: float
    est_run_s: float
    est_tokens: float = 0.0
    est_usd: float = 0.0
    reload_s: float = 0.0
    reload_bytes: int = 0
    family: str = ""
    unavailable: SageError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateScore:
    """One row of the decision table: the three factors and what they were computed from.

    ``sd`` is the standard deviation of the expertise, ``evidence`` how many outcomes of such contexts stand
    behind it; ``price`` is in the unit of the decision: the work, and what loading counts for, ``load``,
    where that has the same unit, else the work alone. ``warm`` is the permission it would have if loaded,
    ``saved`` what earlier requests have paid of its load (in the unit of loads), ``displaces`` whom it would
    push out of memory; nothing where demand was not asked.
    """

    name: str
    expertise: float
    cheapness: float
    persistence: float
    permission: float
    resident: bool
    est_load_s: float
    est_run_s: float
    est_atp: float
    evidence: float
    sd: float = 0.0
    price: float = 0.0
    warm: float = 0.0
    saved: float = 0.0
    load: float = 0.0
    displaces: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A candidate that was chosen and could not answer."""

    name: str
    error: str
    message: str


MetabolicState = Literal["WAKE", "FOCUS", "REST", "DREAM", "CRISIS"]
"""How the whole system is: awake and thrifty, at work on something, resting, consolidating, in need."""

Form = Literal["product", "additive"]
"""How the three factors make one permission."""

PriceUnit = Literal["atp", "seconds", "tokens", "usd"]
"""What a price is counted in when candidates are compared."""

DecisionMode = Literal[
    "permission", "explore", "light", "relative", "pinned", "fallback", "escalated", "remembered"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How permission was computed in a decision: enough to compute it again.

    ``dial`` goes from cheapest (0) to best (1); ``scale`` is the price that halves cheapness at this dial, in
    ``unit``, ``load_scale`` the same for what loading counts for; ``hot_bonus`` the persistence of what is
    loaded. ``outcomes`` is the faded number of outcomes that trust stood on. ``explore_atp`` is what trying
    somebody may have cost more; None: nobody was tried.
    """

    form: Form
    dial: float
    scale: float
    load_scale: float
    hot_bonus: float
    unit: PriceUnit
    state: MetabolicState
    outcomes: float
    explore_atp: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Why this candidate: the best candidates' factors (best first), who was filtered out, who failed.

    ``mode`` is ``permission`` (the rule chose), ``pinned`` (the caller named the model), ``fallback`` (a
    better candidate failed), ``escalated`` (a cheaper answer was not good enough), ``remembered`` (an answer
    to the very same question was judged right before), or what the rule's winner, ``instead_of``, was left
    for: ``explore`` (to learn), ``light`` (a close race), ``relative`` (it is not trusted, a relative is).
    ``others`` counts candidates ranked below those shown.
    """

    chosen: str
    mode: DecisionMode
    reason: str
    kind: str
    candidates: tuple[CandidateScore, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    instead_of: str = ""
    others: int = 0
    rule: Rule | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a decision: the only thing trust learns from.

    ``quality`` is in [0, 1]; ``shift`` is what the card claims for this kind of work beyond its overall
    figure.
    """

    event_id: str
    turn_id: str
    candidate: str
    kind: str
    quality: float
    source: OutcomeSource
    at: float
    shift: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest:
    """What a loaded model is asked to do."""

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    deadline_s: float | None = None


ENOUGH_TOKENS = 64
"""Prompt tokens from which on a reading rate means something."""

ENOUGH_TO_WRITE = 4
"""The same for tokens written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What a loaded model answered.

    ``logprobs`` are natural logarithms, one per generated token where the backend gives them.
    ``finish_reason`` is ``stop``, ``length``, ``cancelled`` or ``deadline``. ``cached_tokens`` of the prompt
    were known from the request before and cost nothing. The worker fills in the times (seconds) and whether
    a schema that was asked for is kept (``valid``).
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    logprobs: tuple[float, ...] = ()
    cached_tokens: int = 0
    run_s: float = 0.0
    first_text_s: float = 0.0
    valid: bool = True

    @property
    def ended(self) -> bool:
        """Whether its author ended it, or the room for it did; what was cut off says nothing of the whole."""
        return self.finish_reason in ("stop", "length")

    @property
    def prompt_tok_s(self) -> float | None:
        """Prompt tokens read a second; None where too few were read to tell the rate from the start-up."""
        read = self.prompt_tokens - self.cached_tokens
        return read / self.first_text_s if self.first_text_s and read >= ENOUGH_TOKENS else None

    @property
    def generate_tok_s(self) -> float | None:
        """Tokens a second after the first; None for answers too short to tell."""
        seconds = self.run_s - self.first_text_s
        enough = seconds > 0 and self.completion_tokens > ENOUGH_TO_WRITE
        return (self.completion_tokens - 1) / seconds if enough else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Text as it is made. ``draft`` counts attempts from 0: a new number starts the answer anew."""

    draft: int
    model: str
    text: str
