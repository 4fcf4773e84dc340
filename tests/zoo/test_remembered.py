"""What is remembered between commands: rests on a clock that jumps, and sizes of the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.clock import FakeClock
from sage.config import ModelSettings
from sage.errors import LoadFailed, RateLimited, RemoteFailed, SageError, WorkerDied
from sage.zoo.breaker import Breaker, Health
from sage.zoo.card import ModelCard
from sage.zoo.footprint import SETTLED, Footprint
from sage.zoo.host import Host
from sage.zoo.remembered import Remembered, measured_of, resting

from .hosts import GB, LONG, REQUEST, card


class Clocks:
    """The wall and a stopwatch that starts anew in each process."""

    def __init__(self, wall: float, monotonic: float) -> None:
        self.wall, self.stopwatch = wall, monotonic

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.stopwatch


def rests(home: Path, rest_s: float, error: SageError | None = None) -> None:
    """Another process, at 1000 on the wall, orders this rest."""
    breaker = Breaker()
    breaker.failed("m", error or RateLimited("slow down", retry_after_s=rest_s), 7.0)
    Remembered(home, Clocks(1000.0, 7.0)).keep(breaker.sick, {})


def test_a_rest_goes_on_in_the_next_process(home: Path) -> None:
    rests(home, 60.0)
    found = Remembered(home, Clocks(1020.0, 3.0))
    assert found.refresh()
    assert found.health["m"].until == 43.0
    assert isinstance(found.health["m"].last, RateLimited)
    assert resting(home, Clocks(1020.0, 3.0)) == {"m": 40.0}
    assert resting(home, Clocks(1060.0, 3.0)) == {}
    assert not found.refresh()


def test_a_failure_that_is_no_reason_to_rest_is_counted_on(home: Path) -> None:
    rests(home, 0.0, LoadFailed("crash"))
    found = Remembered(home, Clocks(1020.0, 3.0))
    found.refresh()
    assert (found.health["m"].failures, found.health["m"].rest_s) == (1, 0.0)
    assert found.health["m"].last.message == "crash"
    later = Remembered(home, Clocks(1001.0 + 86_400.0, 3.0))
    later.refresh()
    assert later.health == {}


@given(ordered=st.floats(0.1, 1e6), wall=st.floats(0, 1e7), stopwatch=st.floats(0, 1e6))
def test_no_rest_is_longer_than_was_ordered_whatever_the_clock_says(
    tmp_path_factory: pytest.TempPathFactory, ordered: float, wall: float, stopwatch: float
) -> None:
    home = tmp_path_factory.mktemp("home")
    rests(home, ordered)
    left = resting(home, Clocks(wall, stopwatch)).get("m", 0.0)
    assert left <= ordered + 1e-6
    if wall < 1000.0 or wall > 1000.0 + ordered:
        assert left <= 1e-6


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"health": {"m": 1}, "footprints": {}}',
        '{"health": {}, "footprints": {"m": {}}}',
        '{"health": {}, "footprints": {"m": {"of": "x", "peak": 1e999, "settling": 3}}}',
        '{"health": {}, "footprints": {"m": {"of": "x", "peak": 1e99, "settling": 3}}}',
        '{"health": {}, "footprints": {"m": {"of": "x", "peak": -1, "settling": 3}}}',
        "[" * 100_000,
    ]
    + [
        json.dumps({"health": {"m": one}, "footprints": {}})
        for one in (
            {"error": "Nobody", "message": "", "failures": 1, "rests": 0, "at": 1, "rest_s": 1},
            {"error": "LoadFailed", "message": "", "failures": 1, "rests": 0, "at": "x", "rest_s": 1},
        )
    ],
)
def test_a_file_that_makes_no_sense_is_as_none(home: Path, text: str) -> None:
    (home / "remembered.json").write_text(text)
    found = Remembered(home, FakeClock())
    found.refresh()
    assert (found.health, found.footprint("m", "x")) == ({}, Footprint())


def test_it_is_written_only_when_something_changes(home: Path) -> None:
    path, found = home / "remembered.json", Remembered(home, FakeClock())
    found.keep({}, {})
    assert not path.exists()
    sick = {"m": Health(last=LoadFailed("x"), failures=1)}
    found.keep(sick, {"m": ("weights", Footprint(peak=5, settling=1))})
    before = path.stat()
    found.keep(dict(sick), {"m": ("weights", Footprint(peak=5, settling=1))})
    assert path.stat() == before
    assert not found.refresh()  # what it wrote itself is not news
    found.keep({}, {})
    assert json.loads(path.read_text())["health"] == {}
    assert found.footprint("m", "weights").peak == 5  # who was not loaded this time is not forgotten
    assert found.footprint("m", "others").peak == 0


def test_a_disk_that_takes_nothing_is_lived_with(tmp_path: Path) -> None:
    found = Remembered(tmp_path / "nowhere", FakeClock())
    found.keep({"m": Health(last=LoadFailed("x"))}, {})
    assert found.health


# Through the host


class Command:
    """A process of its own, as far as the zoo can tell."""

    def __init__(self, home: Path, clock: FakeClock, context: int = 4096) -> None:
        settings = ModelSettings(stop_timeout_s=1.0, context=context)
        self.host = Host(home, settings, free_bytes=lambda: 10 * GB, estimate=lambda _card: GB, clock=clock)

    def __enter__(self) -> Host:
        return self.host

    def __exit__(self, *_exception: object) -> None:
        self.host.close()


def test_a_model_that_keeps_failing_rests_in_the_next_command_too(home: Path) -> None:
    clock, broken = FakeClock(), card("b", crash_after=0)
    for _ in range(3):
        with Command(home, clock) as host, pytest.raises(WorkerDied):
            host.ask(broken, REQUEST, print)
        clock.advance(0.1)
    with Command(home, clock) as host:
        assert 0 < host.resting()["b"] <= 2.0  # before anything was asked
        with pytest.raises(LoadFailed, match="rests for 2 s") as caught:
            host.ask(broken, REQUEST, print)
        assert "sage models load b" in caught.value.mend
    clock.advance(2.0)
    with Command(home, clock) as host:
        assert host.resting() == {}
        assert host.ask(card("b"), REQUEST, print)
    with Command(home, clock) as host:
        assert json.loads((home / "remembered.json").read_text())["health"] == {}


def test_who_mended_a_model_need_not_wait(home: Path) -> None:
    rests(home, 0.0, RemoteFailed("silence", silent_s=60.0))
    clock = FakeClock(1010.0)
    with Command(home, clock) as host:
        assert host.resting() == {"m": 50.0}
        host.load(card("m"))
        assert host.resting() == {}
        assert host.ask(card("m"), REQUEST, print)


def test_what_a_server_asked_for_is_not_forgotten_by_a_load(home: Path) -> None:
    rests(home, 60.0)
    clock = FakeClock(1010.0)
    with Command(home, clock) as host:
        for _ in range(2):
            host.load(card("m"))
            assert host.resting() == {"m": 50.0}


def test_what_a_model_takes_is_known_in_the_next_command(home: Path) -> None:
    clock = FakeClock()
    for _ in range(SETTLED):
        with Command(home, clock) as host:
            host.load(card("a"))
            assert host.picture.used == host.memory_need(card("a")) == GB
            host.ask(card("a"), LONG, print)
            settled = host.memory_need(card("a"))
    with Command(home, clock) as host:
        assert host.memory_need(card("a")) == settled
        host.load(card("a"))
        assert 0 < host.picture.used == settled < GB
    with Command(home, clock, context=2048) as host:  # another context is another size
        assert host.memory_need(card("a")) == GB
        host.load(card("a"))
        assert host.picture.used == GB


def test_new_weights_are_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    one = ModelCard(name="m", source=f"path:{path}", sha256="", bytes=0, license="MIT", context_length=4096)
    before = measured_of(one, tmp_path, 4096)
    assert measured_of(one, tmp_path, 4096) == before
    assert measured_of(one, tmp_path, 1024) != before
    path.write_bytes(b"other")
    assert measured_of(one, tmp_path, 4096) != before


def test_an_adapter_is_measured_anew_with_new_weights_of_its_base(tmp_path: Path) -> None:
    base, lora = tmp_path / "base.gguf", tmp_path / "lora"
    for path in (base, lora):
        path.write_bytes(b"one")
    (tmp_path / "catalog.toml").write_text(
        f'[[model]]\nname = "base"\nsource = "path:{base}"\nbytes = 3\n'
        'license = "MIT"\ncontext_length = 512\n'
    )
    adapter = ModelCard(
        name="m", source=f"path:{lora}", sha256="", bytes=0, license="MIT", context_length=512, base="base"
    )
    before = measured_of(adapter, tmp_path, 512)
    assert before == measured_of(adapter, tmp_path, 512) != ""
    base.write_bytes(b"other")
    assert measured_of(adapter, tmp_path, 512) != before


def test_another_process_is_heard_of_before_the_next_load(home: Path) -> None:
    clock = FakeClock(1001.0)
    with Command(home, clock) as host:
        host.ask(card("a"), REQUEST, print)
        host.unload("a")
        rests(home, 60.0)
        with pytest.raises(RateLimited):
            host.ask(card("m"), REQUEST, print)
