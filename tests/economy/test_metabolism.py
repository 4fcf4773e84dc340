"""The whole graph of states is walked: every region between thresholds, every dwell time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.economy.metabolism import EDGES, LONG_S, SHORT_S, STATES, Thresholds, advance
from sage.economy.strain import STRAINS, Readings, need, relieved, rested, tired
from sage.types import MetabolicState

CALM = Readings()
ASKED = replace(CALM, queue=1)
ASLEEP = replace(CALM, idle_s=1e4, backlog=3)
ELAPSED = (0.0, SHORT_S, LONG_S)

STRAINED = (
    *(Readings(memory=m) for m in (0.2, 0.3, 0.5, 0.7)),
    *(Readings(temperature=t) for t in (0.9, 0.95, 1.0)),
    *(Readings(battery=b, on_mains=False) for b in (0.6, 0.4, 0.3, 0.2, 0.12, 0.05)),
    Readings(battery=0.05, on_mains=True),
    Readings(flagged="the disk is full"),
    CALM,
)
"""Each region of memory, heat and battery, one at a time."""


@cache
def regions() -> tuple[Readings, ...]:
    """One reading from each region between thresholds, all combinations."""
    combinations = itertools.product(
        STRAINED,
        (0.05, 0.15, 0.22, 0.3, 0.38, 0.45, 1.0),
        (0.3, 0.6, 0.9),
        (0.0, 100.0, 1000.0),
        (0, 1, 10, 20),
        (0, 1),
    )
    return tuple(
        replace(strained, balance=balance, salience=salience, idle_s=idle, queue=queue, backlog=backlog)
        for strained, balance, salience, idle, queue, backlog in combinations
    )


def settled(state: MetabolicState, readings: Readings) -> Iterator[MetabolicState]:
    """The states that readings which stay as they are lead through."""
    for _ in range(len(STATES) + 1):
        following = advance(state, LONG_S, readings).state
        if following == state:
            return
        yield (state := following)
    raise AssertionError(f"never settles: {readings}")


def test_every_row_of_the_table_is_taken_somewhere() -> None:
    missing = set(range(len(EDGES)))
    for readings in regions():
        for state in STATES:
            rows = [i for i, e in enumerate(EDGES) if e.start == state]
            taken = next((i for i in rows if EDGES[i].when(readings, Thresholds())), None)
            missing.discard(-1 if taken is None else taken)
    assert [(EDGES[i].start, EDGES[i].end) for i in sorted(missing)] == []


def test_every_state_is_reached_from_every_other() -> None:
    ways = {start: {edge.end for edge in EDGES if edge.start == start} for start in STATES}
    for start in STATES:
        reached = {start}
        for _ in STATES:
            reached |= {end for state in reached for end in ways[state]}
        assert reached == set(STATES)


def test_readings_that_stay_lead_to_a_state_that_stays_and_it_fits_them() -> None:
    for readings in regions():
        for state in STATES:
            path = [state, *settled(state, readings)]
            end = path[-1]
            assert len(path) == len(set(path)), "no state is entered twice on the way"
            assert (end == "CRISIS") >= bool(need(readings))
            if relieved(readings):
                assert end != "CRISIS", "no trap"
            if readings.queue and rested(readings):
                assert end in ("WAKE", "FOCUS", "CRISIS"), "whoever asks is served awake"
            if end == "DREAM":
                assert readings.queue == 0
                assert not tired(readings)
                assert readings.backlog > 0


def test_no_way_round_without_a_dwell_time() -> None:
    """Within one call, and within an instant, no state is left and entered again."""
    for readings in regions():
        for state in STATES:
            seen = [state]
            for _ in STATES:
                seen.append(advance(seen[-1], 0.0, readings).state)
            changes = [b for a, b in itertools.pairwise(seen) if a != b]
            assert len(changes) == len(set(changes) - {state})


@given(st.lists(st.sampled_from(range(20_000)), min_size=2, max_size=40), st.sampled_from(STATES))
def test_no_state_is_entered_twice_within_the_dwell_time_whatever_is_read(
    picks: list[int], state: MetabolicState
) -> None:
    entered = {state: 0.0}
    for now, pick in enumerate(picks):
        move = advance(state, now - entered[state], regions()[pick % len(regions())])
        if move.state != state:
            assert now - entered.get(move.state, -LONG_S) >= SHORT_S or move.state == "CRISIS"
            state = move.state
            entered[state] = float(now)


@pytest.mark.parametrize("strain", range(len(STRAINS)))
@given(data=st.data())
@settings(max_examples=60)
def test_noise_about_a_threshold_moves_the_state_once_at_most(strain: int, data: st.DataObject) -> None:
    of = STRAINS[strain]
    band = data.draw(st.sampled_from([b for b in (of.tired, of.need) if b]))
    width = (band.above - band.below) * 0.49
    centre = data.draw(st.sampled_from([band.above, band.below]))
    noise = data.draw(st.lists(st.floats(-width, width), min_size=30, max_size=30))
    start = data.draw(st.sampled_from(["WAKE", "REST", "CRISIS"]))

    def reading(gone: float) -> Readings:
        return (
            replace(ASKED, balance=1.0 - gone),
            replace(ASKED, memory=gone),
            replace(ASKED, temperature=gone),
            replace(ASKED, battery=1.0 - gone, on_mains=False),
            replace(ASKED, queue=max(1, round(gone))),
        )[strain]

    state: MetabolicState = start
    visited: list[MetabolicState] = [state]
    for step in noise:
        state = advance(state, 1e6, reading(centre + step)).state
        if state != visited[-1]:
            visited.append(state)
    assert len(visited) == len(set(visited)), visited


@pytest.mark.parametrize("strain", range(len(STRAINS)))
def test_every_step_is_taken_back_well_below_where_it_was_taken(strain: int) -> None:
    """By a twentieth of the whole at least; a need is passed after tiredness, and over before it."""
    of = STRAINS[strain]
    whole = of.need.above if of.need.above > 1.0 else 1.0
    for band in (of.tired, of.need):
        assert band is None or band.above - band.below >= 0.0499 * whole
    if of.tired:
        assert of.tired.above < of.need.above
        assert of.tired.below < of.need.below


@given(noise=st.lists(st.floats(-0.09, 0.09), min_size=30, max_size=30), centre=st.sampled_from([0.5, 0.7]))
def test_noise_of_salience_moves_the_state_once_at_most(noise: list[float], centre: float) -> None:
    for start in ("WAKE", "FOCUS"):
        state: MetabolicState = start
        changes = 0
        for step in noise:
            following = advance(state, 1e6, replace(ASKED, salience=centre + step)).state
            changes += following != state
            state = following
        assert changes <= 1


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("readings", "why"),
    [
        (replace(CALM, balance=0.08), "the ATP are at 8% of their capacity"),
        (replace(CALM, memory=0.61), "the pressure on memory is at 61%"),
        (replace(CALM, temperature=0.99), "the temperature is at 99% of its limit"),
        (replace(CALM, battery=0.07, on_mains=False), "the battery is at 7%"),
        (replace(CALM, queue=16), "16 requests wait"),
        (replace(CALM, flagged="the database is read-only"), "flagged: the database is read-only"),
    ],
)
def test_a_need_is_a_crisis_at_once(state: MetabolicState, readings: Readings, why: str) -> None:
    move = advance(state, 0.0, readings)
    assert (move.state, move.why) == ("CRISIS", why if state != "CRISIS" else "")


def test_a_crisis_ends_in_rest_once_it_is_well_over() -> None:
    assert advance("CRISIS", LONG_S - 1, CALM).state == "CRISIS"
    assert advance("CRISIS", LONG_S, replace(CALM, balance=0.15)).state == "CRISIS"
    assert advance("CRISIS", LONG_S, CALM).state == "REST"
    assert advance("CRISIS", LONG_S, ASKED).state == "WAKE"  # straight on, where somebody asks


@pytest.mark.parametrize("state", ["REST", "DREAM", "WAKE"])
def test_what_is_urgent_is_focused_on_at_once(state: MetabolicState) -> None:
    move = advance(state, 0.0, replace(ASKED, salience=0.8))
    assert (move.state, move.why) == ("FOCUS", "salience is 0.80, and the ATP are there")


def test_focus_ends_with_salience_or_reserves() -> None:
    urgent = replace(ASKED, salience=0.6)
    assert advance("FOCUS", LONG_S, urgent).state == "FOCUS"
    assert advance("FOCUS", LONG_S, replace(urgent, balance=0.34)).state == "WAKE"
    assert advance("FOCUS", LONG_S, replace(urgent, salience=0.4)).state == "WAKE"
    assert advance("FOCUS", LONG_S - 1, replace(urgent, salience=0.4)).state == "FOCUS"
    assert advance("FOCUS", SHORT_S, replace(urgent, balance=0.2)).state == "REST"


def test_idle_time_is_rest_then_dream_and_a_request_wakes() -> None:
    assert advance("WAKE", 1e4, replace(CALM, idle_s=59)).state == "WAKE"
    assert advance("WAKE", 1e4, replace(CALM, idle_s=60)).state == "REST"
    assert advance("REST", 1e4, replace(ASLEEP, idle_s=299)).state == "REST"
    assert advance("REST", 1e4, ASLEEP).state == "DREAM"
    assert advance("DREAM", 1e4, ASLEEP).state == "DREAM"
    assert advance("DREAM", 1e4, replace(ASLEEP, backlog=0)).state == "REST"
    assert advance("REST", 1e4, replace(ASLEEP, backlog=0)).state == "REST"
    assert advance("DREAM", 0.0, replace(ASLEEP, queue=1, idle_s=0)).state == "WAKE"


def test_nobody_dreams_on_a_battery_that_must_last() -> None:
    away = replace(ASLEEP, on_mains=False)
    assert advance("REST", 1e4, replace(away, battery=0.45)).state == "REST"
    assert advance("REST", 1e4, replace(away, battery=0.55)).state == "DREAM"
    assert advance("DREAM", 1e4, replace(away, battery=0.2)).state == "REST"


def test_a_user_decides_how_soon() -> None:
    soon = Thresholds(rest_after_s=10.0, dream_after_s=20.0, focus_salience=0.4)
    assert advance("WAKE", 1e4, replace(CALM, idle_s=10), soon).state == "REST"
    assert advance("REST", 1e4, replace(ASLEEP, idle_s=20), soon).state == "DREAM"
    assert advance("WAKE", 0.0, replace(ASKED, salience=0.4), soon).state == "FOCUS"


def test_what_is_no_number_is_calm() -> None:
    nan = float("nan")
    lost = Readings(balance=nan, salience=nan, idle_s=nan, memory=nan, temperature=nan, battery=nan)
    for state in STATES:
        end = [state, *settled(state, replace(lost, on_mains=False, queue=1))][-1]
        assert end == "WAKE"
