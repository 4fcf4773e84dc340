"""Texts as vectors, made once: what every policy sees of a question, and the disk that remembers it.

Owns: embedding of a whole data set with a bounded cache in SAGE_HOME, and codebooks fitted on part of it.
Must not know: scores, policies.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sage.economy.context import Codebook, Context
from sage.errors import BackendMissing
from sage.memory import minilm
from sage.memory.codebook import VIEW_WEIGHTS
from sage.memory.structure import structure

__all__ = ["CACHE_BYTES", "TextEmbedder", "Views", "embed_texts", "open_named_embedder"]

Vectors = npt.NDArray[np.float32]

HASHING = "1"
"""Version of the vectors of :mod:`sage.memory.hashing`: raise it when they change."""

MAKE = f"hashing {HASHING}, minilm {minilm.SHA256} {minilm.MAX_TOKENS} tokens"
"""What vectors depend on besides the text and the embedder's name."""

CACHE_BYTES = 1_000_000_000
"""Most that embeddings may take on disk; the oldest go first. 8,401 texts take about 47 MB."""


PIECE = 500
"""Texts that are embedded at once: about five seconds with MiniLM on two cores."""


class TextEmbedder(Protocol):
    """Part of :class:`sage.memory.embed.Embedder` that a benchmark needs."""

    @property
    def name(self) -> str:
        """Tells embedders apart whose vectors differ."""
        ...

    def embed(self, texts: Sequence[str]) -> Mapping[str, Vectors]:
        """View name -> (texts, width) unit rows."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """A data set as its vectors: view name -> (texts, width) unit rows; ``structures`` (texts,).

    ``joined`` (texts, width of all views): unit rows, what peers see. A view's share of a cosine is its
    weight in SAGE's codebook, so that all read the same mixture.
    """

    embedder: str
    vectors: Mapping[str, Vectors]
    structures: npt.NDArray[np.intp]
    joined: Vectors

    def then(self, other: Views) -> Views:
        """Both data sets, one after the other."""
        return Views(
            embedder=self.embedder,
            vectors={name: np.concatenate([v, other.vectors[name]]) for name, v in self.vectors.items()},
            structures=np.concatenate([self.structures, other.structures]),
            joined=np.concatenate([self.joined, other.joined]),
        )

    def part(self, rows: npt.NDArray[np.intp]) -> dict[str, Vectors]:
        """The vectors of some texts."""
        return {name: vectors[rows] for name, vectors in self.vectors.items()}

    def place(self, codebook: Codebook) -> list[Context]:
        """The cells of every text. Kinds of work are not recorded in the data: all are 0."""
        labels = {"structure": self.structures, "kind": np.zeros_like(self.structures)}
        return codebook.place_all(self.vectors, labels)


def open_named_embedder(home: Path, name: str) -> TextEmbedder:
    """``auto`` takes the best there is, ``hash`` needs nothing, ``minilm`` must be there.

    Raises:
        BackendMissing: ``minilm`` was asked for and cannot be had.
    """
    from sage.memory.embed import open_embedder, why_no_minilm
    from sage.memory.hashing import HashingEmbedder

    if name == "hash":
        return HashingEmbedder()
    if name == "minilm" and (why := why_no_minilm(home)):
        raise BackendMissing(f"MiniLM cannot be used: {why}", mend="Use --embedder hash, or mend it")
    return open_embedder(home)


def embed_texts(
    texts: Sequence[str], embedder: TextEmbedder, home: Path, *, progress: Callable[[str], None]
) -> Views:
    """Embed every text, or read what an earlier run made of the same texts."""
    digest = hashlib.sha256(f"{embedder.name}; {MAKE}".encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    path = home / "cache" / "embeddings" / f"{digest.hexdigest()[:32]}.npz"
    vectors = _read(path, len(texts))
    if vectors is None:
        vectors = _embed(texts, embedder, progress)
        _keep(path, vectors)
    structures = np.array([structure(text) for text in texts], np.intp)
    weights = VIEW_WEIGHTS[embedder.name]
    total = sum(weights[name] for name in vectors)
    joined = np.hstack([rows * np.float32(np.sqrt(weights[name] / total)) for name, rows in vectors.items()])
    return Views(embedder=embedder.name, vectors=vectors, structures=structures, joined=joined)


def _embed(
    texts: Sequence[str], embedder: TextEmbedder, progress: Callable[[str], None]
) -> dict[str, Vectors]:
    """In pieces: there is something to see, and Ctrl-C ends it within seconds."""
    pieces = []
    for start in range(0, len(texts), PIECE):
        progress(f"embedding with {embedder.name}: {start} of {len(texts)} texts")
        pieces.append(embedder.embed(texts[start : start + PIECE]))
    return {name: np.concatenate([p[name] for p in pieces]).astype(np.float32) for name in pieces[0]}


def _read(path: Path, rows: int) -> dict[str, Vectors] | None:
    """What is kept there, or None where nothing usable is."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            vectors = {name: np.asarray(file[name], np.float32) for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    whole = all(v.ndim == 2 and len(v) == rows and np.isfinite(v).all() for v in vectors.values())
    if not vectors or not whole:
        return None
    os.utime(path)  # the newest use counts, not the first
    return vectors


def _keep(path: Path, vectors: Mapping[str, Vectors]) -> None:
    """Write whole or not at all, then remove the oldest above the limit. A full disk costs only time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            try:
                np.savez(file, allow_pickle=False, **vectors)
                file.close()
                os.replace(file.name, path)
            finally:
                Path(file.name).unlink(missing_ok=True)
        kept = sorted(path.parent.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
        total = 0
        for old in kept:
            total += old.stat().st_size
            if total > CACHE_BYTES and old != path:
                old.unlink()
    except OSError:
        return
