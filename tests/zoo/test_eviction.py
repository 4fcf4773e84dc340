"""The plan that makes room: whom it sends away, in which order, and when it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.errors import DoesNotFit
from sage.zoo.eviction import Loaded, make_room

SIZES = st.integers(0, 10_000)


@st.composite
def residents(draw: st.DrawFn) -> list[Loaded]:
    count = draw(st.integers(0, 8))
    order = draw(st.permutations(range(count)))
    return [
        Loaded(name=f"m{i}", bytes=draw(SIZES), last_used=float(order[i]), busy=draw(st.booleans()))
        for i in range(count)
    ]


@given(need=SIZES, free=st.integers(-1000, 10_000), loaded=residents())
def test_the_plan(need: int, free: int, loaded: list[Loaded]) -> None:
    idle = sorted((m for m in loaded if not m.busy), key=lambda m: m.last_used)
    if need > free + sum(m.bytes for m in idle):
        with pytest.raises(DoesNotFit):
            make_room(need, free, loaded, name="new")
        return
    victims = make_room(need, free, loaded, name="new")
    assert list(victims) == [m.name for m in idle][: len(victims)]  # idle ones only, oldest first
    freed = [m.bytes for m in idle][: len(victims)]
    assert free + sum(freed) >= need
    if victims:
        assert free + sum(freed[:-1]) < need  # one fewer would not have been enough


def test_a_refusal_says_need_and_free() -> None:
    loaded = [
        Loaded(name="idle", bytes=200_000_000, last_used=1.0),
        Loaded(name="busy", bytes=900_000_000, last_used=0.0, busy=True),
    ]
    with pytest.raises(DoesNotFit) as caught:
        make_room(500_000_000, 100_000_000, loaded, name="big")
    assert caught.value.message == "big needs 500 MB of memory; 300 MB can be made free."
    assert caught.value.mend


def test_a_floor_that_is_broken_already_counts_as_nothing_free() -> None:
    with pytest.raises(DoesNotFit, match="0 MB can be made free"):
        make_room(1_000_000, -5_000_000, [], name="small")
