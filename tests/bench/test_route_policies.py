"""Each policy on a world where the right choice is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sage.bench.arena import Arena, build_arena, principal_components
from sage.bench.bandits import EpsilonGreedy, LinUcb, SquareCb, Thompson
from sage.bench.contestants import contestants
from sage.bench.policies import Mode, Policy
from sage.bench.route_data import Outcomes, load_outcomes
from sage.bench.route_views import embed_texts
from sage.bench.routers import BestSingle, Kmeans, Knn, Ridge, Topic
from sage.bench.sage_policy import SageExpectation, SagePolicy
from sage.memory.hashing import HashingEmbedder

from .conftest import maker

EXPERT = {"sums": 0, "letters": 1, "code": 2}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return load_outcomes(maker(tmp_path_factory.mktemp("data"))("world", count=450))


@pytest.fixture(scope="module")
def arena(outcomes: Outcomes, tmp_path_factory: pytest.TempPathFactory) -> Arena:
    home = tmp_path_factory.mktemp("home")
    views = embed_texts(outcomes.texts, HashingEmbedder(), home, progress=lambda _text: None)
    rows = np.random.default_rng(0).permutation(450)
    return build_arena(outcomes, views, rows[:350], rows[350:], first=None, seed=0)


def scores_of(outcomes: Outcomes, arena: Arena, part: str = "train") -> np.ndarray:  # type: ignore[type-arg]
    at = {name: row for row, name in enumerate(outcomes.ids)}
    return outcomes.scores[[at[name] for name in getattr(arena, part).ids]]


def share_of_experts(policy: Policy, arena: Arena) -> float:
    right = [policy.choose(query) == EXPERT[query.category] for query in arena.test]
    return float(np.mean(right))


def stream(policy: Policy, outcomes: Outcomes, arena: Arena) -> None:
    for query, row in zip(arena.train, scores_of(outcomes, arena), strict=True):
        arm = policy.choose(query)
        policy.learn(query, arm, float(row[arm]))
    policy.freeze()


@pytest.mark.parametrize(
    "make",
    [
        lambda _a, _o: Topic(),
        lambda _a, _o: Knn(),
        lambda _a, _o: Kmeans(0),
        lambda _a, _o: Ridge(),
        lambda _a, _o: SagePolicy(_o.models, _a.codebook, None),
    ],
    ids=["topic", "knn", "kmeans", "ridge", "sage"],
)
def test_routers_find_the_expert_of_each_topic(
    make: Callable[[Arena, Outcomes], Policy], arena: Arena, outcomes: Outcomes
) -> None:
    policy = make(arena, outcomes)
    if isinstance(policy, Knn):
        policy.NEIGHBOURS = 20
    if isinstance(policy, Ridge):
        policy.PENALTY = 1.0
    policy.fit(arena.train, scores_of(outcomes, arena))
    policy.freeze()
    assert share_of_experts(policy, arena) > 0.95


@pytest.mark.parametrize(
    "make",
    [
        lambda _a, _o: EpsilonGreedy(4, _a.train.vectors, np.random.default_rng(1), seed=1),
        lambda _a, _o: LinUcb(4, _a.codebook.cells),
        lambda _a, _o: SquareCb(4, seed=1),
        lambda _a, _o: SagePolicy(_o.models, _a.codebook, np.random.default_rng(1)),
    ],
    ids=["epsilon_greedy", "linucb", "squarecb", "sage"],
)
def test_bandits_find_the_expert_of_each_topic(
    make: Callable[[Arena, Outcomes], Policy], arena: Arena, outcomes: Outcomes
) -> None:
    policy = make(arena, outcomes)
    stream(policy, outcomes, arena)
    # Always the same model would be right in a third of the cases at most.
    assert share_of_experts(policy, arena) > 0.6


def test_linucb_is_the_ridge_regression_of_what_it_has_seen(arena: Arena, outcomes: Outcomes) -> None:
    """Step by step as in closed form, on quality less what was expected of anybody before."""
    peer, width = LinUcb(4, arena.codebook.cells), arena.codebook.cells + 1
    rows, targets = [], []
    for query, row in list(zip(arena.train, scores_of(outcomes, arena), strict=True))[:60]:
        x = np.zeros(width)
        x[query.context.cells], x[-1] = query.context.weight, 1.0
        cells, mean = query.context.cells, peer._all / peer._times
        expected = query.context.weight @ ((peer._sum[cells] + 10.0 * mean) / (peer._count[cells] + 10.0))
        rows.append(x)
        targets.append(row[2] - expected)
        peer.learn(query, 2, float(row[2]))
    seen = np.array(rows)
    closed = np.linalg.solve(seen.T @ seen + np.eye(width), seen.T @ np.array(targets))
    assert np.allclose(peer._theta[2], closed)
    assert np.allclose(peer._inverse[2], np.linalg.inv(seen.T @ seen + np.eye(width)))
    assert not peer._theta[[0, 1, 3]].any()
    assert peer._all / peer._times == pytest.approx((5.0 + scores_of(outcomes, arena)[:60, 2].sum()) / 70.0)


def test_a_ridge_regression_finds_a_plane_and_shrinks_to_the_mean(arena: Arena) -> None:
    slopes = np.random.default_rng(3).standard_normal((arena.train.vectors.shape[1], 2))
    values = 0.5 + arena.train.vectors @ slopes
    ridge = Ridge()
    ridge.PENALTY = 1e-4
    ridge.fit(arena.train, values)
    assert np.allclose(ridge.estimate(arena.train), values, atol=0.01)
    ridge.PENALTY = 1e9
    ridge.fit(arena.train, values)
    assert np.allclose(ridge.estimate(arena.test), values.mean(0), atol=1e-3)


def test_a_cluster_of_few_is_near_the_mean_over_all(arena: Arena, outcomes: Outcomes) -> None:
    scores = scores_of(outcomes, arena)
    kmeans = Kmeans(0)
    kmeans.STRENGTH = 1e9
    kmeans.fit(arena.train, scores)
    assert np.allclose(kmeans.estimate(arena.test), scores.mean(0), atol=1e-4)


def test_without_context_the_best_single_wins(arena: Arena, outcomes: Outcomes) -> None:
    best = BestSingle()
    best.fit(arena.train, scores_of(outcomes, arena))
    assert {best.choose(query) for query in arena.test} == {3}
    thompson = Thompson(4, np.random.default_rng(0))
    stream(thompson, outcomes, arena)
    assert {thompson.choose(query) for query in arena.test} == {3}


@pytest.mark.parametrize("mode", ["full", "bandit"])
def test_frozen_policies_choose_the_same_again(mode: Mode, arena: Arena, outcomes: Outcomes) -> None:
    policies, notes = contestants(outcomes, arena, mode)
    assert notes == []
    for policy in policies:
        assert mode in policy.modes
        if mode == "full":
            policy.fit(arena.train, scores_of(outcomes, arena))
            policy.freeze()
        else:
            stream(policy, outcomes, arena)
        first = [policy.choose(query) for query in arena.test]
        assert all(0 <= arm < 4 for arm in first)
        if policy.name != "random":
            assert [policy.choose(query) for query in arena.test] == first, policy.name


def test_a_single_choice_is_that_of_the_batch(arena: Arena, outcomes: Outcomes) -> None:
    for router in (BestSingle(), Topic(), Knn(), Kmeans(0), Ridge()):
        router.fit(arena.train, scores_of(outcomes, arena))
        batch = router.estimate(arena.test).argmax(1).tolist()
        assert [router.choose(query) for query in arena.test] == batch


def test_sums_added_up_beforehand_are_what_learning_one_by_one_gives(
    arena: Arena, outcomes: Outcomes
) -> None:
    """The full-information book against a book that observed every outcome."""
    scores = scores_of(outcomes, arena)
    at_once, one_by_one = (SagePolicy(outcomes.models, arena.codebook, None) for _ in range(2))
    at_once.fit(arena.train, scores)
    for query, row in zip(arena.train, scores, strict=True):
        for arm, quality in enumerate(row):
            one_by_one.learn(query, arm, float(quality))
    a, b = at_once._book, one_by_one._book
    for name in outcomes.models:
        left, right = a.row(name), b.row(name)
        assert left is not None
        assert right is not None
        assert np.allclose(left.sums, right.sums)
        assert np.allclose(left.weights, right.weights)
        assert (left.events, left.total) == (right.events, right.total)


def test_prices_are_expected_in_their_own_unit(arena: Arena, outcomes: Outcomes) -> None:
    price = np.tile([7.0, 8.0, 9.0, 1.0], (350, 1))
    expectation = SageExpectation(outcomes.models, arena.codebook)
    expectation.fit(arena.train, price)
    assert np.allclose(expectation.estimate(arena.test), price[:100], rtol=0.02)


def test_components_are_unit_rows_of_the_largest_variance() -> None:
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.standard_normal((60, 60)))[0]
    vectors = (random.standard_normal((400, 60)) * ([5.0] * 24 + [0.1] * 36)) @ axes.T
    made = principal_components(vectors.astype(np.float32), np.arange(300), seed=0)
    assert made.shape == (400, 25)
    assert np.allclose(np.linalg.norm(made[:, :-1], axis=1), 1.0)
    assert (made[:, -1] == 1.0).all()
    kept = np.linalg.norm(vectors - vectors[:300].mean(0), axis=1)
    inside = np.linalg.norm((vectors - vectors[:300].mean(0)) @ axes[:, :24], axis=1)
    assert np.allclose(kept, inside, rtol=0.05)  # so that the first 24 axes are those kept
    near = made[:, :-1] @ made[0, :-1]
    true = (vectors - vectors[:300].mean(0)) @ axes[:, :24]
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    assert np.allclose(near, true @ true[0], atol=0.02)
