"""Conversations with questions about them: what recall is measured on.

Owns: the values, and reading the format of LoCoMo. Must not know: what is measured.

A file is a list of objects with ``sample_id``, ``conversation`` (``speaker_a``, ``speaker_b``,
``session_<n>`` with turns of ``speaker``, ``dia_id``, ``text`` and maybe ``blip_caption``,
``session_<n>_date_time``) and ``qa`` (objects of ``question``, ``category``, ``evidence``). Maharana and
others, "Evaluating Very Long-Term Conversational Memory of LLM Agents", ACL 2024.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sage.errors import UsageError
from sage.memory.passages import Said

__all__ = ["Conversation", "Question", "read_conversations"]

CATEGORIES: Mapping[int, str] = MappingProxyType(
    {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
)
"""Category 5 has no answer in the conversation and is left out."""

_EVIDENCE = re.compile(r"D(\d+):0*(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """``evidence``: places in the conversation's messages, counted from 0."""

    text: str
    category: str
    evidence: frozenset[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """All that was said, in order, and questions about it. ``name`` serves as the namespace."""

    name: str
    said: tuple[Said, ...]
    questions: tuple[Question, ...]


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a file; questions without any evidence that exists are left out.

    Raises:
        UsageError: the file cannot be read as LoCoMo.
    """
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
        return [_conversation(sample) for sample in samples]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no file of LoCoMo's format ({type(error).__name__}: {error}).",
            mend="See the format: sage bench memory --help",
        ) from error


def _conversation(sample: Mapping[str, Any]) -> Conversation:
    talk, name = sample["conversation"], str(sample["sample_id"])
    numbers = sorted(int(key[8:]) for key in talk if re.fullmatch(r"session_\d+", key))
    said: list[Said] = []
    places: dict[tuple[int, int], int] = {}
    for number in numbers:
        at = _date(talk[f"session_{number}_date_time"])
        for order, turn in enumerate(talk[f"session_{number}"], start=1):
            places[number, order] = len(said)
            caption = turn.get("blip_caption")
            text = f"{turn['text']} [{caption}]" if caption else turn["text"]
            said.append(
                Said(namespace=name, session=f"{name}/{number}", speaker=turn["speaker"], at=at, text=text)
            )
    questions = []
    for each in sample["qa"]:
        marks = _EVIDENCE.findall(" ".join(each["evidence"]))
        evidence = frozenset(places[key] for a, b in marks if (key := (int(a), int(b))) in places)
        if each["category"] in CATEGORIES and evidence:
            category = CATEGORIES[each["category"]]
            questions.append(Question(text=each["question"], category=category, evidence=evidence))
    return Conversation(name=name, said=tuple(said), questions=tuple(questions))


def _date(text: str) -> float:
    plain = " ".join(text.split())
    return datetime.strptime(plain, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp()
