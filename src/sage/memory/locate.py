"""From a text to its context, by the embedder and the codebook of this machine.

Owns: which text stands for a piece of work, and putting the two together.
Must not know: what a context is used for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sage.economy.context import Codebook, Context
from sage.errors import SageError
from sage.memory.codebook import load_codebook
from sage.memory.embed import Embedder, open_embedder
from sage.memory.hashing import HashingEmbedder
from sage.memory.minilm import MiniLM

__all__ = ["Locator", "open_locator", "telling_text"]

SHORT = 60
"""Characters below which a message says too little by itself: "and in Spanish?" needs what came before."""


class Locator:
    """Places texts in the cells of one codebook."""

    def __init__(self, embedder: Embedder, codebook: Codebook) -> None:
        self._embedder = embedder
        self.codebook = codebook

    def locate(self, text: str, labels: Mapping[str, int]) -> Context:
        """The context of one text. ``labels`` are the cells of the views without centroids."""
        return self.locate_all([text], [labels])[0]

    def locate_all(self, texts: Sequence[str], labels: Sequence[Mapping[str, int]]) -> list[Context]:
        """:meth:`locate` for many texts at once, which is quicker."""
        columns = {name: np.array([row[name] for row in labels]) for name in labels[0]} if labels else {}
        return self.codebook.place_all(self._embedder.embed(texts), columns) if texts else []


def open_locator(home: Path, minilm: MiniLM | None = None) -> Locator:
    """What this machine has: with MiniLM (this one, where there is one) where it was pulled and runs, else
    words and characters alone."""
    embedder = open_embedder(home, minilm)
    try:
        embedder.embed(["Does it run?"])  # a library may be installed and not load
    except SageError:
        embedder = HashingEmbedder()
    return Locator(embedder, load_codebook(embedder))


def telling_text(prompt: str, before: Sequence[str]) -> str:
    """The prompt; where it is short, with the question before it in front."""
    return f"{before[-1]}\n{prompt}" if before and len(prompt) < SHORT else prompt
