"""What others do: a router that knows no memory, and managers of memory that know no quality.

Owns: the rivals. Must not know: streams, figures, what SAGE does.

All but the first are told who should answer by the same trained router (nearest neighbours); they differ in
whom they unload. Each is written from its project's documents, for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

from sage.bench.residency.belady import Bound, rooms
from sage.bench.residency.simulate import Memory
from sage.bench.route_data import Ints

__all__ = ["BestSingle", "Clairvoyant", "Gdsf", "KeepAlive", "Lru", "MinEvictCost"]


class BestSingle:
    """One model for everything: the best on the history, loaded once."""

    name = "best_single_resident"

    def __init__(self, best: int) -> None:
        self._best = best

    def choose(self, _row: int, _memory: Memory, _now: float) -> int:
        """Always the same."""
        return self._best

    def make_room(self, _model: int, _memory: Memory, _now: float) -> Sequence[int]:
        """There is room for one."""
        return ()

    def expired(self, _memory: Memory, _now: float) -> Sequence[int]:
        """It stays."""
        return ()


class Lru:
    """The models are given for each question; the least recently used leaves (LocalAI, and most)."""

    name = "lru_knn"

    def __init__(self, routed: Ints, name: str = "") -> None:
        """``routed`` (questions,): the model for each question. ``name`` of the row, where it is another's
        table of models."""
        self._routed = routed.tolist()
        self.name = name or self.name

    def choose(self, row: int, _memory: Memory, _now: float) -> int:
        """As the router says."""
        return int(self._routed[row])

    def make_room(self, model: int, memory: Memory, now: float) -> Sequence[int]:
        """In the policy's order, until there is room."""
        leaving: list[int] = []
        free, need = memory.free, memory.models[model].bytes
        for number in self._order(memory, now):
            if need <= free:
                break
            leaving.append(number)
            free += memory.models[number].bytes
        return leaving

    def expired(self, _memory: Memory, _now: float) -> Sequence[int]:
        """Models stay until there is need."""
        return ()

    def _order(self, memory: Memory, _now: float) -> list[int]:
        return sorted(memory.held, key=lambda number: memory.held[number].last_used)


class KeepAlive(Lru):
    """Ollama's scheduler (its FAQ on ``keep_alive``; ``findRunnerToUnload`` in its server/sched.go, 2024-26).

    Modelled: a model goes five minutes after its last answer, the default; for room, models that are idle go
    one by one until the new one fits, the shortest keep-alive first, and as it is the same for all, by name.
    Not modelled, in its favour: at most three models are loaded, and memory is waited for after an unload.
    """

    name = "keepalive"
    KEEP_S = 300.0

    def expired(self, memory: Memory, now: float) -> Sequence[int]:
        """Idle for longer than they are kept."""
        return [number for number, held in memory.held.items() if now - held.last_used > self.KEEP_S]

    def _order(self, memory: Memory, _now: float) -> list[int]:
        return sorted(memory.held, key=lambda number: memory.models[number].name)


class MinEvictCost(Lru):
    """llama-swap's matrix (``matrix`` and ``evict_costs`` in its docs/config.example.yaml, 2026).

    Modelled: of the sets of models that may be loaded together, the one is taken for which leaving costs the
    least. There a user writes the sets and the costs, 1 a model by default. Here every set that fits is
    written down, and a model costs the seconds that loading it again takes: the best such file there is.
    """

    name = "min_evict_cost"

    def make_room(self, model: int, memory: Memory, now: float) -> Sequence[int]:
        """The cheapest to lose."""
        del now
        held = sum(1 << number for number in memory.held)
        sizes = [m.bytes for m in memory.models]
        keep = max(
            rooms(held, sizes, memory.budget - sizes[model], {}),
            key=lambda kept: sum(memory.models[n].load_s for n in memory.held if kept >> n & 1),
        )
        return [number for number in memory.held if not keep >> number & 1]


class Gdsf(Lru):
    """GreedyDual-Size-Frequency (Cherkasova 1998): least (uses x load time / bytes), aged by a clock."""

    name = "gdsf"

    def __init__(self, routed: Ints) -> None:
        super().__init__(routed)
        self._clock = 0.0
        self._priority: dict[int, tuple[int, float]] = {}

    def make_room(self, model: int, memory: Memory, now: float) -> Sequence[int]:
        """The clock goes on to the last that left."""
        values = {number: self._value(number, memory) for number in memory.held}
        leaving = super().make_room(model, memory, now)
        self._clock = max([self._clock, *(values[number] for number in leaving)])
        for number in leaving:
            del self._priority[number]
        return leaving

    def _order(self, memory: Memory, _now: float) -> list[int]:
        return sorted(memory.held, key=lambda number: self._value(number, memory))

    def _value(self, number: int, memory: Memory) -> float:
        """The clock at its last use, and what it was worth then."""
        uses, model = memory.held[number].uses, memory.models[number]
        counted, clock = self._priority.get(number, (-1, 0.0))
        if counted != uses:
            counted, clock = self._priority[number] = uses, self._clock
        return clock + counted * model.load_s / model.bytes


class Clairvoyant:
    """Serves the router's choices with the fewest loads there can be: it has read the whole stream."""

    name = "belady"

    def __init__(self, sequence: Sequence[int], bound: Bound) -> None:
        self._sequence = sequence
        self._keep = dict(zip(bound.loads, bound.held, strict=True))
        self._position = -1

    def choose(self, _row: int, _memory: Memory, _now: float) -> int:
        """The next of the sequence."""
        self._position += 1
        return self._sequence[self._position]

    def make_room(self, _model: int, memory: Memory, _now: float) -> Sequence[int]:
        """Whom the plan does not keep."""
        keep = self._keep[self._position]
        return [number for number in memory.held if not keep >> number & 1]

    def expired(self, _memory: Memory, _now: float) -> Sequence[int]:
        """Nothing leaves before it must."""
        return ()
