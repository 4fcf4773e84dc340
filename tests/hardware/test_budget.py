"""What models may take: never the floor, never below zero, never above the limit."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.config import Settings
from sage.hardware.budget import budget_bytes, memory_floor
from sage.hardware.probe import Accelerator, Machine, Memory
from sage.kernel.session import open_kernel
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard

GIB = 1024**3


@pytest.mark.parametrize(("total", "floor"), [(0, GIB), (4 * GIB, GIB), (10 * GIB, GIB), (40 * GIB, 4 * GIB)])
def test_floor(total: int, floor: int) -> None:
    assert memory_floor(total) == floor


@pytest.mark.parametrize(
    ("available", "limit_gb", "budget"),
    [
        (5 * GIB, 0.0, 4 * GIB),
        (5 * GIB, 1.5, 1_500_000_000),
        (5 * GIB, 100.0, 4 * GIB),
        (GIB, 0.0, 0),
        (GIB // 2, 2.0, 0),
    ],
)
def test_budget(available: int, limit_gb: float, budget: int) -> None:
    assert budget_bytes(Memory(8 * GIB, available), limit_gb) == budget


@given(
    total=st.integers(0, 2**42),
    share=st.floats(0, 1),
    limit_gb=st.floats(0, 10_000, allow_nan=False),
)
def test_the_floor_is_always_left(total: int, share: float, limit_gb: float) -> None:
    available = int(total * share)
    budget = budget_bytes(Memory(total, available), limit_gb)
    assert budget >= 0
    assert budget == 0 or available - budget >= memory_floor(total)
    assert limit_gb == 0 or budget <= limit_gb * 1e9


@given(total=st.integers(2 * GIB, 2**42), share=st.floats(0, 1), limit_gb=st.floats(0, 1000))
def test_memory_that_a_gpu_shares_is_counted_once(total: int, share: float, limit_gb: float) -> None:
    plain = Machine(
        platform="linux",
        arch="aarch64",
        cpu="Orin",
        logical_cores=8,
        usable_cores=8,
        memory_total=total,
        memory_available=int(total * share),
        swap_total=0,
        unified=False,
    )
    board = Accelerator(name="Orin", memory_total=total, memory_free=plain.memory_available, unified=True)
    shared = dataclasses.replace(plain, unified=True, accelerators=(board,))
    budget = budget_bytes(shared.memory, limit_gb)
    assert budget == budget_bytes(plain.memory, limit_gb)
    assert budget <= shared.memory_available


def test_what_is_loaded_counts_against_the_limit_only() -> None:
    memory = Memory(8 * GIB, 8 * GIB)
    unlimited = budget_bytes(memory, 0.0)
    assert budget_bytes(memory, 0.0, loaded=10**9) == unlimited  # it is no longer available anyway
    assert budget_bytes(memory, 0.5, loaded=200_000_000) == 300_000_000
    assert budget_bytes(memory, 0.5, loaded=600_000_000) == -100_000_000


SIZES = st.integers(0, 2**34)


@given(
    total=st.integers(2**32, 2**36),
    others=SIZES,
    models=st.lists(st.tuples(SIZES, SIZES), max_size=5),
    n=SIZES,
)
def test_unloading_gives_back_what_it_takes_off(
    total: int, others: int, models: list[tuple[int, int]], n: int
) -> None:
    """A model holds memory of its own and pages of its file, which the system calls available."""

    def budget(models: list[tuple[int, int]]) -> int:
        memory = Memory(total, max(0, total - others - sum(own for own, _ in models)))
        mapped = sum(file for _, file in models)
        return budget_bytes(memory, 0.0, loaded=mapped + sum(own for own, _ in models), mapped=mapped)

    if others + sum(own for own, _ in models) > total:
        return
    gone, left = models[: n % (len(models) + 1)], models[n % (len(models) + 1) :]
    promised, true = budget(models) + sum(own + file for own, file in gone), budget(left)
    assert promised == true or max(promised, true) <= 0


def test_the_weights_of_loaded_models_are_not_free() -> None:
    memory = Memory(8 * GIB, 7 * GIB)  # 5 GiB of it are clean pages of a loaded model's file
    assert budget_bytes(memory, 0.0, loaded=6 * GIB, mapped=5 * GIB) == GIB
    assert budget_bytes(memory, 0.0, loaded=7 * GIB, mapped=7 * GIB) == -GIB
    assert budget_bytes(memory, 6.0, loaded=5 * GIB, mapped=5 * GIB) == 6_000_000_000 - 5 * GIB


@given(
    total=st.integers(2**32, 2**36),
    share=st.floats(0, 1),
    limit_gb=st.floats(0.1, 100),
    own=SIZES,
    mapped=SIZES,
)
def test_a_limit_never_allows_more_than_there_is(
    total: int, share: float, limit_gb: float, own: int, mapped: int
) -> None:
    memory, loaded = Memory(total, int(total * share)), own + mapped
    limited = budget_bytes(memory, limit_gb, loaded=loaded, mapped=mapped)
    assert limited <= budget_bytes(memory, 0.0, loaded=loaded, mapped=mapped)
    assert loaded + limited <= limit_gb * 1e9


def test_the_kernel_reads_memory_and_nothing_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hung driver would cost seconds on every turn."""
    card = ModelCard(
        name="a", source="fake", backend="fake", sha256="", bytes=1, license="MIT", context_length=4096
    )
    monkeypatch.setattr("sage.hardware.probe.accelerators", None)
    monkeypatch.setattr("sage.kernel.session.memory", lambda: Memory(8 * GIB, 4 * GIB))
    with open_kernel(home=home, settings=Settings(), catalog={"a": card}) as kernel:
        assert kernel.choosing.surroundings.free_bytes() == 3 * GIB
        kernel.host.ask(card, GenerationRequest(messages=(Message(role="user", content="q"),)), print)
        assert kernel.choosing.surroundings.free_bytes() == 3 * GIB - kernel.host.mapped_bytes() < 3 * GIB
