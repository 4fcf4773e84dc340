"""Hosts of fake models for the tests: cards, questions, and a host whose memory the test decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sage.clock import FakeClock
from sage.config import ModelSettings
from sage.errors import SageError
from sage.events import Event, EventBus, LoadFinished, LoadStarted, Unloaded
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.host import Answer, Host

from . import workers

GB = 1_000_000_000
REQUEST = workers.REQUEST

LONG = GenerationRequest(messages=(Message(role="user", content="hello " * 2100),))
"""More than half of the context."""


def card(name: str, **script: Any) -> ModelCard:
    return ModelCard(
        name=name,
        source="fake",
        backend="fake",
        sha256="",
        bytes=1000,
        license="MIT",
        context_length=4096,
        script=script,
    )


def wait_until(what: Callable[[], object]) -> None:
    assert workers.wait_until(lambda: bool(what()), 20.0)


class Zoo:
    """A host with a budget that the test sets and estimates that it makes; one that it does not make is 1 GB,
    far more than a model takes, and a new model counts with its estimate."""

    def __init__(self, home: Path) -> None:
        self.events: list[Event] = []
        self.budget = 10 * GB
        self.sizes: dict[str, int | SageError] = {}
        self.clock = FakeClock()
        bus = EventBus()
        bus.subscribe(self.events.append)
        self.host = Host(
            home,
            ModelSettings(load_timeout_s=20.0, stop_timeout_s=1.0, silence_timeout_s=20.0),
            free_bytes=lambda: self.budget - self.host.occupied_bytes(),
            estimate=self.estimate,
            bus=bus,
            clock=self.clock,
        )

    def estimate(self, card: ModelCard) -> int:
        size = self.sizes.get(card.name, GB)
        if isinstance(size, SageError):
            raise size
        return size

    def ask(
        self,
        card: ModelCard,
        on_text: Callable[[str], None] = lambda _text: None,
        request: GenerationRequest = REQUEST,
        **more: Any,
    ) -> Answer:
        self.clock.advance(1.0)
        return self.host.ask(card, request, on_text, **more)

    def told(self) -> list[str]:
        names = {LoadStarted: "start", LoadFinished: "loaded", Unloaded: "gone"}
        return [f"{names[type(e)]} {e.model}" for e in self.events if isinstance(e, tuple(names))]

    def settled(self, *names: str) -> bool:
        """Nothing moves any more, and these are loaded."""
        models = self.host.picture.models
        return {m.name for m in models} == set(names) and all(m.phase == "loaded" for m in models)
