"""The plan that makes room: whom it sends away, in which order, and what a refusal says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage.zoo.eviction import Occupant, does_not_fit, victims

SIZES = st.integers(0, 10_000)


@st.composite
def occupants(draw: st.DrawFn) -> list[Occupant]:
    count = draw(st.integers(0, 8))
    order = draw(st.permutations(range(count)))
    return [Occupant(name=f"m{i}", bytes=draw(SIZES), last_used=float(order[i])) for i in range(count)]


@given(need=SIZES, free=st.integers(-1000, 10_000), loaded=occupants())
def test_the_plan(need: int, free: int, loaded: list[Occupant]) -> None:
    sizes = {m.name: m.bytes for m in loaded}
    chosen = victims(need, free, loaded)
    if need > free + sum(sizes.values()):
        assert chosen is None
        return
    assert chosen is not None
    room = free + sum(sizes[name] for name in chosen)
    assert room >= need
    assert all(room - sizes[name] < need for name in chosen)  # nobody goes for nothing
    oldest = [m.name for m in sorted(loaded, key=lambda m: m.last_used)]
    assert list(chosen) == [name for name in oldest if name in chosen]
    if chosen:  # and nobody younger than those without whom the older ones are not enough
        last = oldest.index(chosen[-1])
        assert free + sum(sizes[name] for name in oldest[:last]) < need


def test_whom_a_larger_one_makes_needless_stays_and_the_dearest_first() -> None:
    def small(name: str, worth: float) -> Occupant:
        return Occupant(name=name, bytes=10, last_used=0.0, worth=worth)

    large = Occupant(name="large", bytes=95, last_used=0.0, worth=10.0)
    assert victims(100, 0, [small("cheap", 0.1), small("dear", 0.2), large]) == ("cheap", "large")
    assert victims(90, 0, [small("cheap", 0.1), small("dear", 0.2), large]) == ("large",)


def test_a_refusal_says_need_and_free() -> None:
    error = does_not_fit("big", 500_000_000, 300_000_000)
    assert error.message == "big needs 500 MB of memory; 300 MB can be made free."
    assert error.mend
    assert "0 MB can be made free" in does_not_fit("small", 1_000_000, -5_000_000).message
