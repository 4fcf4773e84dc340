"""Two clocks, and one that tests hold in their hands."""

import time

from sage.clock import Clock, FakeClock, SystemClock


def test_the_system_clock_reads_the_machine() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.time() - time.time()) < 5
    assert abs(clock.monotonic() - time.monotonic()) < 5


def test_the_system_clock_does_not_go_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_the_fake_clock_stands_still_until_advanced() -> None:
    clock: Clock = FakeClock(start=10.0)
    assert (clock.time(), clock.monotonic()) == (10.0, 10.0)
    assert isinstance(clock, FakeClock)
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic()) == (12.5, 12.5)


def test_the_fake_clock_can_jump_back() -> None:
    clock = FakeClock(start=10.0)
    clock.advance(-4.0)
    assert clock.time() == 6.0
