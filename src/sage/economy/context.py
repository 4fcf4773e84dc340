"""Where a piece of work lies: the cells of a codebook that it belongs to, and how much.

Owns: codebooks (a fixed partition per view of a text), membership in their cells, fitting of centroids.
Must not know: texts, embedders, files; it sees vectors.

A view is one way to look at a text: an embedding, cut into cells by centroids, or a one-hot label. Membership
is soft (a query lies between topics: hard cells lose 0.3 to 0.8 points on hashed views) and fixed once the
codebook is made, so that evidence per cell stays a plain sum, which can be merged and can fade.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["Codebook", "Context", "View", "fit_centroids"]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

NEAREST = 4
"""Cells of one embedding view that a query belongs to."""

TEMPERATURE = 0.05
"""Of the softmax over cosines that makes memberships. Chosen by cross-validation: docs/lab.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One way to look at a text, cut into ``size`` cells.

    ``centroids`` (size, width), unit rows, for an embedding; None for a label given as a cell number.
    ``weight`` is how much the view counts when beliefs are read, against the other views.
    """

    name: str
    weight: float
    size: int
    centroids: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Cells a piece of work belongs to.

    ``cells`` (n,) cell numbers; ``membership`` (n,) sums to 1 within each view: what learning adds;
    ``weight`` (n,) sums to 1 over all: what reading averages with. ``codebook`` is the id they belong to.
    """

    cells: npt.NDArray[np.intp]
    membership: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    codebook: str


class Codebook:
    """Views and their cells, numbered through. Frozen: its ``id`` names exactly these cells."""

    def __init__(self, views: Sequence[View]) -> None:
        self.views = tuple(views)
        self.cells = sum(view.size for view in self.views)
        """Cells of all views together."""
        total = sum(view.weight for view in self.views)
        if not total > 0.0 or any(view.weight < 0.0 for view in self.views):
            raise ValueError(
                "a codebook needs a view that counts, and none that counts for less than nothing"
            )
        for view in self.views:
            if view.centroids is not None and len(view.centroids) != view.size:
                raise ValueError(
                    f"view {view.name!r} has {len(view.centroids)} centroids for {view.size} cells"
                )
        self._weight = np.concatenate([np.full(view.size, view.weight / total) for view in self.views])
        """How much each cell counts in reading."""

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits over names, weights, sizes and centroids."""
        digest = hashlib.sha256()
        for view in self.views:
            digest.update(f"{view.name}:{view.weight}:{view.size};".encode())
            if view.centroids is not None:
                digest.update(np.ascontiguousarray(view.centroids, np.float32).tobytes())
        return digest.hexdigest()[:16]

    def first_cell(self, name: str) -> int:
        """The number of a view's first cell."""
        number = 0
        for view in self.views:
            if view.name == name:
                return number
            number += view.size
        raise KeyError(name)

    def alone(self, view: str, label: int) -> Context:
        """The context of one cell and nothing else: how beliefs of a label are read.

        Raises:
            ValueError: there is no such cell.
        """
        size = next((each.size for each in self.views if each.name == view), 0)
        if not 0 <= label < size:
            raise ValueError(f"view {view!r} has no label {label}")
        cell = np.array([self.first_cell(view) + label])
        return Context(cells=cell, membership=np.ones(1), weight=np.ones(1), codebook=self.id)

    def context(self, cells: Ints, membership: Floats) -> Context:
        """A context from its cells and memberships, as they were stored.

        Raises:
            ValueError: cells that this codebook does not have, or one twice.
        """
        at, share = np.asarray(cells).astype(np.intp), np.asarray(membership).astype(np.float64)
        if at.shape != share.shape or len(set(at.tolist())) < len(at):
            raise ValueError("a context needs cells of its own and one membership for each")
        if not ((at >= 0) & (at < self.cells)).all() or not np.isfinite(share).all():
            raise ValueError(f"a context of this codebook lies in its {self.cells} cells")
        return Context(cells=at, membership=share, weight=share * self._weight[at], codebook=self.id)

    def place(self, vectors: Mapping[str, Floats], labels: Mapping[str, int]) -> Context:
        """The cells of one text, from its unit vector or label in each view.

        Raises:
            ValueError: a vector of the wrong width or not finite, or a label out of range.
        """
        rows = {name: vector[None, :] for name, vector in vectors.items()}
        return self.place_all(rows, {name: np.array([label]) for name, label in labels.items()})[0]

    def place_all(self, vectors: Mapping[str, Floats], labels: Mapping[str, Ints]) -> list[Context]:
        """:meth:`place` for many texts at once: vectors (n, width), labels (n,)."""
        cells, memberships = [], []
        first = 0
        for view in self.views:
            if view.centroids is None:
                at = np.asarray(labels[view.name])[:, None]
                share = np.ones(at.shape)
                if not ((at >= 0) & (at < view.size)).all():
                    raise ValueError(f"a label of view {view.name!r} is not in 0..{view.size - 1}")
            else:
                at, share = _memberships(view.name, view.centroids, vectors[view.name])
            cells.append(at + first)
            memberships.append(share)
            first += view.size
        at, share = np.hstack(cells), np.hstack(memberships)
        weights = share * self._weight[at]
        rows = zip(at, share, weights, strict=True)
        return [Context(cells=c, membership=m, weight=w, codebook=self.id) for c, m, w in rows]


def _memberships(
    view: str, centroids: npt.NDArray[np.float32], vectors: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """(n, width) unit rows -> numbers (n, NEAREST) of the nearest cells, and shares that sum to 1."""
    size, width = centroids.shape
    if vectors.shape[1] != width:
        raise ValueError(f"view {view!r} takes vectors of {width} numbers, got {vectors.shape[1]}")
    cosine = (vectors @ centroids.T).astype(np.float64)
    if not np.isfinite(cosine).all():
        raise ValueError(f"a vector of view {view!r} holds numbers that are not finite")
    nearest = min(NEAREST, size)
    at = np.argpartition(cosine, -nearest, axis=1)[:, -nearest:]
    value = np.take_along_axis(cosine, at, 1)
    share = np.exp((value - value.max(1, keepdims=True)) / TEMPERATURE)
    return at, share / share.sum(1, keepdims=True)


def fit_centroids(vectors: Floats, size: int, *, seed: int, rounds: int = 10) -> npt.NDArray[np.float32]:
    """Centroids (size, width) of unit rows by spherical k-means, started by k-means++ (Arthur and
    Vassilvitskii 2007). Fewer rows than ``size`` give as many centroids as there are rows.

    Raises:
        ValueError: no rows, or no cells.
    """
    random = np.random.default_rng(seed)
    vectors = np.asarray(vectors, np.float32)
    if len(vectors) == 0 or size < 1:
        raise ValueError(f"{len(vectors)} vectors cannot be cut into {size} cells")
    size = min(size, len(vectors))
    centroids = np.empty((size, vectors.shape[1]), np.float32)
    centroids[0] = vectors[random.integers(len(vectors))]
    distance = 1.0 - vectors @ centroids[0]
    for number in range(1, size):
        odds = np.maximum(distance, 1e-12).astype(np.float64)
        centroids[number] = vectors[random.choice(len(vectors), p=odds / odds.sum())]
        distance = np.minimum(distance, 1.0 - vectors @ centroids[number])
    for _ in range(rounds):
        nearest = (vectors @ centroids.T).argmax(1)
        for number in np.unique(nearest):
            mean = vectors[nearest == number].sum(0)
            centroids[number] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return centroids
