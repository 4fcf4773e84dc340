"""What a model would cost: measured beats the card, the card beats the guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from sage.errors import UnsafeFile, WeightsMissing
from sage.kernel.candidates import (
    GUESS,
    LOAD_FLOOR_S,
    USUAL_ANSWER_TOKENS,
    Pricing,
    answer_tokens,
    candidate,
)
from sage.types import Candidate, Message, Situation
from sage.zoo.card import Figure, ModelCard

MakeCard = Callable[..., ModelCard]


def situation(**changes: object) -> Situation:
    values: dict[str, object] = {
        "messages": (Message(role="user", content="Why?"),),
        "kind": "fact",
        "prompt_tokens": 100,
        "max_tokens": 256,
        "session": "s",
    }
    return Situation(**{**values, **changes})  # type: ignore[arg-type]


def pricing(
    rates: Mapping[str, float] | None = None, *, resident: tuple[str, ...] = (), context: int = 4096
) -> Pricing:
    return Pricing(rates={"a": rates or {}}, resident=resident, disk_bytes_s=1e8, context=context)


def made(card: ModelCard, *, price: Pricing | None = None, **changes: object) -> Candidate:
    return candidate(
        card, situation(**changes), price or pricing(), obstacle=None, memory_bytes=lambda _card: 77
    )


def test_a_card_that_says_nothing_is_guessed(make_card: MakeCard) -> None:
    a = made(make_card("a", bytes=50_000_000))
    run = 100 / GUESS["prompt_tok_s"] + USUAL_ANSWER_TOKENS / GUESS["generate_tok_s"]
    assert a.est_run_s == pytest.approx(run)
    assert a.est_load_s == pytest.approx(LOAD_FLOOR_S + 0.5)
    assert (a.load_bytes, a.memory_bytes, a.resident) == (50_000_000, 77, False)
    assert (a.prior, a.capabilities) == ({"*": 0.5}, frozenset({"text", "schema"}))
    assert a.unavailable is None


FIGURES = {
    "prompt_tok_s": Figure(value=50.0, provenance="published"),
    "generate_tok_s": Figure(value=10.0, provenance="published"),
    "load_s": Figure(value=7.0, provenance="published"),
}


def test_the_card_beats_the_guess(make_card: MakeCard) -> None:
    a = made(make_card("a", rates=FIGURES))
    assert a.est_run_s == pytest.approx(100 / 50 + 64 / 10)
    assert a.est_load_s == 7.0


def test_what_was_measured_beats_the_card(make_card: MakeCard) -> None:
    measured = {
        "prompt_tok_s": 200.0,
        "generate_tok_s": 20.0,
        "load_s": 1.5,
        answer_tokens("fact"): 10.0,
        answer_tokens("chat"): 200.0,
    }
    card = make_card("a", rates=FIGURES)
    a = made(card, price=pricing(measured))
    assert a.est_run_s == pytest.approx(100 / 200 + 10 / 20)
    assert a.est_load_s == 1.5
    assert made(card, price=pricing(measured), kind="chat").est_run_s == pytest.approx(0.5 + 200 / 20)
    assert made(make_card("b", rates=FIGURES), price=pricing(measured)).est_load_s == 7.0


def test_no_answer_is_longer_than_allowed(make_card: MakeCard) -> None:
    card, price = make_card("a"), pricing({answer_tokens("fact"): 200.0, "generate_tok_s": 10.0})
    long, short = made(card, price=price), made(card, price=price, max_tokens=8)
    assert long.est_run_s - short.est_run_s == pytest.approx((200 - 8) / 10)


def test_what_is_loaded_costs_no_load(make_card: MakeCard) -> None:
    a = made(make_card("a", rates=FIGURES), price=pricing({"load_s": 9.0}, resident=("b", "a")))
    assert (a.resident, a.load_bytes, a.est_load_s) == (True, 0, 0.0)
    assert a.est_run_s > 0


@pytest.mark.parametrize(("since", "left"), [(2.0, 5.0), (9.0, 9.0)])
def test_what_is_being_loaded_costs_what_is_left_of_it(
    since: float, left: float, make_card: MakeCard
) -> None:
    a = made(make_card("a", rates=FIGURES), price=replace(pricing(), loading={"a": since}))
    assert (a.resident, a.load_bytes, a.est_load_s, a.reload_s) == (True, 0, left, 7.0)


@pytest.mark.parametrize(("card_holds", "setting", "context"), [(512, 4096, 512), (8192, 4096, 4096)])
def test_the_context_is_the_smaller_of_card_and_setting(
    card_holds: int, setting: int, context: int, make_card: MakeCard
) -> None:
    card = make_card("a", context_length=card_holds)
    assert made(card, price=pricing(context=setting)).context_length == context


def test_an_obstacle_makes_it_unavailable(make_card: MakeCard) -> None:
    def never(_card: ModelCard) -> int:
        raise AssertionError("there is no file to look at")

    missing = WeightsMissing("its weights are not here", mend="sage models pull a")
    a = candidate(make_card("a"), situation(), pricing(), obstacle=missing, memory_bytes=never)
    assert a.unavailable is missing


def test_a_file_that_is_not_sound_makes_it_unavailable(make_card: MakeCard) -> None:
    def refuse(_card: ModelCard) -> int:
        raise UnsafeFile("bad header")

    a = candidate(make_card("a"), situation(), pricing(), obstacle=None, memory_bytes=refuse)
    assert isinstance(a.unavailable, UnsafeFile)
    assert a.unavailable.message == "bad header"


def test_torch_alone_is_not_asked_to_keep_a_schema(make_card: MakeCard) -> None:
    assert "schema" in made(make_card("a")).capabilities
    torch = replace(make_card("b"), backend="transformers", source="path:/b")
    assert made(torch).capabilities == frozenset({"text"})
