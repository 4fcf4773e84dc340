"""Codebooks: the shipped one fits the embedders, own ones survive the file, broken files are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from sage.economy.context import Codebook, View
from sage.errors import UnsafeFile
from sage.kernel.sense import KINDS
from sage.memory.codebook import (
    LABELS,
    VIEW_WEIGHTS,
    fit_codebook,
    load_codebook,
    read_codebook,
    save_codebook,
)
from sage.memory.hashing import HASHED_VIEWS, HashingEmbedder
from sage.memory.minilm import MINILM_VIEWS

TEXTS = [f"question {i} about {topic}" for i in range(20) for topic in ("rice", "law", "loops", "moons")]


class Both(HashingEmbedder):
    """As far as a codebook asks."""

    name = "hashing+minilm"
    views = dict(HASHED_VIEWS) | dict(MINILM_VIEWS)


@pytest.fixture(scope="module")
def own() -> Codebook:
    return fit_codebook(HashingEmbedder().embed(TEXTS), k=8, seed=1)


def test_labels_count_what_they_label() -> None:
    assert LABELS["kind"] == len(KINDS)


@pytest.mark.parametrize("embedder", [HashingEmbedder(), Both()])
def test_the_shipped_codebook(embedder: HashingEmbedder) -> None:
    codebook = load_codebook(embedder)
    order = [view for view in ("word", "char", "minilm") if view in embedder.views]
    assert [view.name for view in codebook.views] == [*order, "structure", "kind"]
    assert {view.name: view.weight for view in codebook.views} == VIEW_WEIGHTS[embedder.name]
    for view in codebook.views:
        if view.centroids is not None:
            assert (
                view.centroids.shape
                == (32, embedder.views[view.name])
                == (view.size, view.centroids.shape[1])
            )
            np.testing.assert_allclose(np.linalg.norm(view.centroids, axis=1), 1.0, atol=1e-3)
    assert codebook.id == load_codebook(embedder).id


def test_shipped_centroids_tell_topics_apart() -> None:
    """Code and chat in Chinese share no nearest cell: the file holds what its README says."""
    codebook, embedder = load_codebook(HashingEmbedder()), HashingEmbedder()

    def nearest(text: str) -> int:
        context = codebook.place(
            {view: rows[0] for view, rows in embedder.embed([text]).items()}, {"structure": 0, "kind": 0}
        )
        char = context.cells >= codebook.first_cell("char")
        char &= context.cells < codebook.first_cell("structure")
        return int(context.cells[char][context.membership[char].argmax()])

    assert len({nearest("def add(a, b):\n    return a + b"), nearest("请解释一下光合作用。")}) == 2


def test_own_codebook_survives_the_file(own: Codebook, tmp_path: Path) -> None:
    save_codebook(tmp_path / "own.npz", own)
    again = read_codebook(tmp_path / "own.npz")
    assert again.id == own.id
    assert [view.size for view in again.views] == [8, 8, LABELS["structure"], LABELS["kind"]]
    assert [path.name for path in tmp_path.glob("*own*")] == ["own.npz"]  # nothing staged is left


def test_zero_rows_make_no_centroid() -> None:
    vectors = HashingEmbedder().embed(["", "one", "two", " "])
    codebook = fit_codebook(vectors, k=32, seed=1)
    assert codebook.views[0].size == 2
    with pytest.raises(ValueError, match="no row"):
        fit_codebook(HashingEmbedder().embed([""]), seed=1)
    with pytest.raises(ValueError, match="no weights"):
        fit_codebook({"word": vectors["word"]}, seed=1)


def broken(how: str, path: Path, own: Codebook) -> None:
    save_codebook(path, own)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "not npz":
        path.write_bytes(b"no archive")
    elif how == "too large":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("names.npy", b"\0" * (65 << 20))
    else:
        arrays = dict(np.load(path))
        changes = {
            "no names": ("names", None),
            "pickled": ("names", np.array([{}], object)),
            "nan": ("centroids.word", arrays["centroids.word"] * np.nan),
            "not unit": ("centroids.word", arrays["centroids.word"] * 2),
            "sizes": ("sizes", arrays["sizes"] + 1),
            "fewer": ("sizes", arrays["sizes"][1:]),
            "weights": ("weights", -arrays["weights"]),
        }
        key, value = changes[how]
        arrays |= {key: value}
        np.savez(path, **{name: each for name, each in arrays.items() if each is not None})


@pytest.mark.parametrize(
    "how",
    ["cut", "not npz", "too large", "no names", "pickled", "nan", "not unit", "sizes", "fewer", "weights"],
)
def test_a_broken_file_is_refused(how: str, own: Codebook, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    broken(how, path, own)
    with pytest.raises(UnsafeFile, match=r"own\.npz"):
        read_codebook(path)


def test_a_view_without_centroids_is_a_label(tmp_path: Path) -> None:
    save_codebook(tmp_path / "a.npz", Codebook([View(name="kind", weight=1.0, size=7)]))
    assert read_codebook(tmp_path / "a.npz").views[0].centroids is None
