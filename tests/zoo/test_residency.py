"""The rules of residency, one by one. Sizes and seconds are small numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from sage.errors import (
    DeadlineExceeded,
    DoesNotFit,
    Interrupted,
    LoadFailed,
    QueueFull,
    SageError,
    UnsafeFile,
    WorkerDied,
)
from sage.zoo.residency import Residency
from sage.zoo.signals import (
    Appraised,
    Effect,
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
    Withdrawn,
)


class Bench:
    """A residency whose effects are read as short words."""

    def __init__(self, budget: int, **more: int) -> None:
        self.machine = Residency(budget, **more)
        self.now = 0.0
        self.asked = 0
        self.refusals: dict[str, SageError] = {}

    def send(self, signal: Signal) -> list[str]:
        effects = self.machine.handle(signal, self.now)
        self.refusals.update({e.id: e.error for e in effects if isinstance(e, Refuse)})
        return list(words(effects))

    def ask(self, model: str, size: int, *, patience: float = 1000.0, **more: object) -> list[str]:
        """Requests are named by their model and a number: a1, b2, ..."""
        self.asked += 1
        deadline = self.now + patience
        name = f"{model}{self.asked}"
        return self.send(Requested(id=name, model=model, bytes=size, deadline=deadline, **more))  # type: ignore[arg-type]

    def have(self, model: str, size: int, *, load_s: float = 0.0) -> None:
        """The model is loaded and idle."""
        assert self.ask(model, size)[0] == f"load {model}"
        self.now += load_s
        name = f"{model}{self.asked}"
        assert self.send(Loaded(model=model, bytes=size)) == [f"grant {name}"]
        self.send(Served(id=name, bytes=size))

    def done(
        self, request: str, *, size: int = 0, long: bool = True, failure: WorkerDied | None = None
    ) -> list[str]:
        return self.send(Served(id=request, bytes=size, long=long, failure=failure))


def words(effects: Iterable[Effect]) -> Iterable[str]:
    for effect in effects:
        match effect:
            case Load() | Unload():
                yield f"{type(effect).__name__.lower()} {effect.model}"
            case Grant():
                yield f"grant {effect.id}"
            case Refuse():
                yield f"refuse {effect.id}"


def test_one_load_for_all_who_wait_and_one_at_a_time() -> None:
    bench = Bench(10)
    assert bench.ask("a", 4) == ["load a"]
    assert bench.ask("a", 4) == []
    assert bench.send(Loaded(model="a", bytes=4)) == ["grant a1"]
    assert bench.ask("a", 4) == []
    assert bench.done("a1") == ["grant a2"]
    assert bench.done("a2") == ["grant a3"]


def test_bytes_are_free_only_when_the_process_is_gone() -> None:
    bench = Bench(10)
    bench.have("a", 6)
    assert bench.ask("b", 6) == ["unload a"]
    assert bench.send(Ticked()) == []
    assert bench.send(Gone(model="a")) == ["load b"]


def test_what_leaves_is_not_brought_back_to_life() -> None:
    """It would keep the request that it leaves for waiting for ever."""
    bench = Bench(10)
    bench.have("a", 6)
    bench.ask("b", 6)
    assert bench.ask("a", 6) == []
    assert bench.send(Gone(model="a")) == ["load b"]
    assert bench.send(Loaded(model="b", bytes=6)) == ["grant b2"]
    assert bench.done("b2") == ["unload b"]
    assert bench.send(Gone(model="b")) == ["load a"]


def test_the_cheapest_byte_goes_first() -> None:
    bench = Bench(10)
    for name, size in (("a", 2), ("b", 4), ("c", 4)):
        bench.have(name, size)
    bench.send(Appraised(worth={"a": 0.3, "b": 0.4, "c": 0.9}))
    assert bench.ask("d", 4) == ["unload b"]


def test_a_stream_of_small_requests_does_not_keep_a_big_one_out() -> None:
    bench = Bench(10)
    bench.have("small", 6, load_s=2.0)
    bench.ask("small", 6)
    bench.ask("big", 8)
    served, running = 0, "small2"
    while bench.machine.standing()[0].name == "small":
        bench.now += 0.5
        bench.ask("small", 6)  # there is always another one
        effects = bench.done(running)
        if effects == ["unload small"]:
            break
        running = effects[0].removeprefix("grant ")
        served += 1
        assert served < 20
    assert bench.now == pytest.approx(4.0)  # it went on for as long as its own load had taken
    assert bench.send(Gone(model="small")) == ["load big"]
    assert bench.send(Loaded(model="big", bytes=8)) == ["grant big3"]


def test_those_who_came_before_are_served_first() -> None:
    bench = Bench(10)
    bench.have("a", 6)
    for model in ("a", "a", "b", "a"):
        bench.ask(model, 6)
    assert bench.done("a2") == ["grant a3"]
    assert bench.done("a3") == ["unload a"]
    assert bench.send(Gone(model="a")) == ["load b"]


def test_what_was_loaded_for_somebody_serves_them_before_it_goes() -> None:
    bench = Bench(10)
    bench.ask("a", 6)
    bench.ask("b", 6)
    bench.ask("a", 6)
    assert bench.send(Loaded(model="a", bytes=6)) == ["grant a1"]
    assert bench.done("a1") == ["unload a"]  # nobody knows yet that a load takes time
    assert bench.send(Gone(model="a")) == ["load b"]
    bench.now += 1.0
    assert bench.send(Loaded(model="b", bytes=6)) == ["grant b2"]
    assert bench.done("b2") == ["unload b"]


def test_a_claim_stands_though_its_victims_take_turns_at_being_busy() -> None:
    bench = Bench(10)
    bench.have("a", 5)
    bench.have("b", 5)
    bench.ask("a", 5)
    bench.ask("b", 5)
    bench.ask("c", 5)
    bench.ask("b", 5)
    assert bench.done("b4") == ["grant b6"]  # the claim is on a, which was used longer ago
    assert bench.ask("a", 5) == []
    assert bench.done("a3") == ["unload a"]
    assert bench.send(Gone(model="a")) == ["load c"]


def test_a_younger_request_may_load_where_it_takes_nothing_from_an_older_one() -> None:
    bench = Bench(20)
    bench.have("a", 8)
    bench.have("b", 8)
    bench.ask("a", 8)
    bench.ask("b", 8)
    assert bench.ask("big", 16) == []  # needs both
    assert bench.ask("tiny", 4) == ["load tiny"]  # what is left beside it
    assert bench.ask("more", 4) == []
    assert bench.done("a3") == ["unload a"]
    assert bench.done("b4") == ["unload b"]
    bench.send(Gone(model="a"))
    assert bench.send(Gone(model="b")) == ["load big"]


def test_what_can_never_fit_is_refused_at_once() -> None:
    bench = Bench(10)
    assert bench.ask("a", 11) == ["refuse a1"]
    assert isinstance(bench.refusals["a1"], DoesNotFit)


def test_a_deadline_ends_waiting_and_is_known_in_advance() -> None:
    bench = Bench(10)
    bench.ask("a", 6, patience=5.0)
    bench.send(Loaded(model="a", bytes=6))
    bench.ask("b", 6, patience=3.0)
    assert bench.machine.wake_at <= 3.0
    bench.now = 3.0
    assert bench.send(Ticked()) == ["refuse b2"]
    assert isinstance(bench.refusals["b2"], DeadlineExceeded)
    assert bench.machine.wake_at == math.inf


def test_a_load_that_nobody_waits_for_any_more_is_stopped() -> None:
    bench = Bench(10)
    bench.ask("a", 6)
    bench.ask("a", 6)
    assert bench.send(Withdrawn(id="a1")) == []
    assert bench.send(Withdrawn(id="a2")) == ["unload a"]
    assert bench.ask("b", 6) == []
    assert bench.send(Failed(model="a", error=Interrupted("stopped"))) == ["load b"]


def test_a_load_that_fails_fails_for_all_who_wait_for_it() -> None:
    bench = Bench(10)
    bench.ask("a", 6)
    bench.ask("a", 6)
    bench.ask("b", 6)
    effects = bench.send(Failed(model="a", error=LoadFailed("strange file")))
    assert effects == ["refuse a1", "refuse a2", "load b"]


def test_a_file_that_is_gone_matters_only_to_the_next_load() -> None:
    bench = Bench(10)
    bench.have("a", 6)
    assert bench.ask("a", 0, unfit=UnsafeFile("cut")) == ["grant a2"]
    bench.done("a2")
    bench.send(UnloadAsked(model="a"))
    bench.send(Gone(model="a"))
    assert bench.ask("a", 0, unfit=UnsafeFile("cut")) == ["refuse a3"]


def test_a_model_that_is_larger_than_it_said_drives_out_what_is_idle() -> None:
    bench = Bench(10)
    bench.have("a", 4)
    bench.ask("liar", 4)
    assert bench.send(Loaded(model="liar", bytes=7)) == ["unload a", "grant liar2"]
    assert bench.machine.used == 11  # nothing that could be kept: a is leaving
    bench.send(Gone(model="a"))
    bench.done("liar2", size=7)
    bench.send(UnloadAsked(model="liar"))
    bench.send(Gone(model="liar"))
    bench.have("a", 4)
    assert bench.ask("liar", 4) == ["unload a"]  # this time it is known


def test_a_model_larger_than_everything_goes_itself_and_is_refused_from_then_on() -> None:
    bench = Bench(10)
    bench.ask("liar", 4)
    assert bench.send(Loaded(model="liar", bytes=12)) == ["unload liar", "refuse liar1"]
    assert bench.send(Gone(model="liar")) == []
    assert bench.ask("liar", 4) == ["refuse liar2"]


def test_a_model_that_grew_too_large_beside_a_busy_one_waits_for_it() -> None:
    bench = Bench(10)
    bench.ask("a", 5)
    bench.send(Loaded(model="a", bytes=5))
    bench.ask("liar", 5)
    assert bench.send(Loaded(model="liar", bytes=8)) == ["unload liar"]
    bench.send(Gone(model="liar"))
    assert bench.done("a1", size=5) == ["unload a"]
    assert bench.send(Gone(model="a")) == ["load liar"]


def test_an_estimate_that_was_too_high_is_corrected_once_enough_was_seen() -> None:
    bench = Bench(100)
    bench.have("a", 60)
    for request in range(2, 4):
        assert bench.machine.used == 60
        bench.ask("a", 60)
        bench.done(f"a{request}", size=20)
    assert bench.machine.used == 60  # the first answer measured 60, and a peak is never forgotten
    other = Bench(100)
    other.ask("b", 60)
    other.send(Loaded(model="b", bytes=20))
    for request in range(1, 4):
        assert other.machine.used == 60
        other.done(f"b{request}", size=20)
        other.ask("b", 60)
    assert other.machine.used == 22


def test_pressure_sends_away_what_is_idle_and_waits_for_what_is_not() -> None:
    bench = Bench(12)
    for name in ("a", "b", "c"):
        bench.have(name, 4)
    bench.ask("b", 4)
    assert bench.send(Pressed(budget=4)) == ["unload a", "unload c"]
    assert bench.send(Pressed(budget=2)) == []
    assert bench.done("b4", size=4) == ["unload b"]
    for name in ("a", "b", "c"):
        bench.send(Gone(model=name))
    assert bench.machine.used == 0


def test_two_models_that_alternate_serve_longer_than_they_load() -> None:
    """Many clients of each, no room for both: loading takes less than half, and both get their share."""
    bench, loading, serving, answers = Bench(10), 0.0, 0.0, {"a": 0, "b": 0}
    for _ in range(4):
        bench.ask("a", 8)
        bench.ask("b", 8)
    pending = ["load a"]
    while bench.now < 500.0:
        word, _, name = pending.pop(0).partition(" ")
        if word == "load":
            bench.now += 3.0
            loading += 3.0
            pending += bench.send(Loaded(model=name, bytes=8))
        elif word == "unload":
            pending += bench.send(Gone(model=name))
        else:
            bench.now += 0.5
            serving += 0.5
            answers[name[0]] += 1
            pending += bench.done(name, size=8)
            pending += bench.ask(name[0], 8)
    assert serving > loading
    assert min(answers.values()) > 0.4 * sum(answers.values())


def test_what_may_be_wanted_soon_takes_only_what_nobody_needs() -> None:
    bench = Bench(10)
    bench.have("a", 4)
    assert bench.send(PrefetchAsked(model="b", bytes=4)) == ["load b"]
    bench.send(Loaded(model="b", bytes=4))
    assert bench.send(PrefetchAsked(model="c", bytes=4)) == []  # a and b are worth no less
    bench.send(Appraised(worth={"a": 0.2, "b": 0.1, "c": 0.15}))
    assert bench.send(PrefetchAsked(model="c", bytes=4)) == ["unload b"]
    assert bench.send(Gone(model="b")) == ["load c"]
    bench.send(Loaded(model="c", bytes=4))
    bench.ask("a", 4)
    assert bench.send(PrefetchAsked(model="d", bytes=1)) == []  # somebody is being served


def test_a_request_joins_the_load_it_wants_and_stops_any_other() -> None:
    bench = Bench(10)
    bench.have("a", 4)
    bench.send(PrefetchAsked(model="b", bytes=4))
    assert bench.ask("a", 4) == ["grant a2"]
    assert bench.ask("b", 4) == []
    assert bench.send(Loaded(model="b", bytes=4)) == ["grant b3"]
    bench.done("a2")
    bench.done("b3")
    bench.send(UnloadAsked(model="b"))
    bench.send(Gone(model="b"))
    assert bench.send(PrefetchAsked(model="b", bytes=4)) == ["load b"]
    assert bench.ask("c", 6) == ["unload b"]
    assert bench.send(Failed(model="b", error=Interrupted("stopped"))) == ["load c"]


@pytest.mark.parametrize("signal", [LetGo(reason="asked"), UnloadAsked(model="c")])
def test_what_was_to_be_loaded_ahead_is_forgotten_when_it_is_to_leave(signal: Signal) -> None:
    bench = Bench(10)
    bench.have("a", 4)
    bench.have("b", 4)
    bench.send(Appraised(worth={"a": 0.2, "b": 0.1, "c": 0.15}))
    assert bench.send(PrefetchAsked(model="c", bytes=4)) == ["unload b"]
    bench.send(signal)
    assert bench.send(Gone(model="b")) == []


def test_after_the_memory_was_let_go_only_a_request_brings_models_back() -> None:
    bench = Bench(10)
    assert bench.send(PrefetchAsked(model="b", bytes=4)) == []  # nobody has asked yet
    bench.have("a", 4)
    assert bench.send(LetGo(reason="asked")) == ["unload a"]
    bench.send(Gone(model="a"))
    assert bench.send(PrefetchAsked(model="b", bytes=4)) == []
    bench.have("a", 4)
    assert bench.send(PrefetchAsked(model="b", bytes=4)) == ["load b"]


def test_a_model_that_is_told_to_leave_while_it_loads_does_and_who_waits_is_told() -> None:
    bench = Bench(10)
    bench.ask("a", 6)
    bench.ask("b", 6)
    assert bench.send(UnloadAsked(model="a")) == ["refuse a1", "unload a"]
    assert isinstance(bench.refusals["a1"], Interrupted)
    assert bench.send(Failed(model="a", error=Interrupted("stopped"))) == ["load b"]


def test_who_cannot_wait_for_a_load_sends_nobody_away_for_it() -> None:
    bench = Bench(100)
    bench.have("big", 90, load_s=30.0)
    bench.ask("warm", 50)
    bench.send(Gone(model="big"))
    bench.send(Loaded(model="warm", bytes=50))
    bench.done("warm2", size=50)
    assert bench.ask("big", 90, patience=29.0) == ["refuse big3"]
    assert isinstance(bench.refusals["big3"], DeadlineExceeded)
    assert bench.ask("big", 90, patience=31.0) == ["unload warm"]
    bench.send(Gone(model="warm"))
    bench.now += 2.0
    assert bench.send(Withdrawn(id="big4")) == ["unload big"]


def test_the_line_has_an_end() -> None:
    bench = Bench(10, queue=2)
    bench.ask("a", 4)
    bench.ask("a", 4)
    assert bench.ask("a", 4) == ["refuse a3"]
    assert isinstance(bench.refusals["a3"], QueueFull)
    assert "models.queue" in bench.refusals["a3"].mend
    bench.send(Loaded(model="a", bytes=4))  # and with it the first one leaves the line
    assert bench.ask("a", 4) == []


def test_what_is_asked_to_leave_finishes_its_answer() -> None:
    bench = Bench(10)
    bench.ask("a", 4)
    bench.send(Loaded(model="a", bytes=4))
    assert bench.send(UnloadAsked(model="a")) == []
    assert bench.ask("a", 4) == []
    assert bench.done("a1") == ["unload a"]
    assert bench.send(Gone(model="a")) == ["load a"]


def test_a_model_that_keeps_failing_rests_and_is_tried_by_one() -> None:
    bench = Bench(10)
    bench.ask("a", 4)
    bench.send(Loaded(model="a", bytes=4))
    for request in (1, 2, 3):
        bench.ask("a", 4)
        effects = bench.done(f"a{request}", failure=WorkerDied("dead"))
    assert effects == ["refuse a4"]  # who waited does not get a turn either
    assert bench.ask("a", 4) == ["refuse a5"]
    assert "rests for 2 s" in str(bench.refusals["a5"])
    bench.now += 2.0
    assert bench.ask("a", 4) == ["grant a6"]
    assert bench.ask("a", 4) == []  # one tries
    assert bench.done("a6", failure=WorkerDied("dead")) == ["refuse a7"]
    assert "rests for 4 s" in str(bench.refusals["a7"])
    assert bench.ask("a", 4, uses=False) == ["grant a8"]  # it was there: nothing was tried
    assert bench.ask("a", 4) == ["refuse a9"]


def test_a_death_counts_though_the_process_is_gone_already() -> None:
    bench = Bench(10)
    for request in (1, 2, 3):
        bench.ask("a", 4)
        bench.send(Loaded(model="a", bytes=4))
        bench.send(Gone(model="a"))
        bench.done(f"a{request}", failure=WorkerDied("dead"))
    assert bench.ask("a", 4) == ["refuse a4"]


def test_the_end_refuses_everybody_and_ends_everything() -> None:
    bench = Bench(20)
    bench.have("idle", 4)
    bench.ask("busy", 4)
    bench.send(Loaded(model="busy", bytes=4))
    bench.ask("busy", 4)
    bench.ask("slow", 4)
    effects = bench.send(ShutDown())
    assert sorted(effects) == ["refuse busy3", "refuse slow4", "unload busy", "unload idle", "unload slow"]
    assert isinstance(bench.refusals["slow4"], Interrupted)
    assert bench.ask("late", 4) == ["refuse late5"]
    for name in ("idle", "busy"):
        bench.send(Gone(model=name))
    bench.send(Failed(model="slow", error=Interrupted("stopped")))
    assert bench.machine.used == 0


def test_a_hundred_residents_give_up_no_more_than_is_needed_each_time() -> None:
    bench = Bench(1000)
    for number in range(100):
        bench.have(f"m{number}-", 10)
    for number in range(20):
        effects = bench.ask(f"n{number}-", 35)
        assert len(effects) == 4
        for effect in effects:
            bench.send(Gone(model=effect.removeprefix("unload ")))
        bench.send(Withdrawn(id=f"n{number}-{bench.asked}"))
        bench.send(Failed(model=f"n{number}-", error=Interrupted("stopped")))
        for effect in effects:
            bench.have(effect.removeprefix("unload "), 10)
    assert bench.machine.used == 1000
