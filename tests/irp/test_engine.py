"""Whatever a plugin does, refinement ends in time, says why, and keeps the best and the latest."""

from __future__ import annotations

import _thread
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.clock import FakeClock
from sage.irp.engine import refine, why_halt
from sage.irp.protocol import Exhausted, Limits, Refined, Step


class Scripted:
    """The state is the number of steps taken; step k has the k-th energy."""

    def __init__(self, energies: Sequence[float], *, atp: float = 1.0, halt: str = "") -> None:
        self.energies = energies
        self.atp = atp
        self.reason = halt
        self.asked: list[float] = []

    def init_state(self) -> int:
        return 0

    def step(self, state: int, atp_left: float) -> Step[int]:
        self.asked.append(atp_left)
        if state >= len(self.energies):
            raise Exhausted
        return Step(state=state + 1, atp=self.atp)

    def energy(self, state: int) -> float:
        return self.energies[state - 1]

    def halt(self, energies: tuple[float, ...]) -> str:
        return self.reason if energies else ""


def limits(**changes: float) -> Limits:
    values = {"max_steps": 20, "atp": 100.0, "seconds": 10.0, "accept": 0.05, "epsilon": 0.01, **changes}
    return Limits(**values)  # type: ignore[arg-type]


def run(plugin: Scripted, **changes: float) -> Refined[int]:
    return refine(plugin, limits(**changes), cancelled=threading.Event())


@pytest.mark.parametrize(
    ("energies", "reason", "best"),
    [
        ([0.9, 0.5, 0.04], "accepted", 3),
        ([0.05], "accepted", 1),
        ([0.9, 0.5, 0.495, 0.491], "converged", 4),
        ([0.5, 0.5, 0.5], "converged", 1),
        ([0.3, 0.4, 0.5, 0.6], "rising", 1),
        ([0.5, 0.7, 0.4, 0.8], "oscillating", 3),
        ([0.5, 0.7, 0.5, 0.7], "oscillating", 1),
        ([0.9, 0.7], "exhausted", 2),
        ([], "exhausted", None),
    ],
)
def test_why_it_stops_and_what_it_keeps(energies: list[float], reason: str, best: int | None) -> None:
    refined = run(Scripted(energies))
    assert (refined.halt_reason, refined.state) == (reason, best)
    assert refined.energies == tuple(energies)
    assert refined.steps == len(energies)
    assert refined.atp == len(energies)
    assert refined.error is None


@pytest.mark.parametrize("energies", [[0.3, 0.6], [0.3, 0.4, 0.5, 0.6], [0.9, 0.5, 0.04]])
def test_the_latest_state_knows_most_though_an_earlier_one_looked_better(energies: list[float]) -> None:
    refined = run(Scripted(energies))
    assert refined.state == 1 + energies.index(min(energies))
    assert refined.latest == len(energies)


def test_a_fall_after_a_rise_is_not_yet_an_end() -> None:
    assert run(Scripted([0.9, 0.6, 0.8, 0.3, 0.5, 0.01])).halt_reason == "accepted"


def test_ends_that_agree_are_no_convergence() -> None:
    assert why_halt([0.5, 0.9, 0.5], limits()) == ""
    assert why_halt([0.5, 0.502, 0.7], limits()) == ""
    assert why_halt([], limits()) == ""


def test_max_steps() -> None:
    refined = run(Scripted([0.9, 0.7, 0.5, 0.3]), max_steps=3)
    assert (refined.halt_reason, refined.steps, refined.state) == ("max_steps", 3, 3)


def test_a_good_last_step_is_accepted_rather_than_the_end_of_steps() -> None:
    assert run(Scripted([0.9, 0.0]), max_steps=2).halt_reason == "accepted"


def test_budget() -> None:
    plugin = Scripted([0.9, 0.7, 0.5, 0.3], atp=4.0)
    refined = run(plugin, atp=10.0)
    assert (refined.halt_reason, refined.steps, refined.atp) == ("budget", 3, 12.0)
    assert plugin.asked == [10.0, 6.0, 2.0]


def test_the_first_step_is_taken_even_without_a_budget() -> None:
    assert run(Scripted([0.9, 0.7]), atp=0.0).steps == 1


def test_the_plugin_s_own_reason() -> None:
    refined = run(Scripted([0.9, 0.7], halt="satisfied"))
    assert (refined.halt_reason, refined.steps) == ("satisfied", 1)


def test_cancelled_before_and_between_steps() -> None:
    cancelled = threading.Event()

    class Cancels(Scripted):
        def energy(self, state: int) -> float:
            cancelled.set()
            return super().energy(state)

    refined = refine(Cancels([0.9, 0.7]), limits(), cancelled=cancelled)
    assert (refined.halt_reason, refined.state) == ("cancelled", 1)
    again = refine(Scripted([0.9]), limits(), cancelled=cancelled)
    assert (again.halt_reason, again.state, again.steps) == ("cancelled", None, 0)


def test_a_failure_after_a_cancel_is_the_cancel_s() -> None:
    cancelled = threading.Event()

    class Cancels(Scripted):
        def step(self, state: int, atp_left: float) -> Step[int]:
            cancelled.set()
            raise RuntimeError("stopped half-way")

    refined = refine(Cancels([0.9]), limits(), cancelled=cancelled)
    assert refined.halt_reason == "cancelled"
    assert str(refined.error) == "stopped half-way"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("before", [[], [0.7, 0.9]])
