"""SNARC salience: how much a message deserves attention and a place in memory. Pure.

Owns: the definition of the five dimensions, the weights.
Must not know: databases, where readings come from (:mod:`sage.memory.familiar`), what is done with a message.

Every dimension goes from 0 to 1 and is computed from what was read, never set:

- surprise: how wrong the prediction was. Memory predicts a message's words by how many messages had them; the
  prediction's error is the sum over its words of log((messages + 1) / (messages with the word + 1)), in nats,
  against ``USUAL_NATS``. Where a quality was expected and another one came, their distance, if that is more.
- novelty: the distance to memory: the mean of new words (against ``USUAL_NEW``) and of the
  share of its words' weight that the nearest message has not.
- arousal: magnitude and urgency: the mean of what concerns the speaker, of time and urgency, of who and how
  many, and of length.
- reward: what such a thing brought before: the mean quality of outcomes nearby (0.5 where there are none) and
  whether it was asked for. Praise has no part in it.
- conflict: the disagreement of candidates' answers, or the closeness to what is remembered of a message that
  says something changed or is not so, whichever is more.

Why these differ from the origin's is in docs/adr/0013-salience.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sage.memory.lexical import glance

__all__ = ["DIMENSIONS", "Context", "Reading", "Salience", "Weights", "appraise", "total"]

DIMENSIONS = ("surprise", "novelty", "arousal", "reward", "conflict")

USUAL_NATS, USUAL_NEW, LONG = 30.0, 2.0, 400.0
"""Where surprise and the share of new words are one half, and the characters of a message that is long."""

_OWN = re.compile(r"\b(?:i|i'm|i've|i'd|i'll|my|me|mine|we|our|us)\b")
_URGENT = re.compile(r"\b(?:urgent(?:ly)?|asap|immediately|emergency|deadline|due|hurry|right now|at once)\b")
_NUMBER = re.compile(r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|twice)\b")
_CHANGE = re.compile(
    r"\b(?:actually|instead|no longer|anymore|not true|wrong|changed?|moved|switched|cancell?ed|quit"
    r"|used to|rather|now|never|correction)\b|n't\b|\bnot\b"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What memory has to say of a message: ``nats``, its words' surprise, and the ``rarest`` of them, the
    number of ``new`` words, how ``near`` (0..1) the ``nearest`` message is (None: none has any of its words).
    Where there are sentence vectors, ``near`` may be their cosine instead of the share of words."""

    nats: float = 0.0
    new: int = 0
    near: float = 0.0
    nearest: int | None = None
    rarest: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What else is known: whether the message was ``asked`` for; the mean quality of outcomes ``nearby``; the
    quality ``expected`` and ``found``; the share of candidates' answers that ``disagree``: 0..1 or None."""

    asked: bool = False
    nearby: float | None = None
    expected: float | None = None
    found: float | None = None
    disagree: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Of the dimensions, in logits, and of nothing at all: total = 1 / (1 + exp(-(bias + sum))).

    The usual ones are plain guesses: all alike, and a bias by which one message in four is above one half.
    """

    surprise: float = 3.0
    novelty: float = 3.0
    arousal: float = 3.0
    reward: float = 3.0
    conflict: float = 3.0
    bias: float = -7.0

    def values(self) -> tuple[float, ...]:
        """In the order of ``DIMENSIONS``, without the bias."""
        return (self.surprise, self.novelty, self.arousal, self.reward, self.conflict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Salience:
    """The five dimensions and what they come to."""

    surprise: float
    novelty: float
    arousal: float
    reward: float
    conflict: float
    total: float

    def values(self) -> tuple[float, ...]:
        """In the order of ``DIMENSIONS``, without the total."""
        return (self.surprise, self.novelty, self.arousal, self.reward, self.conflict)


def appraise(text: str, reading: Reading, context: Context, weights: Weights) -> Salience:
    """The salience of a message. See the module for what each number means."""
    plain = text.lower().replace("\u2019", "'")
    missed = 0.0
    if context.expected is not None and context.found is not None:
        missed = _share(abs(context.expected - context.found))
    nearby = 0.5 if context.nearby is None else _share(context.nearby)
    contradicts = _share(reading.near) if _CHANGE.search(plain) else 0.0
    values = (
        max(reading.nats / (reading.nats + USUAL_NATS), missed),
        (reading.new / (reading.new + USUAL_NEW) + 1.0 - _share(reading.near)) / 2 if plain.strip() else 0.0,
        _arousal(text, plain),
        (nearby + context.asked) / 2,
        max(contradicts, _share(context.disagree or 0.0)),
    )
    surprise, novelty, arousal, reward, conflict = values
    return Salience(
        surprise=surprise,
        novelty=novelty,
        arousal=arousal,
        reward=reward,
        conflict=conflict,
        total=total(values, weights),
    )


def total(values: Sequence[float], weights: Weights) -> float:
    """What the dimensions come to under these weights, 0..1."""
    logit = weights.bias + sum(w * value for w, value in zip(weights.values(), values, strict=True))
    return 1.0 / (1.0 + math.exp(-logit))


def _arousal(text: str, plain: str) -> float:
    seen = glance(text)
    own = len(_OWN.findall(plain))
    who = (seen.names / (seen.names + 1) + (_NUMBER.search(plain) is not None)) / 2
    length = min(1.0, math.log1p(len(text)) / math.log1p(LONG))
    return (own / (own + 1) + (seen.time or _URGENT.search(plain) is not None) + who + length) / 4


def _share(value: float) -> float:
    """Within 0..1; what is no number counts as nothing."""
    return min(1.0, max(0.0, value)) if value == value else 0.0
