"""How far candidates differ from one context to the next, told from residuals beyond noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.context import Context
from sage.economy.trust import TrustBook
from sage.economy.variety import LEAST, NOISE, USUAL, Variety
from sage.types import Outcome

CELLS = 40
READ = np.ones(CELLS)


def found(variety: float, *, outcomes: float = 60.0, candidates: int = 12, seed: int = 0) -> Variety:
    """What is found among candidates that vary by this, ``outcomes`` in each cell."""
    random = np.random.default_rng(seed)
    weights = np.full((CELLS, candidates), outcomes)
    noise = np.sqrt(weights * NOISE) * random.standard_normal(weights.shape)
    made = Variety()
    made.resize(candidates)
    made.look(
        slice(candidates),
        weights * variety * random.standard_normal(weights.shape) + noise,
        weights,
        READ,
    )
    return made


def test_of_strangers_the_usual_is_assumed() -> None:
    variety = Variety()
    assert variety.among(slice(0), np.zeros(0)) == USUAL
    variety.resize(5)
    assert variety.among(slice(5), np.ones(5)) == pytest.approx(USUAL)


@pytest.mark.parametrize("true", [0.05, 0.1, 0.3])
def test_it_is_what_was_planted(true: float) -> None:
    assert found(true).among(slice(12), np.ones(12)) == pytest.approx(true, rel=0.15)


def test_equals_do_not_vary_however_noisy() -> None:
    assert found(0.0, outcomes=400.0).among(slice(12), np.ones(12)) < 0.02


def test_what_has_faded_is_not_known_any_more() -> None:
    variety = found(0.4)
    seen = [variety.among(slice(12), np.full(12, kept)) for kept in (1.0, 1e-2, 1e-4, 0.0)]
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > 0.35
    assert seen[-1] == pytest.approx(USUAL)


def test_one_with_all_the_work_does_not_decide_for_strangers() -> None:
    variety = found(0.0, outcomes=1000.0, candidates=1)
    variety.resize(10)
    assert variety.among(slice(1), np.ones(1)) < 0.02
    assert variety.among(slice(10), np.ones(10)) > 0.9 * USUAL


@given(
    rows=st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(-1.0, 1.0)), min_size=1, max_size=8),
    kept=st.floats(0.0, 1.0),
)
def test_it_is_always_a_spread(rows: list[tuple[float, float]], kept: float) -> None:
    weights = np.array([[weight] for weight, _ in rows])
    residuals = weights * np.array([[rate] for _, rate in rows])
    variety = Variety()
    variety.resize(1)
    variety.look(slice(1), residuals, weights, np.ones(len(rows)))
    assert LEAST <= variety.among(slice(1), np.array([kept])) <= 1.0


def test_a_book_knows_it_as_well_after_a_restart(
    make_book: Callable[..., TrustBook], told: Callable[..., Outcome], place: Callable[..., Context]
) -> None:
    trust = make_book(half_life=1e9)
    random = np.random.default_rng(0)
    for _ in range(600):
        topic, number = int(random.integers(4)), int(random.integers(4))
        right = random.random() < (0.9 if topic == number else 0.4)
        trust.observe(told(float(right), candidate="abcd"[number]), place(topic))
    again = make_book(half_life=1e9, rows=trust.rows())
    ask = {"priors": np.full(4, 0.5), "shifts": np.zeros(4), "now": 0.0}
    first, second = (book.beliefs(tuple("abcd"), place(), **ask).variety for book in (trust, again))
    assert first > 1.1 * USUAL
    assert second == pytest.approx(first, rel=0.05)
