"""Kernels on a fresh SAGE_HOME, whose models are fakes in real worker processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import psutil
import pytest

from sage.config import ModelSettings, SelectorSettings, Settings
from sage.events import EventBus
from sage.kernel.sense import Request
from sage.kernel.session import open_kernel
from sage.kernel.tick import Kernel
from sage.types import Message
from sage.zoo.card import ModelCard

STEADY = SelectorSettings(explore_share=0.0)
"""Nothing is tried by chance: the same request gets the same answer."""


@pytest.fixture(scope="session")
def make_card() -> Callable[..., ModelCard]:
    """A model that costs next to nothing; what it does is its script."""

    def make(name: str, *, prior: float = 0.5, **changes: Any) -> ModelCard:
        script = changes.pop("script", {})
        values: dict[str, Any] = {
            "source": "package",
            "sha256": "",
            "bytes": 1_000_000,
            "license": "none",
            "context_length": 2048,
            "backend": "fake",
            "prior": {"*": prior},
            "script": script,
        }
        return ModelCard(name=name, **{**values, **changes})

    return make


@pytest.fixture
def make_kernel(home: Path) -> Iterator[Callable[..., Kernel]]:
    """``make(*cards, settings=..., bus=...)``: closed when the test ends."""
    with ExitStack() as stack:

        def make(
            *cards: ModelCard,
            settings: Settings | None = None,
            bus: EventBus | None = None,
            **models: float,
        ) -> Kernel:
            limits = ModelSettings(**{"stop_timeout_s": 0.5, **models})  # type: ignore[arg-type]
            return stack.enter_context(
                open_kernel(
                    home=home,
                    settings=settings or Settings(models=limits, selector=STEADY),
                    catalog={card.name: card for card in cards},
                    bus=bus,
                )
            )

        yield make


@pytest.fixture(scope="session")
def ask() -> Callable[..., Request]:
    """``ask(prompt, **changes)``: a request of session ``s``."""

    def make(prompt: str = "Who wrote Hamlet?", **changes: Any) -> Request:
        values = {"messages": (Message(role="user", content=prompt),), "session": "s", **changes}
        return Request(**values)

    return make


@pytest.fixture
def accounts(home: Path) -> Callable[[], dict[str, int]]:
    """Micro-ATP by account, as they stand in the file."""

    def read() -> dict[str, int]:
        connection = apsw.Connection(str(home / "sage.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return dict(connection.execute("SELECT name, balance FROM accounts"))
        finally:
            connection.close()

    return read


@pytest.fixture
def sound_and_tidy(home: Path, accounts: Callable[[], dict[str, int]]) -> Iterator[None]:
    """After the test, whatever it did: the ledger's sum is 0, no ATP are held, no worker is left."""
    yield
    balances: dict[str, int] = {}
    with contextlib.suppress(apsw.NotADBError, apsw.CantOpenError):
        balances = accounts()
    assert sum(balances.values()) == 0
    assert [name for name, balance in balances.items() if balance < 0 and name != "world"] == []
    assert [name for name in balances if name.startswith("held:")] == []
    assert psutil.Process().children(recursive=True) == []
