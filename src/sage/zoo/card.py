"""What a model is, before it is loaded.

Owns: the card and where its figures come from. Must not know: how files arrive or how models run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sage.types import SCHEMA

__all__ = ["EMBEDDING", "Figure", "ModelCard", "PromptStyle", "Provenance", "WheelMember"]

Provenance = Literal["measured", "published", "unknown"]

EMBEDDING = "onnx_embedding"
"""The backend of a model that turns texts into vectors inside SAGE's own process. It never answers, so no
worker runs it and it is no candidate; its file is an ONNX model with a tokenizer behind it, not a GGUF."""

PromptStyle = Literal["chat", "qa"]
"""``chat``: the file's own chat template. ``qa``: a base model, asked by a question-and-answer text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number on a card, and who says so."""

    value: float
    provenance: Provenance = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelMember:
    """A file, or one part of a file, inside a wheel of the package index. ``bytes`` is its size unpacked."""

    package: str
    version: str
    member: str
    bytes: int
    wheel_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """Identity, origin and expectations of one model.

    ``source`` is ``package``, ``hf:REPO/FILE`` (one file), ``hf:REPO`` (a folder), ``file:PATH`` (copied in),
    ``path:PATH`` (a file or folder used where it lies), ``openai:URL#MODEL`` (a server), ``unpublished``
    (who has the weights says where they lie: ``sage models discover --add``) or ``fake``; a package's
    ``members`` are joined in order. ``sha256`` and ``bytes`` describe the finished file; where the hub serves
    it they may be left out (empty, 0) and are pinned by the first pull. ``prior`` maps a kind of work to
    quality in [0, 1] (``*`` for any); ``rates`` holds ``prompt_tok_s``, ``generate_tok_s``, ``load_s``,
    ``rss_bytes``, ``disk_bytes`` where ``bytes`` is not known, and ``prompt_usd_mtok`` and
    ``generate_usd_mtok`` (USD for a million tokens) where they are billed. ``opt_in`` models are pulled only
    by name, with ``notice`` shown; its first sentence says what matters.

    ``parameters`` counts weights, ``active_parameters`` those one token uses, ``bits`` is what is claimed for
    each; 0 where unknown. A LoRA adapter names the card of its ``base``. ``requires`` are Python modules it
    cannot run without; ``unfit`` says why it cannot be run as published, and nothing tries. ``key_env`` names
    the environment variable that holds a server's key. ``script`` is for the fake backend.
    """

    name: str
    source: str
    sha256: str
    bytes: int
    license: str
    context_length: int
    backend: str = "llama_cpp"
    family: str = ""
    members: tuple[WheelMember, ...] = ()
    capabilities: frozenset[str] = frozenset({"text"})
    prompt_style: PromptStyle = "chat"
    prior: Mapping[str, float] = field(default_factory=dict)
    prior_provenance: Provenance = "unknown"
    rates: Mapping[str, Figure] = field(default_factory=dict)
    default: bool = False
    opt_in: bool = False
    notice: str = ""
    parameters: int = 0
    active_parameters: int = 0
    bits: float = 0.0
    base: str = ""
    requires: tuple[str, ...] = ()
    unfit: str = ""
    key_env: str = ""
    script: Mapping[str, Any] = field(default_factory=dict)

    @property
    def abilities(self) -> frozenset[str]:
        """``capabilities``, and what its backend adds: torch alone holds no answer to a schema."""
        return self.capabilities if self.backend == "transformers" else self.capabilities | {SCHEMA}

    @property
    def warning(self) -> str:
        """The first sentence of ``notice``, for a line beneath a table."""
        return re.split(r"(?<=[.!?])\s", self.notice, maxsplit=1)[0]

    @property
    def remote(self) -> bool:
        """Whether a server runs it: there is no file, and no weight is in this machine's hands."""
        return self.source.startswith("openai:")

    def room(self, context: int) -> int:
        """Tokens of context it has where models are loaded with ``context``; a server decides for itself."""
        return self.context_length if self.remote else min(context, self.context_length)

    @property
    def expected_bytes(self) -> int:
        """Size on disk as far as anybody has said: exact, else published, else weights x bits; 0: unknown."""
        published = self.rates.get("disk_bytes")
        return self.bytes or int(published.value if published else self.parameters * self.bits / 8)

    @property
    def filename(self) -> str:
        """The one file under ``SAGE_HOME/models/``."""
        return f"{self.name}.{'onnx-tokenizer' if self.backend == EMBEDDING else 'gguf'}"
