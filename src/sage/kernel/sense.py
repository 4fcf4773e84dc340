"""From a request to a situation: what kind of work is this, and how big?

Owns: cleaning, features, the kind of work, the estimate of tokens. Must not know: any model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sage.economy.permission import dial_named
from sage.errors import UsageError
from sage.memory.passages import DEFAULT_NAMESPACE
from sage.memory.structure import structure
from sage.types import SCHEMA, Message, Situation
from sage.zoo.schema import check_schema

__all__ = ["KINDS", "Request", "asked_for", "clean", "count_tokens", "kind_of", "labels", "sense"]

KINDS = ("json", "code", "math", "classify", "rewrite", "fact", "chat")
"""Kinds of work as people and cards name them, in the order they are tried. Trust is kept by context."""

_SIGNS: Mapping[str, re.Pattern[str]] = {
    "code": re.compile(
        r"```|\bdef |\breturn\b.{0,80}[;:(]"
        r"|\b(python|javascript|rust|sql|regex|function|code|program|script|bug)\b",
        re.IGNORECASE,
    ),
    "math": re.compile(
        r"\d\s*[-+*/x\u00d7\u00f7^=]\s*\d"
        r"|\b(sum|product|add|plus|minus|times|divided|multiply|percent|how many|how much)\b.{0,80}\d"
        r"|\d.{0,80}\b(plus|minus|times|divided by|percent)\b",
        re.IGNORECASE,
    ),
    "classify": re.compile(
        r"\b(classify|sentiment|categor(y|ise|ize)|label)\b"
        r"|\b(positive or negative|true or false|yes or no)\b",
        re.IGNORECASE,
    ),
    "rewrite": re.compile(
        r"\b(opposite|synonym|translate|rewrite|rephrase|summari[sz]e|correct|shorten|plural)\b",
        re.IGNORECASE,
    ),
    "fact": re.compile(
        r"^\s*(who|what|when|where|which|why|how|is|are|was|were|do|does|did|can)\b|\?\s*$", re.IGNORECASE
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a caller asks. ``model`` pins one, or turns the dial (``sage:fast`` to ``sage:deep``), as ``dial``
    does; ``max_atp`` and ``max_usd`` are ceilings for one answer. ``namespace`` is whose memory is used.

    ``verify`` scores an answer in [0, 1] where that is possible. It teaches trust; it never helps to choose
    among drafts, so that it can be measured against.
    """

    messages: tuple[Message, ...]
    session: str
    namespace: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    deadline_s: float | None = None
    dial: float | None = None
    max_atp: float | None = None
    max_usd: float | None = None
    verify: Callable[[str], float] | None = None


def sense(
    request: Request, *, default_max_tokens: int, default_namespace: str = DEFAULT_NAMESPACE
) -> Situation:
    """Clean the text, tell the kind, estimate the size; the defaults are for what was not said.

    Raises:
        UsageError: there is nothing to answer, or the schema is none.
    """
    if request.schema is not None:  # found out later, it would have been paid for
        check_schema(request.schema)
    messages = tuple(Message(role=m.role, content=clean(m.content)) for m in request.messages)
    prompt = next((m.content for m in reversed(messages) if m.role == "user"), "")
    if not prompt.strip():
        raise UsageError("The prompt is empty.", mend='sage ask "What is the capital of France?"')
    kind = "json" if request.schema is not None else kind_of(prompt)
    return Situation(
        messages=messages,
        kind=kind,
        prompt_tokens=sum(count_tokens(m.content) for m in messages),
        max_tokens=request.max_tokens or default_max_tokens,
        session=clean(request.session),
        namespace=clean(request.namespace or default_namespace),
        needs=frozenset({"text"} if request.schema is None else {"text", SCHEMA}),
        schema=request.schema,
        temperature=request.temperature,
        seed=request.seed,
        stop=tuple(clean(text) for text in request.stop),
        deadline_s=request.deadline_s,
        max_atp=request.max_atp,
        max_usd=request.max_usd,
    )


def asked_for(request: Request, *, default_dial: float) -> tuple[str | None, float]:
    """The model that was named, if one was, and the setting of the dial.

    Raises:
        UsageError: the dial has no such setting.
    """
    turned = default_dial if request.dial is None else dial_named(str(request.dial))
    name, _, setting = (request.model or "").partition(":")
    if name == "sage":
        return None, dial_named(setting) if setting else turned
    return request.model, turned


def labels(situation: Situation) -> dict[str, int]:
    """What is told of the text by plain signs, as cells of the views that have no embedding."""
    other = bool(situation.needs - {"text", SCHEMA})
    form = structure(situation.prompt, schema=situation.schema is not None, modality=other)
    return {"structure": form, "kind": KINDS.index(situation.kind)}


def clean(text: str) -> str:
    """Text that can be stored and tokenised: lone surrogates (half of a character, from a broken paste or
    an undecodable argument) become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def kind_of(prompt: str) -> str:
    """The kind of work, from plain signs in the text; ``chat`` where there is none."""
    head = prompt[:4000]  # what is asked stands at the beginning or is repeated there
    return next((kind for kind, signs in _SIGNS.items() if signs.search(head)), "chat")


def count_tokens(text: str) -> int:
    """Tokens, roughly, before a tokenizer is at hand: four ASCII characters make one, and other
    scripts up to one and a half for each character in the small vocabularies of small models."""
    plain = len(text.encode("ascii", "ignore"))
    return round(plain / 4 + (len(text) - plain) * 1.5) + 4
