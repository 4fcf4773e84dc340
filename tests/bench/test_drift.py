"""A planted loss is planted, its figures say what they say, and SAGE sees it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sage.bench.drift import (
    CHANCE,
    DEFINITIONS,
    WINDOW,
    TopicThompson,
    _world,
    drift_table,
    figures_of,
    measure_drift,
)
from sage.bench.planted import plant, run
from sage.bench.routers import Oracle

REQUESTS = 1500
FALL, HEAL = 500, 1000


def test_the_model_that_is_best_most_often_falls_to_chance_and_heals() -> None:
    world, target = _world(8, "sudden", REQUESTS, 0)
    topics = world.queries.categories
    best_in = {topic: row.argmax() for topic, row in zip(topics, world.quality[:FALL], strict=False)}
    wins = np.bincount(list(best_in.values()), minlength=8)
    assert wins[target] == wins.max()
    assert (world.quality[FALL:HEAL, target] == CHANCE).all()
    assert (world.quality[:FALL, target] > CHANCE).all()
    assert (world.quality[HEAL:, target] > CHANCE).all()


def test_a_gradual_change_passes_through_the_middle_and_none_changes_nothing() -> None:
    gradual, target = _world(8, "gradual", REQUESTS, 0)
    still, _ = _world(8, "none", REQUESTS, 0)
    halfway = FALL + REQUESTS // 12
    expected = (still.quality[halfway, target] + CHANCE) / 2
    assert gradual.quality[halfway, target] == pytest.approx(expected)
    assert gradual.quality[HEAL - 1, target] == pytest.approx(CHANCE)
    assert np.array_equal(np.delete(gradual.quality, target, 1), np.delete(still.quality, target, 1))


def test_figures_of_choices_that_are_known() -> None:
    """The target until 20 requests after its fall, and again from 30 after it is well."""
    world, target = _world(8, "sudden", REQUESTS, 0)
    other = (target + 1) % 8
    chosen = np.full(REQUESTS, target)
    chosen[FALL + 20 : HEAL + 30] = other
    figures = figures_of(world, target, chosen)
    # 96 requests without it leave 4 of the last 100; the window holds requests up to and with this one.
    assert figures.under_5 == 20 + 96 - 1
    assert figures.share_ill == 0.0
    assert figures.healed == 30 + WINDOW // 2 - 1
    assert figures.regret[0] == pytest.approx(
        (world.quality[:FALL].max(1) - world.quality[:FALL, target]).sum()
    )


def test_what_never_happens_is_infinite_and_what_could_not_be_lost_is_none() -> None:
    world, target = _world(8, "sudden", REQUESTS, 0)
    always = figures_of(world, target, np.full(REQUESTS, target))
    assert always.under_5 == math.inf
    assert always.share_ill == 1.0
    assert always.healed is None
    never = figures_of(world, target, np.full(REQUESTS, (target + 1) % 8))
    assert (never.under_5, never.share_ill, never.healed) == (None, None, None)


def test_who_knows_the_truth_has_no_regret() -> None:
    world, target = _world(4, "sudden", REQUESTS, 1)
    best = dict(zip(world.queries.ids, world.quality.argmax(1).tolist(), strict=True))
    assert figures_of(world, target, run(Oracle(best), world)).regret == (0.0, 0.0, 0.0)


def test_planted_questions_follow_their_topics_and_answers_their_quality() -> None:
    world = plant(np.array([[0.9, 0.1], [0.5, 0.5]]), requests=4000, seed=3)
    own = world.queries.vectors @ world.queries.vectors[0]
    topics = np.array(world.queries.categories)
    same = topics == topics[0]
    assert own[same].mean() > own[~same].mean() + 0.4
    first = topics == "topic 0"
    assert (world.luck[first] < world.quality[first, 0]).mean() == pytest.approx(0.9, abs=0.03)
    assert len(world.queries.contexts) == 4000
    assert world.models == 2


def test_the_same_seed_gives_the_same_world() -> None:
    one, two = (plant(np.full((2, 3), 0.5), requests=50, seed=7) for _ in range(2))
    assert one.codebook.id == two.codebook.id
    assert np.array_equal(one.luck, two.luck)
    assert plant(np.full((2, 3), 0.5), requests=50, seed=8).codebook.id != one.codebook.id


def test_rows_have_the_same_keys_and_read_as_a_table() -> None:
    rows = measure_drift(seeds=2, requests=600, models=(3,), changes=("sudden", "none"))
    assert len({tuple(row) for row in rows}) == 1
    assert {"sage", "linucb", "thompson", "thompson_topic", "thompson_discounted"} <= {
        row["policy"] for row in rows
    }
    assert all(row["under_5"] is None and row["seeds_used"] == 0 for row in rows if row["change"] == "none")
    explained = {"regret", "under_5", "share_ill", "healed", "healed_in_300"}
    assert explained <= set(DEFINITIONS)
    assert explained <= set(rows[0])
    table = drift_table(rows)
    assert len(table) == len(rows)
    assert all(line["under 5 %"] == "-" for line in table if line["change"] == "none")


def test_who_forgets_comes_away_from_a_fallen_model_sooner() -> None:
    """A topic of one kind, 600 right answers, then none: one prefers the other model, one does not yet."""
    world = plant(np.array([[0.5], [0.5]]), requests=1, seed=0)
    (query,) = world.queries
    shares = []
    for half_life in (math.inf, 50.0):
        peer = TopicThompson("peer", 2, np.random.default_rng(0), half_life=half_life)
        for quality in [1.0] * 600 + [0.0] * 200:
            peer.learn(query, 0, quality)
        shares.append(np.mean([peer.choose(query) == 0 for _ in range(200)]))
    assert shares[0] > 0.5 > 0.1 > shares[1]
    peer.freeze()
    assert {peer.choose(query) for _ in range(5)} == {1}
    other = replace(query, category="another")
    before = peer._counts[query.category].copy()
    peer.learn(other, 1, 1.0)
    assert (peer._counts[query.category] == before).all()  # a topic fades by its own requests


@pytest.mark.slow
def test_sage_leaves_a_fallen_model_and_comes_back() -> None:
    rows = measure_drift(seeds=5, changes=("sudden",))
    by_policy = {row["policy"]: row for row in rows}
    sage = by_policy["sage"]
    assert sage["under_5"] <= 200
    assert sage["share_ill"] < 0.05
    assert sage["healed"] <= 450
    assert by_policy["thompson_topic"]["under_5"] > sage["under_5"]
