"""Makers of candidates and situations: plausible values, of which a test states those that matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sage.types import Candidate, Message, Situation


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
