"""Kernels on a fresh SAGE_HOME, whose models are fakes in real worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sage.config import ModelSettings, Settings
from sage.events import EventBus
from sage.kernel.session import open_kernel
from sage.kernel.tick import Kernel
from sage.zoo.card import ModelCard


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
                    settings=settings or Settings(models=limits),
                    catalog={card.name: card for card in cards},
                    bus=bus,
                )
            )

        yield make
