"""The size of a model: the larger of estimate and measurement, until enough was seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage.zoo.footprint import SETTLED, Footprints

SIZES = st.integers(1, 10**12)


@given(estimate=SIZES, measured=st.lists(SIZES, max_size=10))
def test_it_is_never_below_what_was_seen(estimate: int, measured: list[int]) -> None:
    sizes = Footprints()
    sizes.estimated("m", estimate)
    for count, size in enumerate(measured, 1):
        sizes.measured("m", size, settles=True)
        assert sizes.size("m") >= max(measured[:count])
        assert sizes.size("m") <= max(estimate, *measured[:count])
        if count < SETTLED:
            assert sizes.size("m") == max(estimate, *measured[:count])


def test_a_settled_model_may_still_grow_a_little() -> None:
    sizes = Footprints()
    sizes.estimated("m", 1000)
    for _ in range(SETTLED):
        sizes.measured("m", 500, settles=True)
    assert sizes.size("m") == 550
    sizes.measured("m", 980)
    assert sizes.size("m") == 1000


def test_of_an_unknown_model_nothing_is_known() -> None:
    assert Footprints().size("m") == 0