def test_an_energy_that_is_no_number_ends_it(bad: float, before: list[float]) -> None:
    refined = run(Scripted([*before, bad, 0.01]))
    assert refined.halt_reason == "bad_energy"
    assert refined.energies == tuple(before)
    assert refined.state == 1  # the best that could be weighed, else the only one there is
    assert refined.latest == (len(before) or 1)
    assert refined.atp == len(before) + 1


class RaisesAt(Scripted):
    """Raises in ``where`` at its k-th call, from 0."""

    def __init__(self, where: str, k: int) -> None:
        super().__init__([0.9, 0.7, 0.5, 0.3])
        self.where, self.k, self.calls = where, k, 0

    def _maybe(self, where: str) -> None:
        if where == self.where:
            self.calls += 1
            if self.calls > self.k:
                raise RuntimeError(f"{where} {self.k}")

    def init_state(self) -> int:
        self._maybe("init_state")
        return super().init_state()

    def step(self, state: int, atp_left: float) -> Step[int]:
        self._maybe("step")
        return super().step(state, atp_left)

    def energy(self, state: int) -> float:
        self._maybe("energy")
        return super().energy(state)

    def halt(self, energies: tuple[float, ...]) -> str:
        self._maybe("halt")
        return super().halt(energies)


@pytest.mark.parametrize("k", range(4))
def test_a_step_that_raises_loses_nothing(k: int) -> None:
    refined = run(RaisesAt("step", k))
    assert (refined.halt_reason, refined.steps) == ("error", k)
    assert refined.state == refined.latest == (k or None)
    assert str(refined.error) == f"step {k}"


@pytest.mark.parametrize("k", range(4))
def test_an_energy_that_raises_loses_nothing(k: int) -> None:
    refined = run(RaisesAt("energy", k))
    assert (refined.halt_reason, refined.steps) == ("bad_energy", k)
    assert refined.state == refined.latest == (k or 1)
    assert refined.atp == k + 1  # the step was paid for
    assert str(refined.error) == f"energy {k}"


@pytest.mark.parametrize("k", range(4))
def test_a_halt_that_raises_loses_nothing(k: int) -> None:
    refined = run(RaisesAt("halt", k))
    assert (refined.halt_reason, refined.steps) == ("error", k)
    assert refined.state == (k or None)
    assert str(refined.error) == f"halt {k}"


def test_a_plugin_that_cannot_even_begin() -> None:
    refined = run(RaisesAt("init_state", 0))
    assert (refined.halt_reason, refined.state, refined.steps) == ("error", None, 0)
    assert str(refined.error) == "init_state 0"


class Hangs(Scripted):
    """Waits at its k-th step until the test lets it go."""

    def __init__(self, k: int) -> None:
        super().__init__([0.9, 0.7, 0.5])
        self.k = k
        self.let_go = threading.Event()
        self.began = threading.Event()
        self.ended = threading.Event()

    def step(self, state: int, atp_left: float) -> Step[int]:
        if state == self.k:
            self.began.set()
            self.let_go.wait(10)
            self.ended.set()
        return super().step(state, atp_left)


@pytest.mark.parametrize(("k", "reason"), [(0, "hung"), (1, "deadline"), (2, "deadline")])
def test_a_step_that_hangs_costs_its_deadline(k: int, reason: str) -> None:
    plugin, cancelled = Hangs(k), threading.Event()
    started = time.monotonic()
    refined = refine(plugin, limits(seconds=0.2), cancelled=cancelled)
    assert 0.2 <= time.monotonic() - started < 1.0
    assert (refined.halt_reason, refined.steps, refined.state) == (reason, k, k or None)
    assert cancelled.is_set()  # the step left behind is told to stop
    plugin.let_go.set()
    assert plugin.ended.wait(5)


def test_quick_steps_keep_the_deadline_too() -> None:
    clock = FakeClock()

    class Slow(Scripted):
        def step(self, state: int, atp_left: float) -> Step[int]:
            clock.advance(3.0)
            return super().step(state, atp_left)

    plugin = Slow([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    refined = refine(plugin, limits(seconds=10.0), cancelled=threading.Event(), clock=clock)
    assert (refined.halt_reason, refined.steps, refined.state) == ("deadline", 4, 4)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_sets_cancelled_and_is_passed_on() -> None:
    plugin, cancelled = Hangs(0), threading.Event()

    def press() -> None:
        plugin.began.wait(5)
        _thread.interrupt_main()

    presser = threading.Thread(target=press)
    started = time.monotonic()
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        refine(plugin, limits(seconds=5.0), cancelled=cancelled)
    assert time.monotonic() - started < 1.0
    assert cancelled.is_set()
    plugin.let_go.set()
    assert plugin.ended.wait(5)
    presser.join()


any_energy = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.5, 0.7, math.nan, math.inf, -math.inf]))


@given(energies=st.lists(any_energy, max_size=12), max_steps=st.integers(1, 8), atp=st.floats(0, 10))
def test_it_never_goes_too_far_and_never_loses_the_best(
    energies: list[float], max_steps: int, atp: float
) -> None:
    plugin = Scripted(energies)
    refined = run(plugin, max_steps=max_steps, atp=atp)
    assert refined.steps <= max_steps
    assert len(plugin.asked) <= max_steps
    assert refined.atp < max(atp, 0.0) + 1.0 or refined.steps + (refined.halt_reason == "bad_energy") == 1
    assert refined.halt_reason
    assert all(math.isfinite(energy) for energy in refined.energies)
    if refined.energies:
        assert refined.state is not None
        assert plugin.energy(refined.state) == min(refined.energies)
        assert refined.latest == refined.steps
    else:
        assert refined.state == refined.latest == (1 if refined.halt_reason == "bad_energy" else None)
