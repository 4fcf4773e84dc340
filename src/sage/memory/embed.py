"""From texts to vectors, by whatever this machine has for it.

Owns: the protocol, and which embedder is opened. Must not know: how one works, what the vectors are for.

Words and characters are always there. The sentence model joins them where its libraries and its file are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sage.memory.hashing import HashingEmbedder
from sage.memory.minilm import MiniLM, why_no_minilm

__all__ = ["Embedder", "open_embedder", "why_no_minilm"]

Floats = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Vectors of texts, in one or more views.

    ``name`` tells embedders apart. ``views`` maps the name of each view to its width.
    """

    @property
    def name(self) -> str: ...

    @property
    def views(self) -> Mapping[str, int]: ...

    def embed(self, texts: Sequence[str]) -> dict[str, Floats]:
        """For each view (n, width): unit rows, or zero rows for texts that hold nothing. Never NaN.

        Raises:
            SageError: the embedder cannot work here.
        """
        ...


class _Joined:
    """The views of several embedders, side by side."""

    def __init__(self, *parts: Embedder) -> None:
        self._parts = parts
        self.name = "+".join(part.name for part in parts)
        self.views: Mapping[str, int] = {view: width for part in parts for view, width in part.views.items()}

    def embed(self, texts: Sequence[str]) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for part in self._parts:
            found |= part.embed(texts)
        return found


def open_embedder(home: Path, minilm: MiniLM | None = None) -> Embedder:
    """``hashing+minilm`` where libraries and weights are there, else ``hashing``; nothing is loaded yet.

    ``why_no_minilm(home)`` says what is missing. ``minilm`` is used where there is one already: two would
    take twice the memory.
    """
    if why_no_minilm(home):
        return HashingEmbedder()
    return _Joined(HashingEmbedder(), minilm or MiniLM(home))
