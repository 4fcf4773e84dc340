"""Requests through a memory of models, on a simulated clock.

Owns: what is loaded, the clock, and an account of every byte that does not trust the policy.
Must not know: how a policy chooses or whom it unloads.

One answer is made at a time, as on a machine whose memory bandwidth is the limit; requests wait their turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sage.bench.residency.streams import Stream
from sage.bench.residency.world import Model, World
from sage.bench.route_data import Floats

__all__ = ["Held", "Memory", "Policy", "Run", "simulate"]


@dataclass(slots=True)
class Held:
    """A model in memory: when it was loaded and last used, how often since."""

    since: float
    last_used: float
    uses: int = 0


@dataclass(slots=True)
class Memory:
    """``models`` of the zoo by number, ``held`` those loaded, ``budget`` in bytes."""

    models: Sequence[Model]
    budget: int
    held: dict[int, Held] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """Bytes that nothing occupies."""
        return self.budget - sum(self.models[number].bytes for number in self.held)


class Policy(Protocol):
    """Who answers, and who leaves memory for it."""

    name: str

    def choose(self, row: int, memory: Memory, now: float) -> int:
        """The model for the question of this row."""
        ...

    def make_room(self, model: int, memory: Memory, now: float) -> Sequence[int]:
        """Whom to unload so that this model fits. Asked before each load."""
        ...

    def expired(self, memory: Memory, now: float) -> Sequence[int]:
        """Whom to unload because nobody has used them for long."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Run:
    """What became of a stream: (requests,) arrays, seconds; ``loads`` are positions in it. ``violations``
    counts the moments at which the models in memory took more than the budget."""

    chosen: tuple[int, ...]
    loads: tuple[int, ...]
    quality: Floats
    wait_s: Floats
    run_s: Floats
    cold_s: float
    violations: int


def simulate(world: World, stream: Stream, policy: Policy, *, budget: int) -> Run:
    """Serve every request of the stream, from an empty memory."""
    memory = Memory(models=world.models, budget=budget)
    occupied = _Account({number: model.bytes for number, model in enumerate(world.models)}, budget)
    run_s = world.run_s
    chosen, loads, waits = [], [], []
    free_at = cold = 0.0
    for position, (row, at) in enumerate(zip(stream.rows.tolist(), stream.at.tolist(), strict=True)):
        now = max(at, free_at)
        for number in policy.expired(memory, now):
            del memory.held[number]
            occupied.gone(number)
        model = policy.choose(row, memory, now)
        load_s = 0.0
        if model not in memory.held:
            for number in policy.make_room(model, memory, now):
                del memory.held[number]
                occupied.gone(number)
            load_s = world.models[model].load_s
            memory.held[model] = Held(since=now, last_used=now)
            occupied.came(model)
            loads.append(position)
        free_at = now + load_s + float(run_s[row, model])
        memory.held[model].last_used = free_at
        memory.held[model].uses += 1
        chosen.append(model)
        waits.append(now + load_s - at)
        cold += load_s
    rows, columns = stream.rows, np.array(chosen)
    return Run(
        chosen=tuple(chosen),
        loads=tuple(loads),
        quality=world.scores[rows, columns],
        wait_s=np.array(waits),
        run_s=run_s[rows, columns],
        cold_s=cold,
        violations=occupied.violations,
    )


class _Account:
    """Bytes by who came and went: its own sum, so that a policy's mistake shows."""

    def __init__(self, sizes: dict[int, int], budget: int) -> None:
        self._sizes, self._budget = sizes, budget
        self._occupied = 0
        self.violations = 0

    def came(self, number: int) -> None:
        self._occupied += self._sizes[number]
        self.violations += self._occupied > self._budget

    def gone(self, number: int) -> None:
        self._occupied -= self._sizes[number]
