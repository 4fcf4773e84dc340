"""The residency against a random world that keeps its own books: nothing stuck, nothing over the budget."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sage.errors import LoadFailed, WorkerDied
from sage.zoo.residency import Residency
from sage.zoo.signals import (
    Appraised,
    Failed,
    Gone,
    Grant,
    LetGo,
    Load,
    Loaded,
    PrefetchAsked,
    Pressed,
    Refuse,
    Requested,
    Served,
    ShutDown,
    Signal,
    Ticked,
    Unload,
    UnloadAsked,
    Wait,
    Withdrawn,
)

MODELS = {f"m{i}": size for i, size in enumerate((5, 8, 13, 21, 34, 55, 90))}


@dataclass
class Process:
    bytes: int  # set aside for the load, then what was last measured
    state: str = "loading"
    serving: str = ""


@dataclass
class World:
    """Processes and requests as they really are, and every rule that the residency promises to keep."""

    budget: int = 100
    now: float = 0.0
    residency: Residency = field(default_factory=lambda: Residency(100))
    processes: dict[str, Process] = field(default_factory=dict)
    open: dict[str, tuple[str, float]] = field(default_factory=dict)  # id: model, deadline; waiting ones
    served: dict[str, str] = field(default_factory=dict)  # id: model; granted ones
    asked: int = 0
    grants: int = 0
    loads: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    closed: bool = False
    fresh: bool = True
    """Nobody asked since the start, or since the memory was let go: nothing may be loaded."""

    def send(self, signal: Signal) -> None:
        if isinstance(signal, Pressed):
            self.budget = signal.budget
        for effect in self.residency.handle(signal, self.now):
            match effect:
                case Load():
                    assert effect.model not in self.processes
                    assert not self.fresh, "the memory is another's"
                    self.processes[effect.model] = Process(effect.bytes)
                    self.loads += 1
                    used = sum(process.bytes for process in self.processes.values())
                    assert used <= self.budget, "a load began without room"
                case Unload():
                    process = self.processes[effect.model]
                    assert process.state != "leaving", "told twice"
                    assert not process.serving or self.closed, "sent away while in use"
                    process.state = "leaving"
                case Grant():
                    model, deadline = self.open.pop(effect.id)
                    process = self.processes[model]
                    assert process.state == "loaded"
                    assert not process.serving
                    assert self.now < deadline
                    process.serving = effect.id
                    self.served[effect.id] = model
                    self.grants += 1
                case Refuse():
                    del self.open[effect.id]
                    self.refused[effect.error.name] = self.refused.get(effect.error.name, 0) + 1
                case Wait():
                    assert effect.id in self.open
        self.check()

    def check(self) -> None:
        standing = {model.name: model for model in self.residency.standing()}
        assert {n: (m.phase, m.busy) for n, m in standing.items()} == {
            n: (p.state, bool(p.serving)) for n, p in self.processes.items()
        }
        assert all(p.bytes <= standing[n].bytes for n, p in self.processes.items()), "counted too low"
        staying = [m for m in standing.values() if m.phase != "leaving"]
        if sum(m.bytes for m in staying) > self.budget:
            assert all(m.busy for m in staying), "over the budget while something idle could go"
        assert all(deadline > self.now for _, deadline in self.open.values()), "a deadline passed"
        assert not self.open or math.isfinite(self.residency.wake_at), "requests wait, and no time is set"

    def advance(self, seconds: float) -> None:
        """Let time pass, with a tick whenever one is due."""
        until = self.now + seconds
        while (wake := self.residency.wake_at) <= until:
            self.now = max(self.now, wake)
            self.send(Ticked())
            assert self.residency.wake_at > self.now, "it asks to be woken for nothing"
        self.now = until

    def request(self, model: str, patience: float, size: int = 0) -> None:
        self.asked += 1
        name = f"r{self.asked}"
        self.open[name] = (model, self.now + patience)
        self.fresh = False
        size = size or MODELS[model]
        until, ahead = self.now + patience, 60.0 * (self.asked % 5) / 4
        self.send(Requested(id=name, model=model, bytes=size, deadline=until, head_start_s=ahead))

    def loaded(self, model: str, factor: float) -> None:
        process = self.processes[model]
        measured = max(1, int(MODELS[model] * factor))
        if process.state == "loading":
            process.state, process.bytes = "loaded", measured
        self.send(Loaded(model=model, bytes=measured))

    def gone(self, model: str) -> None:
        process = self.processes.pop(model)
        self.send(Gone(model=model))
        if process.serving:
            self.finish(process.serving, failed=True)

    def failed(self, model: str) -> None:
        del self.processes[model]
        self.send(Failed(model=model, error=LoadFailed("no")))

    def finish(self, request: str, *, failed: bool = False, growth: float = 1.0) -> None:
        process = self.processes.get(self.served.pop(request))
        measured = 0
        if process and process.serving == request:
            process.serving = ""
            process.bytes = measured = max(1, int(process.bytes * growth))
        self.send(Served(id=request, bytes=measured, failure=WorkerDied("dead") if failed else None))

    def withdraw(self, request: str) -> None:
        self.open.pop(request, None)
        if model := self.served.pop(request, None):
            process = self.processes.get(model)
            if process and process.serving == request:
                process.serving = ""
        self.send(Withdrawn(id=request))

    def let_go(self) -> None:
        """As the owner does it: only while nothing is in use or waited for."""
        if self.residency.idle:
            self.fresh = True
            self.send(LetGo(reason="asked"))

    def settle_down(self) -> None:
        """No more requests: everything that was asked comes to an end."""
        for _ in range(20 * (len(self.open) + len(self.served) + len(self.processes)) + 200):
            if not (self.open or self.served):
                break
            self.advance(0.5)
            for name, process in list(self.processes.items()):
                if process.state == "loading":
                    self.loaded(name, 1.0)
                elif process.state == "leaving" and not process.serving:
                    self.gone(name)
            for request in list(self.served):
                self.finish(request)
        assert not self.open
        assert not self.served


def step(world: World, chance: random.Random) -> None:
    """One random thing happens."""
    world.advance(chance.choice((0.0, 0.0, 0.01, 0.2, 1.0)))
    loading = [n for n, p in world.processes.items() if p.state == "loading"]
    leaving = [n for n, p in world.processes.items() if p.state == "leaving"]
    loaded = [n for n, p in world.processes.items() if p.state == "loaded"]
    names = list(MODELS)
    dice = chance.random()
    if dice < 0.35:
        model = chance.choice(names)
        patience = chance.choice((0.5, 5.0, 30.0, 300.0))
        lie = chance.choice((1.0, 1.0, 1.0, 0.5, 2.0))
        if len(world.open) < 60:
            world.request(model, patience, max(1, int(MODELS[model] * lie)))
    elif dice < 0.60 and world.served:
        world.finish(chance.choice(list(world.served)), growth=chance.choice((1.0, 1.0, 1.0, 1.1)))
    elif dice < 0.78 and (loading or leaving):
        model = chance.choice(loading + leaving)
        process = world.processes[model]
        if process.state == "leaving":
            world.gone(model)
        elif chance.random() < 0.05:
            world.failed(model)
        else:
            world.loaded(model, chance.choice((1.0, 1.0, 0.7, 1.3)))
    elif dice < 0.82 and world.open:
        world.withdraw(chance.choice(list(world.open)))
    elif dice < 0.84 and world.served:
        world.withdraw(chance.choice(list(world.served)))
    elif dice < 0.86 and loaded:
        world.gone(chance.choice(loaded))
    elif dice < 0.88:
        world.send(Pressed(budget=chance.choice((100, 100, 100, 60, 150))))
    elif dice < 0.885:
        world.let_go()
    elif dice < 0.90:
        world.send(UnloadAsked(model=chance.choice(names)))
    elif dice < 0.94:
        model = chance.choice(names)
        world.send(PrefetchAsked(model=model, bytes=MODELS[model]))
    elif dice < 0.96:
        world.send(Appraised(worth={name: chance.random() for name in names}))
    else:
        world.advance(3.0)


def drive(seed: int, steps: int) -> World:
    chance, world = random.Random(seed), World()  # noqa: S311  a seed makes it repeatable
    for _ in range(steps):
        step(world, chance)
    world.settle_down()
    return world


@pytest.mark.parametrize("seed", range(5))
def test_a_long_random_life(seed: int) -> None:
    world = drive(seed, 20_000)
    assert world.grants > 2_000
    assert world.loads > 500
    assert set(world.refused) == {"DeadlineExceeded", "DoesNotFit", "Interrupted", "LoadFailed"}


@pytest.mark.parametrize("seed", range(5))
def test_whoever_waits_long_enough_is_served(seed: int) -> None:
    """Nobody stops, nothing fails, and there is always more to do: each request waits for a bounded time."""
    chance, world = random.Random(seed), World()  # noqa: S311
    asked_at: dict[str, float] = {}
    longest = 0.0
    for _ in range(4000):
        if len(world.open) < 12:
            world.request(chance.choice(list(MODELS)), 1e9)
            asked_at[f"r{world.asked}"] = world.now
        world.advance(0.5)
        moving = [n for n, p in world.processes.items() if p.state in ("loading", "leaving")]
        for name in moving:
            if world.processes[name].state == "leaving":
                world.gone(name)
            else:
                world.loaded(name, 1.0)
        for request in list(world.served):
            world.finish(request)
        for request in asked_at.keys() - world.open.keys():
            longest = max(longest, world.now - asked_at.pop(request))
    assert world.refused == {}
    assert world.grants > 3000
    assert longest < 60.0


def test_the_end_comes_in_the_middle_of_everything() -> None:
    for seed in range(50):
        chance, world = random.Random(seed), World()  # noqa: S311
        for _ in range(chance.randrange(300)):
            step(world, chance)
        world.closed = True
        world.send(ShutDown())
        assert not world.open
        assert {process.state for process in world.processes.values()} <= {"leaving"}
        for name in list(world.processes):
            world.gone(name)
        assert world.residency.used == 0


def test_a_load_that_is_half_done_is_not_thrown_away() -> None:
    world = World()
    world.request("m0", 100.0)
    world.advance(10.0)
    world.loaded("m0", 1.0)
    world.finish("r1")
    world.send(UnloadAsked(model="m0"))
    world.gone("m0")
    world.request("m0", 6.0)
    world.advance(6.0)
    assert world.refused == {"DeadlineExceeded": 1}
    assert world.processes["m0"].state == "loading"


NAMES = st.sampled_from(sorted(MODELS))


class Life(RuleBasedStateMachine):
    """The same world, driven by hypothesis, which shrinks what it finds."""

    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def pick(self, data: st.DataObject, state: str) -> str:
        return data.draw(st.sampled_from([n for n, p in self.world.processes.items() if p.state == state]))

    def has(self, state: str) -> bool:
        return any(process.state == state for process in self.world.processes.values())

    @rule(model=NAMES, patience=st.sampled_from((0.5, 5.0, 60.0)), lie=st.sampled_from((0.5, 1.0, 2.0)))
    def ask(self, model: str, patience: float, lie: float) -> None:
        self.world.request(model, patience, max(1, int(MODELS[model] * lie)))

    @precondition(lambda self: self.world.served)
    @rule(data=st.data(), growth=st.sampled_from((1.0, 1.3)), failed=st.booleans())
    def finish(self, data: st.DataObject, growth: float, failed: bool) -> None:
        request = data.draw(st.sampled_from(sorted(self.world.served)))
        self.world.finish(request, growth=growth, failed=failed)

    @precondition(lambda self: self.has("loading"))
    @rule(data=st.data(), factor=st.sampled_from((0.7, 1.0, 1.5)))
    def load(self, data: st.DataObject, factor: float) -> None:
        self.world.loaded(self.pick(data, "loading"), factor)

    @precondition(lambda self: self.has("loading"))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self.world.failed(self.pick(data, "loading"))

    @precondition(lambda self: self.has("leaving"))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.world.gone(self.pick(data, "leaving"))

    @precondition(lambda self: self.has("loaded"))
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.world.gone(self.pick(data, "loaded"))

    @precondition(lambda self: self.world.open)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        self.world.withdraw(data.draw(st.sampled_from(sorted(self.world.open))))

    @rule(budget=st.integers(0, 200))
    def press(self, budget: int) -> None:
        self.world.send(Pressed(budget=budget))

    @rule(model=NAMES)
    def dismiss(self, model: str) -> None:
        self.world.send(UnloadAsked(model=model))

    @rule()
    def let_go(self) -> None:
        self.world.let_go()

    @rule(model=NAMES)
    def prefetch(self, model: str) -> None:
        self.world.send(PrefetchAsked(model=model, bytes=MODELS[model]))

    @rule(worth=st.dictionaries(NAMES, st.floats(0, 1)))
    def appraise(self, worth: dict[str, float]) -> None:
        self.world.send(Appraised(worth=worth))

    @rule(seconds=st.sampled_from((0.01, 1.0, 10.0)))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @invariant()
    def the_books_agree(self) -> None:
        self.world.check()
        type(self).steps += 1

    def teardown(self) -> None:
        self.world.settle_down()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@pytest.mark.slow
def test_a_hundred_thousand_steps() -> None:
    class LongLife(Life):
        pass

    rounds = settings(max_examples=1200, stateful_step_count=100, deadline=None)
    run_state_machine_as_test(LongLife, settings=rounds)
    assert LongLife.steps >= 100_000
