"""What runs a model. One small protocol; each backend is one file beside this one.

Owns: the protocol and the table of names. Must not know: processes, budgets, or who asks.
An engine lives inside a worker process (``sage.zoo.worker``), so it may crash, hang or be killed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sage.errors import BackendMissing, did_you_mean
from sage.types import Completion, GenerationRequest
from sage.zoo.card import PromptStyle

__all__ = ["BACKENDS", "Engine", "EngineOptions", "OnDevice", "OnText", "Score", "Scorer", "open_engine"]

OnText = Callable[[str], bool]
"""Called with each piece of text as it is made; returns True to stop the generation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """How to load one model. ``extra`` holds what only this backend reads."""

    path: Path
    context: int
    threads: int
    prompt_style: PromptStyle = "chat"
    extra: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """One loaded model. Loading happens in the constructor and may raise ``LoadFailed``."""

    def generate(self, request: GenerationRequest, on_text: OnText) -> Completion:
        """Answer. Raises ``ContextTooLong`` or ``UsageError`` for a request it cannot serve."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How likely a text is after another: the sum of its tokens' natural log probabilities, and their number.

    A token that lies on the border belongs to the continuation.
    """

    logprob: float
    tokens: int


@runtime_checkable
class Scorer(Protocol):
    """An engine that can also say how likely given texts are."""

    def score(
        self, prompt: str, continuations: Sequence[str], should_stop: Callable[[], bool]
    ) -> tuple[Score, ...]:
        """One score for each continuation of ``prompt``, which is read as it stands: no chat template.

        Raises:
            ContextTooLong, UsageError: it cannot be served. Interrupted: ``should_stop`` turned true.
        """
        ...


@runtime_checkable
class OnDevice(Protocol):
    """An engine that may compute on a GPU."""

    def device_bytes(self) -> int:
        """Bytes that it holds on a GPU and that the system does not count to this process; else 0."""
        ...


BACKENDS = {
    "fake": ("sage.zoo.backends.fake", "FakeEngine"),
    "llama_cpp": ("sage.zoo.backends.llama_cpp", "LlamaCppEngine"),
    "openai_http": ("sage.zoo.backends.openai_http", "OpenAIHttpEngine"),
    "transformers": ("sage.zoo.backends.transformers", "TransformersEngine"),
}
EXTRAS = {"transformers": "[neural]"}
"""The extra of the package that brings a backend's libraries, where they are not in the base install."""


def open_engine(backend: str, options: EngineOptions) -> Engine:
    """Import the backend and load the model; slow, so it runs in the worker process.

    Raises:
        BackendMissing: no such backend, or its library is not installed.
        LoadFailed: the library refused the file.
    """
    import importlib

    if backend not in BACKENDS:
        raise BackendMissing(f"No backend {backend!r}.{did_you_mean(backend, BACKENDS)}")
    module, name = BACKENDS[backend]
    try:
        engine: Engine = getattr(importlib.import_module(module), name)(options)
    except ImportError as error:
        raise BackendMissing(
            f"The backend {backend!r} needs {error.name or error}",
            mend=f"pip install 'sage-kernel{EXTRAS.get(backend, '')}'",
        ) from error
    return engine
