"""A piece of work lies in some cells of each view, and its shares add up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sage.economy.context import NEAREST, Codebook, Context, View, fit_centroids

WIDTH = 5


def unit_rows(count: int, *, seed: int = 0, width: int = WIDTH) -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mixed() -> Codebook:
    """Two embeddings, one of them with fewer cells than a query may belong to, and a label."""
    return Codebook(
        [
            View(name="meaning", weight=3.0, size=9, centroids=unit_rows(9, seed=1)),
            View(name="kind", weight=1.0, size=4),
            View(name="form", weight=0.5, size=2, centroids=unit_rows(2, seed=2)),
        ]
    )


vectors = npst.arrays(np.float64, WIDTH, elements=st.floats(-1.0, 1.0))


@given(meaning=vectors, form=vectors, kind=st.integers(0, 3))
def test_shares_sum_to_one_in_each_view_and_weights_over_all(
    meaning: npt.NDArray[np.float64], form: npt.NDArray[np.float64], kind: int
) -> None:
    context = mixed().place({"meaning": meaning, "form": form}, {"kind": kind})
    for first, size, weight in ((0, 9, 3.0), (9, 4, 1.0), (13, 2, 0.5)):
        inside = (context.cells >= first) & (context.cells < first + size)
        assert context.membership[inside].sum() == pytest.approx(1.0)
        assert context.weight[inside].sum() == pytest.approx(weight / 4.5)
    assert context.weight.sum() == pytest.approx(1.0)
    assert len(set(context.cells.tolist())) == len(context.cells) == NEAREST + 1 + 2
    assert context.cells[NEAREST] == 9 + kind


def test_it_belongs_most_to_the_nearest_cell() -> None:
    view = View(name="v", weight=1.0, size=9, centroids=unit_rows(9, seed=1))
    for number, vector in enumerate(unit_rows(9, seed=1)):
        context = Codebook([view]).place({"v": vector}, {})
        assert context.cells[context.membership.argmax()] == number


def test_a_view_that_does_not_count_is_learned_but_not_read() -> None:
    book = Codebook([View(name="a", weight=1.0, size=2), View(name="b", weight=0.0, size=3)])
    context = book.place({}, {"a": 1, "b": 2})
    assert context.membership.tolist() == [1.0, 1.0]
    assert context.weight.tolist() == [1.0, 0.0]


def same(left: Context, right: Context) -> bool:
    """Equal up to rounding, in whatever order the cells are listed."""
    orders = [np.argsort(context.cells) for context in (left, right)]
    return left.codebook == right.codebook and all(
        np.allclose(a[orders[0]], b[orders[1]], atol=1e-5)
        for a, b in (
            (left.cells, right.cells),
            (left.membership, right.membership),
            (left.weight, right.weight),
        )
    )


def test_placing_many_is_placing_each() -> None:
    book, meaning, form = mixed(), unit_rows(40, seed=3), unit_rows(40, seed=4)
    kinds = np.arange(40) % 4
    together = book.place_all({"meaning": meaning, "form": form}, {"kind": kinds})
    for number, context in enumerate(together):
        alone = book.place({"meaning": meaning[number], "form": form[number]}, {"kind": int(kinds[number])})
        assert same(context, alone)


def test_a_cell_alone_is_the_cell_of_its_label() -> None:
    context = mixed().alone("kind", 2)
    assert context.cells.tolist() == [11]
    assert context.membership.tolist() == context.weight.tolist() == [1.0]
    with pytest.raises(ValueError, match="colour"):
        mixed().alone("colour", 0)


def test_a_context_comes_back_from_what_was_stored_of_it() -> None:
    book = mixed()
    placed = book.place({"meaning": unit_rows(1)[0], "form": unit_rows(1, seed=8)[0]}, {"kind": 3})
    assert same(book.context(placed.cells, placed.membership), placed)
    stored = book.context(placed.cells.astype(np.int32), placed.membership.astype(np.float32))
    assert same(stored, placed)


@pytest.mark.parametrize(
    ("cells", "membership"),
    [([0, 15], [0.5, 0.5]), ([-1], [1.0]), ([3, 3], [0.5, 0.5]), ([1], [np.nan]), ([1, 2], [1.0])],
    ids=["beyond", "negative", "twice", "nan", "short"],
)
def test_a_stored_context_that_cannot_be_is_refused(cells: list[int], membership: list[float]) -> None:
    with pytest.raises(ValueError, match="context"):
        mixed().context(np.array(cells), np.array(membership))


@pytest.mark.parametrize("width", [WIDTH - 1, WIDTH + 1, 0])
def test_a_vector_of_the_wrong_width_is_refused(width: int) -> None:
    ok = np.ones(WIDTH)
    with pytest.raises(ValueError, match=rf"'form' takes vectors of {WIDTH} numbers, got {width}"):
        mixed().place({"meaning": ok, "form": np.ones(width)}, {"kind": 0})
    with pytest.raises(ValueError, match="'form' takes vectors"):
        mixed().place_all(
            {"meaning": np.ones((2, WIDTH)), "form": np.ones((2, width))}, {"kind": np.zeros(2, int)}
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(bad: float) -> None:
    broken = np.ones(WIDTH)
    broken[3] = bad
    with pytest.raises(ValueError, match="'meaning' holds numbers that are not finite"):
        mixed().place({"meaning": broken, "form": np.ones(WIDTH)}, {"kind": 0})


@pytest.mark.parametrize("label", [-1, 4, 1000])
def test_a_label_out_of_range_is_refused(label: int) -> None:
    ok = np.ones(WIDTH)
    with pytest.raises(ValueError, match=r"label of view 'kind' is not in 0\.\.3"):
        mixed().place({"meaning": ok, "form": ok}, {"kind": label})
    rows = np.ones((2, WIDTH))
    with pytest.raises(ValueError, match="label of view 'kind'"):
        mixed().place_all({"meaning": rows, "form": rows}, {"kind": np.array([0, label])})


@pytest.mark.parametrize("views", [[], [View(name="a", weight=0.0, size=3)]])
def test_a_codebook_without_a_view_that_counts_is_refused(views: list[View]) -> None:
    with pytest.raises(ValueError, match="a view that counts"):
        Codebook(views)


def test_the_id_changes_with_any_part() -> None:
    centroids = unit_rows(3)
    moved = centroids.copy()
    moved[2, 1] += 1e-6
    base = {"name": "v", "weight": 1.0, "size": 3, "centroids": centroids}
    changes = [
        {},
        {"name": "w"},
        {"weight": 2.0},
        {"size": 4, "centroids": unit_rows(4)},
        {"centroids": moved},
        {"centroids": None},
    ]
    views = [View(**{**base, **change}) for change in changes]  # type: ignore[arg-type]
    other = View(name="other", weight=1.0, size=2)
    books = [[view] for view in views] + [[views[0], other], [other, views[0]]]
    ids = [Codebook(book).id for book in books]
    assert len(set(ids)) == len(ids)
    assert Codebook([View(**{**base, "centroids": centroids.copy()})]).id == ids[0]  # type: ignore[arg-type]
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in ids)


@given(rows=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 5))
def test_centroids_are_unit_rows_and_no_more_than_rows(rows: int, size: int, seed: int) -> None:
    data = unit_rows(rows, seed=seed)
    centroids = fit_centroids(data, size, seed=seed)
    assert centroids.shape == (min(size, rows), WIDTH)
    assert centroids.dtype == np.float32
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_the_seed_alone_decides_the_centroids() -> None:
    data = unit_rows(200, seed=5)
    first = fit_centroids(data, 8, seed=1)
    assert np.array_equal(first, fit_centroids(data.copy(), 8, seed=1))
    assert not np.array_equal(first, fit_centroids(data, 8, seed=2))


def test_centroids_find_the_bundles() -> None:
    centres = unit_rows(4, seed=6, width=32)
    noise = np.random.default_rng(7).normal(0.0, 0.03, (400, 32))
    data = centres[np.arange(400) % 4] + noise
    found = fit_centroids(data / np.linalg.norm(data, axis=1, keepdims=True), 4, seed=0)
    assert (found @ centres.T).max(0) == pytest.approx(1.0, abs=0.01)


def test_rows_that_are_all_alike_still_give_centroids() -> None:
    centroids = fit_centroids(np.tile(unit_rows(1), (6, 1)), 3, seed=0)
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(1.0, abs=1e-5)
