"""Streams, policies, the clairvoyant bound and the simulator, on worlds whose answers are known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.bench.residency.belady import fewest_loads, rooms
from sage.bench.residency.figures import models_needed
from sage.bench.residency.peers import BestSingle, Clairvoyant, Gdsf, KeepAlive, Lru, MinEvictCost
from sage.bench.residency.planning import PARTS, measure_planning, planning_kernel
from sage.bench.residency.simulate import Held, Memory, simulate
from sage.bench.residency.speeds import USUAL, fit_speeds
from sage.bench.residency.streams import STREAMS, Stream, make_stream
from sage.bench.residency.world import Model, World, fitting, folder_world
from sage.bench.zoo.matrix import MeasuredModel
from sage.errors import UsageError
from sage.kernel.sense import Request, sense
from sage.types import Message

GB = 10**9
DISK = 1e9


def model(name: str, size: int, load_s: float = 1.0) -> Model:
    return Model(
        name=name, bytes=size, file_bytes=size, load_s=load_s, prompt_tok_s=100.0, generate_tok_s=10.0
    )


def world_of(*sizes: int) -> World:
    """Four questions; model m answers question m."""
    models = tuple(model("abcdef"[number], size) for number, size in enumerate(sizes))
    return World(
        name="made up",
        ids=("0", "1", "2", "3"),
        texts=("w", "x", "y", "z"),
        categories=("one", "one", "two", "two"),
        models=models,
        scores=np.eye(4)[:, : len(models)],
        tokens=np.full((4, len(models)), 10.0),
        prompt_tokens=np.full(4, 100.0),
        left_out={},
    )


def stream_of(rows: Sequence[int], gap: float = 10.0) -> Stream:
    return Stream(kind="uniform", rows=np.array(rows), at=gap * np.arange(1, len(rows) + 1.0))


def described(residency_data: Path, **changes: object) -> World:
    """The world where the first model's entry is changed."""
    entries = json.loads((residency_data / "models.json").read_text())
    entries[0] |= changes
    (residency_data / "models.json").write_text(json.dumps(entries))
    return folder_world(residency_data, DISK)


def test_sizes_are_those_of_four_bits_unless_something_else_is_stated(residency_data: Path) -> None:
    first = described(residency_data).models[0]
    assert (first.file_bytes, first.bytes) == (3 * GB, round(3.3 * GB))
    assert first.load_s == pytest.approx(3.3)
    assert described(residency_data, bits=8).models[0].file_bytes == 6 * GB
    stated = described(residency_data, bits=None, memory_gb=4.0).models[0]
    assert stated.bytes == 4 * GB
    assert described(residency_data, params_b=None, memory_gb=2.2).models[0].file_bytes == 2 * GB


def test_a_model_without_a_size_is_left_out_and_said_so(residency_data: Path) -> None:
    world = described(residency_data, params_b=None, memory_gb=None)
    assert [each.name for each in world.models] == ["traveller", "small"]
    assert world.left_out == {"adder": "its size is not known"}
    assert world.scores.shape == (300, 2)


@pytest.mark.parametrize("bad", [0, -1, "big", True])
def test_a_size_that_is_none_is_refused(residency_data: Path, bad: object) -> None:
    with pytest.raises(UsageError, match=r"memory_gb of 'adder'"):
        described(residency_data, memory_gb=bad)


