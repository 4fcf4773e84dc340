"""Which codebook goes with which embedder: the shipped one, one fitted on own texts, one from a file.

Owns: the views of a text and their weights, and the file form of a codebook.
Must not know: how texts become vectors, or what is learned about the cells.

Views come in this order: word, char, minilm (where there is one), structure, kind. Their weights were chosen
by cross-validation (docs/lab.md). ``kind`` weighs nothing: it is learned, so that trust can be shown by kind
of work, but the other views say the same more finely.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
import numpy.typing as npt

from sage.economy.context import Codebook, View, fit_centroids
from sage.errors import UnsafeFile
from sage.memory.embed import Embedder
from sage.memory.structure import STRUCTURES

__all__ = ["LABELS", "VIEW_WEIGHTS", "fit_codebook", "load_codebook", "read_codebook", "save_codebook"]

Floats = npt.NDArray[np.floating]

VIEW_WEIGHTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "hashing": {"word": 1.0, "char": 1.0, "structure": 2.0, "kind": 0.0},
        "hashing+minilm": {"word": 1.0, "char": 1.0, "minilm": 4.0, "structure": 1.0, "kind": 0.0},
    }
)
"""How much each view counts, by the embedder's name."""

LABELS: Mapping[str, int] = MappingProxyType({"structure": STRUCTURES, "kind": 7})
"""Views that are labels, not vectors, and how many labels each has; ``kind`` counts sense's kinds of work."""

SHIPPED = "shipped.npz"
MAX_BYTES = 64 << 20
"""A codebook takes less than one; what unpacks to more is none."""

UNIT = 1e-3
"""How far from 1 the length of a centroid may be."""


def load_codebook(embedder: Embedder) -> Codebook:
    """The codebook that SAGE ships for this embedder: its centroids are those of the texts named in
    ``codebooks/README.md``, the same on every machine, so that what is learned on it can be merged."""
    with resources.files("sage.memory").joinpath("codebooks", SHIPPED).open("rb") as file:
        centroids = {view.name: view.centroids for view in _read(file, SHIPPED)}
    return _assemble({name: centroids[name] for name in embedder.views})


def fit_codebook(vectors: Mapping[str, Floats], *, k: int = 32, seed: int) -> Codebook:
    """``k`` centroids in each view of ``vectors``, unit rows (n, width); zero rows are left out.

    Raises:
        ValueError: a view without any row, or views that no known embedder has.
    """
    centroids = {}
    for name, rows in vectors.items():
        held = rows[np.abs(rows).sum(1) > 0.0]
        if not len(held):
            raise ValueError(f"view {name!r} has no row to fit centroids on")
        centroids[name] = fit_centroids(held, k, seed=seed)
    return _assemble(centroids)


def _assemble(centroids: Mapping[str, npt.NDArray[np.float32] | None]) -> Codebook:
    found = next((each for each in VIEW_WEIGHTS.values() if set(each) - set(LABELS) == set(centroids)), None)
    if found is None:
        raise ValueError(f"no weights are known for the views {', '.join(centroids)}")
    views = []
    for name, weight in found.items():
        at = centroids.get(name)
        size = LABELS[name] if at is None else len(at)
        views.append(View(name=name, weight=weight, size=size, centroids=at))
    return Codebook(views)


def save_codebook(path: Path, codebook: Codebook) -> None:
    """Write ``path``, all or nothing: names, weights and sizes of the views, and the centroids they have."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "names": np.array([view.name for view in codebook.views]),
        "weights": np.array([view.weight for view in codebook.views], "<f8"),
        "sizes": np.array([view.size for view in codebook.views], "<i8"),
    }
    for view in codebook.views:
        if view.centroids is not None:
            arrays[f"centroids.{view.name}"] = view.centroids.astype("<f4")
    staged = path.with_name(f".{path.name}.part")
    try:
        with staged.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def read_codebook(path: Path) -> Codebook:
    """What ``save_codebook`` wrote.

    Raises:
        UnsafeFile: the file is no codebook, or a broken one. OSError: there is none.
    """
    with path.open("rb") as file:
        return Codebook(_read(file, str(path)))


def _read(file: IO[bytes], where: str) -> list[View]:
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise UnsafeFile(f"{where} is too large for a codebook", mend="Fit it again.")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["names"]]
            weights, sizes = arrays["weights"].tolist(), arrays["sizes"].tolist()
            centroids = {name: arrays[f"centroids.{name}"] for name in names if f"centroids.{name}" in arrays}
        views = [
            View(name=name, weight=weight, size=size, centroids=_checked(name, size, centroids.get(name)))
            for name, weight, size in zip(names, weights, sizes, strict=True)
        ]
        if not views or not all(weight >= 0.0 for weight in weights) or not 0.0 < sum(weights) < np.inf:
            raise ValueError("its weights cannot be right")
    except (ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise UnsafeFile(f"{where} is not a codebook: {error}", mend="Fit it again.") from error
    return views


def _checked(
    name: str, size: int, centroids: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float32] | None:
    """The centroids as they are used: float32, finite unit rows, as many as the view says."""
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"view {name!r} has {size} cells")
    if centroids is None:
        return None
    rows = np.ascontiguousarray(centroids, np.float32)
    if rows.ndim != 2 or len(rows) != size:
        raise ValueError(f"view {name!r} has centroids of shape {rows.shape}, not {size} rows")
    if not bool((np.abs(np.linalg.norm(rows, axis=1) - 1.0) < UNIT).all()):
        raise ValueError(f"view {name!r} has centroids that are not of length 1")
    return rows
