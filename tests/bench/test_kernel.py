"""The simulated person, the simulated models, and what is made of a life."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from sage.bench.kernel.host import SimulatedHost
from sage.bench.kernel.models import UNKNOWN, ZOO, Simulated, is_right
from sage.bench.kernel.overhead import PARTS, measure_overhead
from sage.bench.kernel.person import TYPES, Ask, live
from sage.bench.kernel.play import Done, Life, play
from sage.bench.kernel.suite import FIGURES, difference, figures, measure_parts, verdict
from sage.bench.kernel.variants import FULL, VARIANTS
from sage.clock import FakeClock
from sage.types import GenerationRequest, Message

TOWNS = ("Oslo", "Ghent", "Turin")
SHARP = Simulated(name="sharp", gb=1.0, claims=0.5, usual=1.0, reads=1.0, misled=1.0)
WHERE = Ask(
    at=0.0,
    session="b",
    text="Where does Heron sit?",
    type="fact",
    about="Heron",
    value="Ghent",
    values=TOWNS,
    topic="office",
    known=True,
)
BY_NAME = {variant.name: variant for variant in VARIANTS}


def says(ask: Ask, *before: str) -> str:
    messages = [Message(role="user", content=text) for text in (*before, ask.text)]
    return SHARP.answer(ask, messages, seed=0, again=False).text


@settings(max_examples=20, deadline=None)
@drawn(st.integers(0, 10_000))
def test_what_is_asked_was_told_in_another_session(seed: int) -> None:
    asks = live(seed, days=6)
    assert asks == live(seed, days=6)
    assert [ask.at for ask in asks] == sorted(ask.at for ask in asks)
    for place, ask in enumerate(asks):
        told = [
            earlier
            for earlier in asks[:place]
            if earlier.type == "tell"
            and earlier.about == ask.about
            and any(value in earlier.text for value in ask.values)
        ]
        if ask.type == "fact":
            assert ask.value in told[-1].text
            assert told[-1].session != ask.session
        elif ask.type == "absent":
            assert told == []
            assert ask.value == ""


def test_every_type_of_request_comes() -> None:
    assert {ask.type for ask in live(0, days=20)} == set(TYPES)


def test_the_last_line_about_a_thing_counts() -> None:
    old, new, other = "Heron sits in Oslo.", "Heron moved to Ghent.", "Osprey sits in Turin."
    assert is_right(WHERE, says(WHERE, old, new))
    assert not is_right(WHERE, says(WHERE, new, old))
    assert is_right(WHERE, says(WHERE, new, other))
    assert says(WHERE) == UNKNOWN
    assert "Turin" in says(WHERE, other)


def test_what_nobody_told_is_right_not_to_be_known() -> None:
    absent = replace(WHERE, type="absent", value="")
    assert is_right(absent, says(absent))
    assert not is_right(absent, says(absent, "Osprey sits in Turin."))


def test_it_is_what_was_spoken_of_last() -> None:
    leaning = replace(WHERE, type="follow-up", text="And where is its office?")
    fact = "Heron sits in Ghent."
    assert is_right(leaning, says(leaning, fact, "Who leads Heron?"))
    assert not is_right(leaning, says(leaning, fact, "Who leads Osprey?"))
    assert says(leaning) == UNKNOWN


def test_an_answer_with_two_values_or_of_something_else_is_not_right() -> None:
    assert is_right(WHERE, "The office of Heron is Ghent.")
    assert not is_right(WHERE, "The office of Heron is Oslo or Ghent.")
    assert not is_right(WHERE, "The office of Osprey is Ghent.")


def test_loading_takes_time_and_room() -> None:
    clock = FakeClock(0.0)
    host = SimulatedHost(ZOO, clock, room_bytes=7_000_000_000, seed=0)
    host.now = WHERE
    small, coder, writer, large = (model.card for model in ZOO)
    asked = GenerationRequest(messages=(Message(role="user", content=WHERE.text),))
    first = host.ask(large, asked, lambda _text: None)
    assert first.load_s == pytest.approx(5.3)
    assert clock.monotonic() == pytest.approx(5.3 + first.completion.run_s)
    assert host.ask(large, asked, lambda _text: None).load_s == 0.0
    host.ask(coder, asked, lambda _text: None)
    host.prefetch(writer)
    assert set(host.resident()) == {"large", "coder"}
    host.appraise({"large": 2.0, "coder": 1.0})
    host.ask(writer, asked, lambda _text: None)
    assert set(host.resident()) == {"large", "writer"}
    assert host.given == 0
    del small


def day(*asks: Ask) -> list[Ask]:
    return [replace(ask, at=100.0 * number) for number, ask in enumerate(asks)]


def test_each_memory_serves_its_requests() -> None:
    """Ten facts are told in one session, and asked for in others; then something leans on the last one."""
    tells, facts = [], []
    for number in range(10):
        town = TOWNS[number % 3]
        tell = Ask(at=0.0, session="a", text=f"Project N{number} sits in {town}.", type="tell")
        tells.append(tell)
        text = f"Where does project N{number} sit?"
        facts.append(replace(WHERE, text=text, about=f"N{number}", value=town, session=f"s{number}"))
    edit = replace(WHERE, type="edit", text="Shorter, please.", about="N9", value=TOWNS[0], session="s9")
    asks = day(*tells, *facts, edit)
    full = play(asks, FULL, seed=1)
    right = {kind: sum(d.right for d in full.done if d.type == kind) for kind in ("tell", "fact", "edit")}
    assert (right["tell"], right["edit"]) == (10, 1)
    assert right["fact"] >= 7
    assert full.messages == 2 * len(asks)
    without = play(asks, BY_NAME["no recall"], seed=1)
    assert sum(d.right for d in without.done if d.type == "fact") == 0
    assert sum(d.given for d in without.done) < sum(d.given for d in full.done)
    forgetful = play(day(*tells, edit), BY_NAME["no recent"], seed=1)
    assert forgetful.done[0].right


def test_every_variant_lives_through_a_day() -> None:
    asks = live(0, days=2)
    for variant in VARIANTS:
        life = play(asks, variant, seed=0)
        assert len(life.done) == len(asks)
        bounded = variant.name != "no salience"
        assert (life.kept < life.messages) == bounded
        assert all(done.state == "WAKE" for done in life.done) or variant.name != "always WAKE"


def test_a_life_is_the_same_again() -> None:
    asks = live(3, days=2)
    assert play(asks, FULL, seed=3).done == play(asks, FULL, seed=3).done


def test_a_difference_is_taken_within_a_seed() -> None:
    apart = difference([1.0, 11.0, 21.0], [0.0, 10.0, 20.0])
    assert (apart.mean, apart.half) == (1.0, 0.0)
    assert apart.sure
    assert not difference([1.0, 2.0], [1.0, 2.0]).sure
    wide = difference([1.0, -1.0, math.nan], [0.0, 0.0, 0.0])
    assert not wide.sure
    assert wide.half == pytest.approx(63.657)
    assert str(wide) == "+0 \u00b164"
    assert not difference([5.0], [0.0]).sure


def test_what_a_part_buys_in_words() -> None:
    nothing = {name: difference([1.0, -1.0], [0.0, 0.0]) for name in (*FIGURES, *TYPES)}
    assert verdict(nothing) == "buys nothing that can be seen"
    loses = nothing | {"fact": difference([10.0, 10.0], [60.0, 60.0])}
    assert verdict(loses) == "buys fact +50"
    cheaper = loses | {"ATP": difference([1.0, 1.0], [3.0, 3.0])}
    assert verdict(cheaper) == "buys fact +50; costs ATP +2"


def test_figures_of_a_known_life() -> None:
    done = [
        Done(
            type="fact",
            right=place > 0,
            refused=place == 0,
            atp=float(place),
            wait_s=float(place),
            given=10,
            drafts=1,
            state="WAKE",
        )
        for place in range(20)
    ]
    found = figures(Life(done=done, messages=40, kept=10))
    assert (found["right %"], found["fact"], found["refused %"]) == (95.0, 95.0, 5.0)
    assert (found["p95 wait s"], found["kept"], found["ATP"]) == (18.0, 25.0, 9.5)
    assert math.isnan(found["chat"])


def test_rows_of_parts() -> None:
    rows = measure_parts(seeds=2, days=2, progress=lambda _text: None, variants=VARIANTS[:2])
    parts = [row for row in rows if row["what"] == "part"]
    assert [row["variant"] for row in parts] == ["full", "no recall"]
    assert parts[1]["tokens"] < parts[0]["tokens"]
    types = {row["type"]: row for row in rows if row["what"] == "type"}
    assert set(types) == set(TYPES)
    assert set(types["fact"]) == {"what", "type", "requests", "full", "no recall"}


def test_a_tick_is_timed_by_part_and_history(tmp_path: Path) -> None:
    rows = measure_overhead(tmp_path, ticks=20, models=(2, 5), histories=(30,), progress=lambda _text: None)
    found = [(row["candidates"], row["history"], row["recall"]) for row in rows]
    assert found == [(2, 0, "none"), (5, 0, "none"), (2, 30, "none"), (2, 30, "words")]
    for row in rows:
        assert 0.1 < row["median ms"] <= row["p95 ms"]
        assert all(row[f"{part} ms"] >= 0.0 for part in PARTS)
    assert rows[3]["recall ms"] > rows[2]["recall ms"]