def test_what_does_not_fit_alone_is_left_out_and_two_must_be_left(residency_data: Path) -> None:
    entries = json.loads((residency_data / "models.json").read_text())
    entries[0]["params_b"], entries[0]["memory_gb"] = 20.0, 40.0
    (residency_data / "models.json").write_text(json.dumps(entries))
    world = fitting(folder_world(residency_data, DISK), 8 * GB)
    assert world.left_out == {"adder": "needs 11.0 GB"}
    with pytest.raises(UsageError, match="1 model fit"):
        fitting(world, 2 * GB)
    with pytest.raises(UsageError, match="no models fit"):
        fitting(world, GB // 10)


def fewest_by_search(sequence: Sequence[int], sizes: Sequence[int], budget: int) -> int:
    """Every way there is."""
    ways = {frozenset[int](): 0}
    for wanted in sequence:
        after: dict[frozenset[int], int] = {}
        for held, loads in ways.items():
            for count in range(len(held) + 1):
                for kept in map(frozenset, itertools.combinations(held, count)):
                    now = kept | {wanted}
                    cost = loads + (wanted not in held)
                    if wanted in held and kept != held:
                        continue
                    if sum(sizes[m] for m in now) <= budget:
                        after[now] = min(cost, after.get(now, cost))
        ways = after
    return min(ways.values())


@settings(max_examples=60)
@given(
    sequence=st.lists(st.integers(0, 4), min_size=1, max_size=14),
    sizes=st.lists(st.integers(1, 6), min_size=5, max_size=5),
    budget=st.integers(6, 12),
)
def test_the_bound_is_the_fewest_there_is(sequence: list[int], sizes: list[int], budget: int) -> None:
    bound = fewest_loads(sequence, sizes, budget)
    assert bound.exact
    assert len(bound.loads) == fewest_by_search(sequence, sizes, budget)
    assert all(sum(sizes[m] for m in range(5) if held >> m & 1) <= budget for held in bound.held)
    assert all(held >> sequence[at] & 1 for at, held in zip(bound.loads, bound.held, strict=True))


def test_planning_is_timed_for_each_number_of_models() -> None:
    rows = measure_planning((10, 200))
    assert [(row["models"], row["part"]) for row in rows] == [(n, part) for n in (10, 200) for part in PARTS]
    assert all(0.0 < row["median us"] <= row["p95 us"] < 1e6 for row in rows)
    claims = {(row["models"], row["part"]): row["within 1 ms"] for row in rows}
    assert claims.pop((10, "planning")) in {"met", "missed"}
    assert set(claims.values()) == {""}


def test_what_planning_is_timed_with_can_all_be_loaded() -> None:
    request = Request(messages=(Message(role="user", content="?"),), session="s")
    with planning_kernel(20) as kernel:
        found = kernel.choosing.candidates(sense(request, default_max_tokens=64), pinned=None)
    assert len(found) == 20
    assert {each.name for each in found if each.resident} == {"model-0", "model-10"}
    assert all(each.unavailable is None and each.memory_bytes > 30e6 for each in found)


def test_a_model_larger_than_the_budget_has_no_bound() -> None:
    with pytest.raises(ValueError, match="larger"):
        fewest_loads([0, 1], [1, 9], 5)


def test_the_largest_sets_that_fit() -> None:
    assert sorted(rooms(0b111, [4, 3, 2], 5, {})) == [0b001, 0b110]
    assert list(rooms(0b11, [1, 1], 2, {})) == [0b11]
    assert list(rooms(0b1, [3], 2, {})) == [0]
    assert list(rooms(0b111, [1, 1, 1], 1, {1: 2, 2: 1})) == [0b100, 0b010, 0b001]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=6, max_size=6),
    held=st.integers(0, 63),
    room=st.integers(0, 20),
    soon=st.dictionaries(st.integers(0, 5), st.integers(1, 9)),
)
def test_no_largest_subset_is_left_out(sizes: list[int], held: int, room: int, soon: dict[int, int]) -> None:
    def size(kept: int) -> int:
        return sum(sizes[model] for model in range(6) if kept >> model & 1)

    fitting = [kept for kept in range(64) if not kept & ~held and size(kept) <= room]
    largest = [kept for kept in fitting if not any(kept != more == kept | more for more in fitting)]
    assert sorted(rooms(held, sizes, room, soon)) == largest


def test_many_models_are_planned_for_in_seconds() -> None:
    """Forty of one size have 2^40 subsets; a newcomer of twelve sizes can make room in 646,646 ways."""
    assert len(list(rooms((1 << 40) - 1, [1] * 40, 38, {}))) == 780
    sizes = [*[1] * 23, 12]
    asked = np.random.default_rng(0).integers(0, 24, 500).tolist()
    bound = fewest_loads(asked, sizes, 22)
    assert not bound.exact
    assert len(set(asked)) < len(bound.loads) < 500
    assert all(sum(sizes[m] for m in range(24) if held >> m & 1) <= 22 for held in bound.held)


@pytest.mark.parametrize(("models", "needed"), [(12, (1, 2, 3, 4)), (140, (1, 2, 3, 3))])
def test_so_many_models_are_needed_at_least(models: int, needed: tuple[int, ...]) -> None:
    """Each answers a question of its own; of 140 models sets of three are not gone through."""
    world = replace(world_of(GB), scores=np.eye(4, models))
    stream = stream_of([0, 1, 2, 3])
    assert tuple(models_needed(world, stream, quality) for quality in (0.25, 0.5, 0.75, 1.0)) == needed


def test_a_run_counts_loads_waits_and_bytes() -> None:
    """Two models that do not fit together: each change is a load of one second."""
    world = world_of(3 * GB, 3 * GB)
    run = simulate(world, stream_of([0, 0, 1, 0]), Lru(np.array([0, 1, 0, 1])), budget=4 * GB)
    assert run.chosen == (0, 0, 1, 0)
    assert run.loads == (0, 2, 3)
    assert run.cold_s == pytest.approx(3.0)
    assert run.quality.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert run.wait_s.tolist() == pytest.approx([1.0, 0.0, 1.0, 1.0])
    assert run.run_s.tolist() == pytest.approx([2.0] * 4)  # 100 tokens read, 10 written
    assert run.violations == 0


def test_requests_wait_for_the_one_before() -> None:
    run = simulate(world_of(GB, GB), stream_of([0, 0, 0], gap=0.5), BestSingle(0), budget=4 * GB)
    assert run.wait_s.tolist() == pytest.approx([1.0, 2.5, 4.0])


