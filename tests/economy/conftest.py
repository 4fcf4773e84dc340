"""Makers of values: plausible ones, of which a test states those that matter."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from sage.economy.context import Codebook, Context, View
from sage.economy.trust import TrustBook
from sage.types import Candidate, Message, Outcome, Situation

KINDS = ("fact", "math", "chat")
TOPICS = 8


@pytest.fixture(scope="session")
def make_candidate() -> Callable[..., Candidate]:
    """A candidate that meets every need: free to load, one second to run."""

    def make(name: str, **changes: object) -> Candidate:
        values: dict[str, object] = {
            "prior": {"*": 0.5},
            "capabilities": frozenset({"text"}),
            "context_length": 2048,
            "memory_bytes": 100_000_000,
            "resident": False,
            "load_bytes": 0,
            "est_load_s": 0.0,
            "est_run_s": 1.0,
        }
        return Candidate(name=name, **{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_situation() -> Callable[..., Situation]:
    """A short question of kind ``fact``."""

    def make(**changes: object) -> Situation:
        values: dict[str, object] = {
            "messages": (Message(role="user", content="Why?"),),
            "kind": "fact",
            "prompt_tokens": 10,
            "max_tokens": 64,
            "session": "s",
        }
        return Situation(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def codebook() -> Codebook:
    """Eight topics at right angles, and three kinds of work."""
    topics = View(name="topic", weight=2.0, size=TOPICS, centroids=np.eye(TOPICS, dtype=np.float32))
    return Codebook([topics, View(name="kind", weight=1.0, size=len(KINDS))])


@pytest.fixture(scope="session")
def place(codebook: Codebook) -> Callable[..., Context]:
    """The context of a topic and a kind; ``towards`` another topic to half."""

    def make(topic: int = 0, kind: str = "fact", *, towards: int | None = None) -> Context:
        vector = np.zeros(TOPICS)
        vector[topic] = 1.0
        if towards is not None:
            vector[towards] = 1.0
        vector /= np.linalg.norm(vector)
        return codebook.place({"topic": vector}, {"kind": KINDS.index(kind)})

    return make


@pytest.fixture(scope="session")
def make_book(codebook: Codebook) -> Callable[..., TrustBook]:
    """An empty book; times are in half-lives unless it says otherwise."""

    def make(origin: str = "here", **changes: object) -> TrustBook:
        values: dict[str, object] = {"half_life": 1.0, "prior_strength": 4.0}
        return TrustBook(codebook, origin=origin, **{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def told() -> Callable[..., Outcome]:
    """A verifier's word about candidate ``a``, each time a new event."""
    numbers = itertools.count()

    def make(quality: float, **changes: object) -> Outcome:
        values: dict[str, object] = {
            "event_id": f"event-{next(numbers)}",
            "turn_id": "turn",
            "candidate": "a",
            "kind": "fact",
            "source": "verifier",
            "at": 0.0,
        }
        return Outcome(quality=quality, **{**values, **changes})  # type: ignore[arg-type]

    return make
