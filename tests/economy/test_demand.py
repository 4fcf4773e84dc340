"""A load is shared by those who want it, and nobody who is wanted more leaves for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.context import Context
from sage.economy.demand import DISPLACED, HALF_LIFE, MEMORY, Demand
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook
from sage.types import Candidate, Decision, PriceUnit, Situation
from sage.zoo.eviction import Occupant, victims

Make = Callable[..., Candidate]

GB = 10**9
RATE = np.full(3, 10.0)


@pytest.fixture
def make_pool(make_candidate: Make) -> Callable[..., Pool]:
    """Three models of 1 GB that take 4 s to load; the named ones are."""

    def make(*loaded: str) -> Pool:
        return Pool(
            [
                make_candidate(
                    name,
                    memory_bytes=GB,
                    resident=name in loaded,
                    est_load_s=0.0 if name in loaded else 4.0,
                    reload_s=4.0,
                )
                for name in "abc"
            ]
        )

    return make


def seen(pool: Pool, *requests: tuple[float, float, float]) -> Demand:
    demand = Demand()
    for warm in requests:
        demand.see(pool, np.array(warm), RATE)
    return demand


def test_without_history_a_load_costs_what_it_costs(make_pool: Callable[..., Pool]) -> None:
    loads = Demand().loads(make_pool("a"), unit="atp", free_bytes=0)
    assert loads.price.tolist() == [0.0, 4.0, 4.0]
    assert loads.saved.tolist() == [0.0, 0.0, 0.0]
    assert (loads.displaces.tolist(), loads.order) == ([[False], [True], [True]], ("a",))


def test_a_load_in_flight_counts_what_is_left_to_wait(make_candidate: Make) -> None:
    """It pushes nobody out any more, and who asked first pays for it."""
    changes = {"memory_bytes": GB, "resident": True, "reload_s": 4.0}
    pool = Pool([make_candidate("a", **changes), make_candidate("b", est_load_s=1.5, **changes)])
    loads = Demand().loads(pool, unit="atp", free_bytes=-GB)
    assert loads.price.tolist() == [0.0, 1.5]
    assert not loads.displaces.any()


def test_each_request_that_misses_a_model_pays_for_its_load(make_pool: Callable[..., Pool]) -> None:
    """Into free room: nobody has to go, so that every tenth of permission saves one ATP."""
    pool = make_pool("a")
    demand = seen(pool, (0.5, 0.6, 0.4))
    assert demand.loads(pool, unit="atp", free_bytes=GB).price.tolist() == pytest.approx([0.0, 3.0, 4.0])
    demand.see(pool, np.array([0.5, 0.6, 0.4]), RATE)
    faded = 0.5 ** (1.0 / HALF_LIFE)
    price = demand.loads(pool, unit="atp", free_bytes=GB).price
    assert price.tolist() == pytest.approx([0.0, 4.0 - 1.0 - faded, 4.0])
    for _ in range(MEMORY):
        demand.see(pool, np.array([0.5, 0.6, 0.4]), RATE)
    loads = demand.loads(pool, unit="atp", free_bytes=GB)
    assert loads.price.tolist() == pytest.approx([0.0, 0.0, 4.0])
    assert loads.saved.tolist() == pytest.approx([0.0, 4.0, 0.0])


def test_who_would_be_missed_makes_a_load_dear(make_pool: Callable[..., Pool]) -> None:
    """c wins a little now and then; what it would push out wins much more, often."""
    pool = make_pool("a", "b")
    demand = seen(pool, *[(0.9, 0.1, 0.2), (0.1, 0.8, 0.3), (0.3, 0.2, 0.5)] * 5)
    loads = demand.loads(pool, unit="atp", free_bytes=0)
    worth = demand.worth(["a", "b"])
    assert worth["a"] > worth["b"] > 0.0
    assert loads.order[:1] == ("b",)
    assert loads.displaces.tolist() == [[False, False], [False, False], [True, False]]
    assert 4.0 < loads.price[2] <= 4.0 + DISPLACED * 4.0
    assert loads.saved[2] == 0.0


def test_worth_is_what_the_others_cannot_make_up_for(make_pool: Callable[..., Pool]) -> None:
    demand = seen(make_pool("a", "b"), (0.9, 0.7, 0.0))
    assert demand.worth(["a", "b"]) == pytest.approx({"a": 0.2, "b": 0.0})
    assert demand.worth(["a"]) == pytest.approx({"a": 0.9})
    assert demand.worth(["b", "new"]) == pytest.approx({"b": 0.7, "new": 0.0})
    assert demand.worth([]) == {}


def test_who_is_wanted_next(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("a")
    assert Demand().wanted(["a"], unit="atp", free_bytes=GB) is None
    demand = seen(pool, (0.5, 0.6, 0.9), (0.5, 0.7, 0.2), (0.5, 0.7, 0.2), (0.5, 0.7, 0.2))
    wanted = demand.wanted(["a"], unit="atp", free_bytes=GB)
    assert wanted is not None
    assert wanted[0] == "b"
    assert 0.6 < wanted[1] < 0.7
    assert demand.wanted(["b", "c"], unit="atp", free_bytes=GB) is None


def test_two_close_models_do_not_take_turns(make_pool: Callable[..., Pool]) -> None:
    """Nobody is wanted whose load has not been paid, whatever was missed last."""
    pool = make_pool("a")
    demand = Demand()
    for number in range(40):
        demand.see(pool, np.array((0.5, 0.6, 0.0) if number % 2 else (0.6, 0.5, 0.0)), RATE)
        assert demand.wanted(["a"], unit="atp", free_bytes=0) is None


def test_who_is_said_to_leave_is_who_leaves(make_candidate: Make) -> None:
    """Of equal worth it is who was used longest ago; whom a larger one makes needless stays."""
    pool = Pool(
        [
            make_candidate("small", memory_bytes=GB, resident=True),
            make_candidate("large", memory_bytes=3 * GB, resident=True),
            make_candidate("new", memory_bytes=3 * GB, reload_s=4.0),
            make_candidate("tiny", memory_bytes=GB, reload_s=4.0),
        ]
    )
    demand = Demand()
    for chosen in ("small", "large"):
        demand.see(pool, np.array([0.5, 0.5, 0.1, 0.1]), np.full(4, 10.0), chosen=chosen)
    loads = demand.loads(pool, unit="atp", free_bytes=0)
    worth = demand.worth(["small", "large"])
    held = [
        Occupant(name="large", bytes=3 * GB, last_used=2.0, worth=worth["large"]),
        Occupant(name="small", bytes=GB, last_used=1.0, worth=worth["small"]),
    ]
    assert loads.order == victims(4 * GB, 0, held) == ("small", "large")
    assert loads.displaces[2].tolist() == [False, True]
    assert victims(3 * GB, 0, held) == ("large",)
    assert loads.displaces[3].tolist() == [True, False]
    assert victims(GB, 0, held) == ("small",)


def test_models_may_come_and_go(make_candidate: Make, make_pool: Callable[..., Pool]) -> None:
    demand = seen(make_pool("a"), *[(0.5, 0.6, 0.9)] * 3)
    other = Pool(
        [make_candidate(n, memory_bytes=GB, resident=n == "a", reload_s=4.0) for n in ("c", "new", "a")]
    )
    loads = demand.loads(other, unit="atp", free_bytes=0)
    lost = sum(0.5 * 10.0 * 0.5 ** (age / HALF_LIFE) for age in range(3)) + 0.0
    assert loads.price.tolist() == pytest.approx([0.0, 4.0 + lost, 0.0])
    assert loads.saved[1:].tolist() == [0.0, 0.0]


@given(
    rows=st.lists(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4), max_size=90),
    loaded=st.sets(st.sampled_from("abcd")),
    free=st.integers(-GB, 3 * GB),
)
def test_a_load_is_never_a_gift_nor_beyond_its_bounds(
    rows: list[list[float]], loaded: set[str], free: int
) -> None:
    pool = Pool(
        [
            Candidate(
                name=name,
                prior={},
                capabilities=frozenset(),
                context_length=1,
                memory_bytes=GB,
                resident=name in loaded,
                load_bytes=0,
                est_load_s=0.0,
                est_run_s=1.0,
                reload_s=2.0,
            )
            for name in "abcd"
        ]
    )
    demand = Demand()
    for row in rows:
        demand.see(pool, np.array(row), np.full(4, 5.0))
    loads = demand.loads(pool, unit="seconds", free_bytes=free)
    assert (loads.price >= 0.0).all()
    assert (loads.saved >= 0.0).all()
    assert (loads.price <= 2.0 + DISPLACED * 2.0 * len(loaded) + 1e-9).all()
    assert not loads.price[pool.resident].any()
    assert all(value >= 0.0 for value in demand.worth(loaded).values())


@pytest.mark.parametrize("unit", ["atp", "seconds", "tokens", "usd"])
def test_no_hair_of_quality_is_worth_a_load_in_any_unit(
    unit: PriceUnit, make_pool: Callable[..., Pool]
) -> None:
    """Money and tokens are not spent on loading, yet models must not take turns for it."""
    pool = make_pool("a")
    demand = seen(pool, (0.5, 0.501, 0.2))
    assert demand.loads(pool, unit=unit, free_bytes=0).price[1] > 3.9
    assert demand.wanted(["a"], unit=unit, free_bytes=0) is None


Choose = Callable[..., Decision]


@pytest.fixture
def choose(
    make_candidate: Make,
    make_situation: Callable[..., Situation],
    make_book: Callable[..., TrustBook],
    place: Callable[..., Context],
) -> Choose:
    """A favourite that is loaded, and a big model that would push it out; who is better is said by cards."""
    selector, demand, book = Selector(hot_bonus=1.2, price_scale=10.0), Demand(), make_book()

    def decide(favourite: float, big: float, *, resident: str = "favourite", dial: float = 0.5) -> Decision:
        pool = Pool(
            [
                make_candidate(
                    name,
                    prior={"*": prior},
                    memory_bytes=6 * GB,
                    resident=name == resident,
                    est_load_s=0.0 if name == resident else 3.0,
                    reload_s=3.0,
                )
                for name, prior in (("favourite", favourite), ("big", big))
            ]
        )
        limits = Limits(atp=100.0, capacity=100.0, memory_bytes=8 * GB, free_bytes=2 * GB)
        return selector.choose(
            make_situation(), place(), pool, book, limits=limits, now=0.0, demand=demand, dial=dial
        )

    return decide


def test_a_rogue_request_does_not_evict_the_warm_favourite(choose: Choose) -> None:
    """One request that the big model would answer a little better, among many for the favourite."""
    for _ in range(10):
        assert choose(0.8, 0.3).chosen == "favourite"
    rogue = choose(0.6, 0.8)
    assert rogue.chosen == "favourite"
    assert "big would do it better once loaded" in rogue.reason
    assert "would push out favourite" in rogue.reason
    assert choose(0.8, 0.3).chosen == "favourite"


def test_nor_does_it_where_quality_alone_counts(choose: Choose) -> None:
    """At dial 1 a load still counts; one that the favourite cannot do is done all the same."""
    for _ in range(10):
        assert choose(0.8, 0.3, dial=1.0).chosen == "favourite"
    assert choose(0.6, 0.8, dial=1.0).chosen == "favourite"
    assert choose(0.02, 0.9, dial=1.0).chosen == "big"


def test_one_that_cannot_be_done_by_the_favourite_is_done_all_the_same(choose: Choose) -> None:
    for _ in range(10):
        choose(0.8, 0.3)
    assert choose(0.02, 0.9).chosen == "big"


def test_a_series_brings_the_big_model_in_and_says_who_paid(choose: Choose) -> None:
    """The same advantage, again and again: each request saves something for the load."""
    for _ in range(10):
        choose(0.8, 0.3)
    chosen = [choose(0.6, 0.8) for _ in range(40)]
    first = next(number for number, decision in enumerate(chosen) if decision.chosen == "big")
    assert 3 <= first < 40
    assert "have paid" in chosen[first].reason
    assert "of its load" in chosen[first].reason


def test_the_table_of_a_decision_shows_what_loading_counts_for(choose: Choose) -> None:
    choose(0.5, 0.6)
    big = next(s for s in choose(0.5, 0.6).candidates if s.name == "big")
    assert big.warm > 0.0
    assert big.displaces == ("favourite",)
    assert big.price < 1.0 + 3.0
    assert big.est_atp == pytest.approx(4.0)