def test_a_policy_that_makes_no_room_is_found_out() -> None:
    class Careless(Lru):
        def make_room(self, model: int, memory: Memory, now: float) -> Sequence[int]:
            del model, memory, now
            return ()

    run = simulate(world_of(3 * GB, 3 * GB), stream_of([0, 1]), Careless(np.array([0, 1])), budget=4 * GB)
    assert run.violations == 1


def full(*held: tuple[int, float, int]) -> Memory:
    """Models of 1 GB, of which the second takes longest to load: (number, last used, uses)."""
    models = [model("c", GB), model("b", GB, load_s=9.0), model("a", GB, load_s=2.0), model("d", GB)]
    found = {number: Held(since=0.0, last_used=last, uses=uses) for number, last, uses in held}
    return Memory(models=models, budget=len(held) * GB, held=found)


def test_each_rule_sends_somebody_else_away() -> None:
    memory, routed = full((0, 5.0, 1), (1, 1.0, 1), (2, 9.0, 9)), np.array([3])
    assert Lru(routed).make_room(3, memory, 10.0) == [1]
    assert KeepAlive(routed).make_room(3, memory, 10.0) == [2]  # the first by name
    assert MinEvictCost(routed).make_room(3, memory, 10.0) == [0]
    assert Gdsf(routed).make_room(3, memory, 10.0) == [0]


def test_gdsf_ages_what_is_no_longer_used() -> None:
    memory, rule = full((0, 0.0, 1), (1, 0.0, 1)), Gdsf(np.array([0]))
    memory.budget = 2 * GB
    assert rule.make_room(3, memory, 0.0) == [0]
    for turn in range(1, 12):  # newcomers of one use each, until their clock passes what the old one earned
        memory.held = {1: memory.held[1], 3: Held(since=0.0, last_used=0.0, uses=turn)}
        gone = rule.make_room(0, memory, 0.0)
        if gone == [1]:
            return
    pytest.fail("it never left")


def test_what_is_idle_for_five_minutes_is_unloaded() -> None:
    memory = full((0, 100.0, 1), (1, 350.0, 1))
    assert KeepAlive(np.array([0])).expired(memory, 399.0) == []
    assert KeepAlive(np.array([0])).expired(memory, 401.0) == [0]


def test_the_clairvoyant_reaches_its_bound() -> None:
    world, asked = world_of(GB, GB, GB), [0, 1, 2, 0, 1, 2, 0, 1, 2]
    sizes = [each.bytes for each in world.models]
    plan = fewest_loads(asked, sizes, 2 * GB)
    run = simulate(world, stream_of(asked), Clairvoyant(asked, plan), budget=2 * GB)
    assert run.loads == plan.loads
    assert run.violations == 0
    lru = simulate(world, stream_of(asked), Lru(np.array([0, 1, 2, 0])), budget=2 * GB)
    assert len(run.loads) < len(lru.loads) == 9


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_ask_what_may_be_asked_in_order(kind: str) -> None:
    categories = ["x", "y", "z"] * 20
    expected = np.eye(3)[[0, 1, 2] * 20]
    rows = np.arange(30)
    made = make_stream(
        kind,  # type: ignore[arg-type]
        rows,
        categories,
        expected,
        [3, 3, 1],
        budget=4,
        gap_s=3.0,
        requests=500,
        random=np.random.default_rng(0),
    )
    assert len(made.rows) == len(made.at) == 500
    assert set(made.rows.tolist()) <= set(rows.tolist())
    assert (np.diff(made.at) >= 0.0).all()
    topics = [categories[row] for row in made.rows]
    changes = sum(a != b for a, b in itertools.pairwise(topics))
    if kind == "alternating":
        assert set(topics) == {"x", "y"}  # whose best models do not fit together
        assert 150 < changes < 350
    elif kind == "uniform":
        assert changes > 250
    else:
        assert changes < 60
    if kind == "day":
        hour = (made.at % 86_400.0) / 3600.0
        assert ((hour > 9) & (hour < 15)).sum() > 10 * ((hour > 21) | (hour < 3)).sum()


def test_speeds_are_fitted_to_what_was_measured() -> None:
    def measured(size: float, start: float = 0.002) -> MeasuredModel:
        return MeasuredModel(
            name=str(size),
            bytes=int(size),
            generate_tok_s=1 / (start + size / 5e10),
            prompt_tok_s=8e10 / size,
        )

    speeds = fit_speeds([measured(1e8), measured(3e8), measured(5e8)])
    assert speeds.generate_tok_s(4e9) == pytest.approx(1 / (0.002 + 0.08), rel=1e-6)
    assert speeds.prompt_tok_s(4e9) == pytest.approx(20.0, rel=1e-6)
    assert fit_speeds([measured(1e8), measured(3e8)]) == USUAL
    assert fit_speeds([replace(measured(s), generate_tok_s=s) for s in (1e1, 2e1, 3e1)]) == USUAL
