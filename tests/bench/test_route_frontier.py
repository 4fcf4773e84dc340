"""The frontier of quality and cost: hull, area, and the dial."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.bench.frontier import aiq, hull, sweep

POINT = st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 1.0))


def test_a_known_hull() -> None:
    points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.6), (2.0, 0.8), (4.0, 0.85), (1.0, 0.2)]
    assert hull(points) == [(1.0, 0.5), (2.0, 0.8), (3.0, 0.9)]


@given(st.lists(POINT, min_size=1, max_size=30))
def test_a_hull_rises_bends_down_and_covers_every_point(points: list[tuple[float, float]]) -> None:
    corners = hull(points)
    costs, values = np.array(corners).T
    assert (np.diff(costs) >= 0.0).all()
    assert (np.diff(values) > 0.0).all()
    assert set(corners) <= set(points)
    for cost, value in points:
        assert np.interp(cost, costs, values) >= value - 1e-9
    slopes = np.diff(values) / np.maximum(np.diff(costs), 1e-300)
    assert (np.diff(slopes) <= 1e-6 * slopes[:-1]).all()


def test_a_known_area() -> None:
    """Two models: quality 0.4 at cost 1, 0.8 at cost 3. The line between them has the mean 0.6."""
    scores = np.tile([0.4, 0.8], (10, 1))
    costs = np.tile([1.0, 3.0], (10, 1))
    assert aiq([(1.0, 0.4), (3.0, 0.8)], scores, costs) == pytest.approx(0.6)
    assert aiq([(3.0, 0.8)], scores, costs) == pytest.approx(0.6)  # "always the cheapest" belongs to all
    assert aiq([(1.0, 0.8)], scores, costs) == pytest.approx(0.8)  # the best at the lowest price
    assert aiq([(0.5, 0.8)], scores, costs) == pytest.approx(0.8)  # cheaper than every single model
    assert aiq([(2.0, 0.8)], scores, costs) == pytest.approx((0.6 + 0.8) / 2)
    with pytest.raises(ValueError, match="cost the same"):
        aiq([(1.0, 0.4)], scores, np.ones((10, 2)))


@pytest.mark.parametrize("form", ["additive", "product"])
def test_the_dial_goes_from_best_to_cheapest(form: str) -> None:
    random = np.random.default_rng(0)
    scores = random.random((200, 3)) * np.array([0.3, 0.6, 1.0])
    costs = np.tile([0.01, 1.0, 10.0], (200, 1))
    points = sweep(scores, costs, scores, costs, form=form)  # type: ignore[arg-type]
    assert points[0][1] == pytest.approx(scores.max(1).mean())
    assert points[-1][0] < 0.01 * points[0][0]
    prices = [cost for cost, _ in points]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(prices))


def test_knowing_more_never_lowers_the_area() -> None:
    """The true outcomes against their means: a sweep over what is known is at least as good."""
    random = np.random.default_rng(1)
    scores = (random.random((500, 4)) < [0.3, 0.5, 0.6, 0.8]).astype(float)
    costs = np.tile([1.0, 2.0, 4.0, 9.0], (500, 1))
    means = np.tile(scores.mean(0), (500, 1))
    blind = aiq(sweep(means, costs, scores, costs, form="additive"), scores, costs)
    seeing = aiq(sweep(scores, costs, scores, costs, form="additive"), scores, costs)
    assert seeing > blind + 0.1
