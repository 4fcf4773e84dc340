"""The pool can collapse, the liar can win, and the figures would show it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sage.bench.collapse import DEFINITIONS, WINDOW, collapse_table, figures_of, measure_collapse
from sage.bench.experts import SLOTS, Experts, Serving, WinnerTakesAll, _Memory
from sage.bench.planted import World, plant, run

REQUESTS = 1200


@pytest.fixture(scope="module")
def pool() -> Experts:
    return Experts.of(8, honest=False)


@pytest.fixture(scope="module")
def world(pool: Experts) -> World:
    return plant(pool.quality, requests=REQUESTS, seed=0)


def test_in_every_topic_two_specialists_are_the_best(pool: Experts) -> None:
    assert pool.quality.shape == (11, 4)
    assert ((pool.quality == pool.quality.max(0)).sum(0) == 2).all()
    liar = pool.generalist + 1
    assert pool.cards[liar]["*"] == max(card["*"] for card in pool.cards)
    assert pool.word[liar] == pool.word.max()
    assert pool.quality[liar].max() < np.delete(pool.quality, [liar, liar + 1], 0).min()


def test_honest_cards_name_the_topic_in_which_an_expert_is_good() -> None:
    honest = Experts.of(8, honest=True)
    for number in range(8):
        (topic,) = (kind for kind in honest.cards[number] if kind != "*")
        assert honest.quality[number, int(topic.removeprefix("topic "))] == 0.9


def test_effective_experts_of_even_traffic_are_all_of_one_are_one(pool: Experts, world: World) -> None:
    even = figures_of(world, pool, np.arange(REQUESTS) % len(pool))
    assert even.effective == pytest.approx(len(pool), rel=0.01)
    one = figures_of(world, pool, np.full(REQUESTS, pool.generalist))
    assert one.effective == pytest.approx(1.0)
    assert one.reward == pytest.approx(0.75 / 0.9)
    assert (one.liar_under_5, one.liar_share, one.dead_share) == (WINDOW, 0.0, 0.0)


def test_the_best_of_each_topic_has_all_the_reward(pool: Experts, world: World) -> None:
    best = figures_of(world, pool, world.quality.argmax(1))
    assert (best.reward, best.reward_all) == (1.0, 1.0)
    assert best.effective == pytest.approx(4.0, rel=0.05)


def test_the_liar_is_under_5_percent_when_it_stays_so(pool: Experts, world: World) -> None:
    liar = pool.generalist + 1
    chosen = np.zeros(REQUESTS, np.intp)
    chosen[:50] = liar
    # The first window with only four of the liar's begins 46 requests in, and ends 100 later.
    assert figures_of(world, pool, chosen).liar_under_5 == 50 - 4 + WINDOW
    assert figures_of(world, pool, np.full(REQUESTS, liar)).liar_under_5 == math.inf


def test_memory_holds_the_last_used(pool: Experts) -> None:
    memory = _Memory(pool)
    assert memory.resident(len(pool)) == [number == pool.generalist for number in range(len(pool))]
    for expert in (0, 1, 2, 3, 0, 4):
        memory.use(expert)
        assert sum(memory.resident(len(pool))) <= SLOTS
    assert [number for number, loaded in enumerate(memory.resident(len(pool))) if loaded] == [0, 2, 3, 4]
    memory.use(3)
    assert not memory.changed


def test_winner_takes_all_collapses_and_who_believes_self_scores_ends_with_the_liar(
    pool: Experts, world: World
) -> None:
    greedy = figures_of(world, pool, run(WinnerTakesAll(pool, believes=False), world))
    assert greedy.effective < 1.1
    fooled = figures_of(world, pool, run(WinnerTakesAll(pool, believes=True), world))
    assert fooled.liar_share > 0.9
    assert fooled.liar_under_5 == math.inf


def test_sage_drops_the_liar_and_the_dead(pool: Experts, world: World) -> None:
    sage = Serving("sage", pool, world.codebook, dial=1.0, random=np.random.default_rng(0))
    figures = figures_of(world, pool, run(sage, world))
    assert figures.liar_under_5 <= 200
    assert figures.liar_share < 0.05
    assert figures.dead_share < 0.05


def test_with_honest_cards_sage_keeps_the_pool() -> None:
    pool = Experts.of(8, honest=True)
    world = plant(pool.quality, requests=REQUESTS, seed=0)
    sage = Serving("sage", pool, world.codebook, dial=1.0, random=np.random.default_rng(0))
    figures = figures_of(world, pool, run(sage, world))
    assert figures.reward >= 0.98
    assert figures.effective >= 0.25 * len(pool)


def test_rows_have_the_same_keys_and_read_as_a_table() -> None:
    rows = measure_collapse(seeds=2, requests=300, specialists=4)
    assert len({tuple(row) for row in rows}) == 1
    assert {row["cards"] for row in rows} == {"silent", "honest"}
    assert {"effective_experts", "reward_of_best", "liar_under_5", "liar_share"} <= set(rows[0]) & set(
        DEFINITIONS
    )
    assert {row["policy"]: row["dial"] for row in rows if row["dial"]} == {
        "sage": 1.0,
        "sage_thrifty": 0.5,
        "sage_greedy": 1.0,
    }
    fooled = next(line for line in collapse_table(rows) if line["policy"] == "self_scores")
    assert fooled["liar < 5 %"] == "never"
