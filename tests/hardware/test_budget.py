"""What models may take: never the floor, never below zero, never above the limit."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.hardware.budget import budget_bytes, memory_floor
from sage.hardware.probe import Machine

GIB = 1024**3

MACHINE = Machine(
    platform="linux",
    arch="aarch64",
    cpu="board",
    logical_cores=6,
    usable_cores=6,
    memory_total=8 * GIB,
    memory_available=5 * GIB,
    swap_total=0,
    unified=True,
)


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
    assert budget_bytes(dataclasses.replace(MACHINE, memory_available=available), limit_gb) == budget


@given(
    total=st.integers(0, 2**42),
    share=st.floats(0, 1),
    limit_gb=st.floats(0, 10_000, allow_nan=False),
)
def test_the_floor_is_always_left(total: int, share: float, limit_gb: float) -> None:
    available = int(total * share)
    machine = dataclasses.replace(MACHINE, memory_total=total, memory_available=available)
    budget = budget_bytes(machine, limit_gb)
    assert budget >= 0
    assert budget == 0 or available - budget >= memory_floor(total)
    assert limit_gb == 0 or budget <= limit_gb * 1e9


def test_what_is_loaded_counts_against_the_limit_only() -> None:
    machine = dataclasses.replace(MACHINE, memory_available=MACHINE.memory_total)
    unlimited = budget_bytes(machine, 0.0)
    assert budget_bytes(machine, 0.0, loaded=10**9) == unlimited  # it is no longer available anyway
    assert budget_bytes(machine, 0.5, loaded=200_000_000) == 300_000_000
    assert budget_bytes(machine, 0.5, loaded=600_000_000) == -100_000_000
