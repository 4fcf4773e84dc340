"""The stores of one ``SAGE_HOME``, as one value that steps of a tick are given.

Owns: which there are. Must not know: what is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.opinion_store import OpinionStore
from sage.memory.passages import PassageStore
from sage.memory.patterns import PatternMemory
from sage.memory.recall import Recall
from sage.memory.salient import SalientMemory
from sage.memory.trust_store import TrustStore
from sage.memory.verbatim import VerbatimStore

__all__ = ["Stores"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stores:
    """What one ``SAGE_HOME`` keeps: what was said, spent, trusted, shown by answers, and the memories that
    are read for a request. What is not ``kept`` ends with the process."""

    kept: bool
    db: Database
    turns: VerbatimStore
    passages: PassageStore
    recall: Recall
    salient: SalientMemory
    patterns: PatternMemory
    books: Books
    trust: TrustStore
    opinions: OpinionStore
