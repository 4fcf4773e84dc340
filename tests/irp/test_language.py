"""What a text alone says of itself, and the steps of drafting."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.irp.plugins.language import (
    LOGPROB_FLOOR,
    LOOPING,
    RETRY_TEMPERATURE,
    Drafts,
    LanguagePlugin,
    Opinion,
    Weighed,
    doubt,
    likeness,
    repetition,
)
from sage.irp.protocol import Exhausted
from sage.types import Completion

PROSE = "The sea was calm, the boats came home before dark, and everybody on the quay was glad of it."
LOOP = "the cat sat on the mat and " * 12


def said(text: str, logprob: float | None = -0.1) -> Completion:
    words = len(text.split())
    return Completion(
        text=text,
        prompt_tokens=3,
        completion_tokens=words,
        finish_reason="stop",
        logprobs=() if logprob is None else (logprob,) * words,
    )


def by_length(drafts: Drafts) -> Weighed:
    """The longest is the best: a hundred letters are perfect."""
    energies = tuple(1.0 - len(draft.completion.text) / 100 for draft in drafts)
    return Weighed(energies=energies, best=energies.index(min(energies)))


def plugin(
    answers: dict[str, str] | None = None,
    *,
    order: tuple[str | None, ...] = ("a",),
    valid: bool = True,
    temperature: float = 0.0,
    asked: list[tuple[str, int, float]] | None = None,
) -> LanguagePlugin:
    def ask(model: str, step: int, temperature: float) -> Opinion:
        if asked is not None:
            asked.append((model, step, temperature))
        completion = replace(said((answers or {})[model]), valid=valid)
        return Opinion(model=model, completion=completion, attempt=step, atp=2.0)

    return LanguagePlugin(
        ask=ask,
        next_model=lambda drafts, _atp: order[len(drafts)] if len(drafts) < len(order) else None,
        weigh=by_length,
        temperature=temperature,
    )


@pytest.mark.parametrize("logprob", [-0.01, -0.1, -0.7, -2.0])
def test_doubt_is_what_the_probabilities_leave_open(logprob: float) -> None:
    assert doubt(said(PROSE, logprob)) == pytest.approx(1 - math.exp(logprob))


def test_doubt_is_unknown_without_probabilities_but_for_a_loop() -> None:
    assert math.isnan(doubt(said(PROSE, None)))
    assert doubt(said(LOOP, None)) == repetition(LOOP) > LOOPING


def test_one_forced_token_does_not_make_an_answer_doubtful() -> None:
    forced = Completion(
        text="{", prompt_tokens=1, completion_tokens=4, finish_reason="stop", logprobs=(-40.0, 0, 0, 0)
    )
    assert doubt(forced) == pytest.approx(1 - math.exp(LOGPROB_FLOOR / 4))


@pytest.mark.parametrize("logprobs", [(-math.inf,), (0.5, 2.0), (0.0,), (-1e300, -1e300)])
def test_doubt_stays_a_share_for_odd_probabilities(logprobs: tuple[float, ...]) -> None:
    odd = Completion(text="a", prompt_tokens=1, completion_tokens=1, finish_reason="stop", logprobs=logprobs)
    assert 0.0 <= doubt(odd) <= 1.0


def test_a_loop_is_doubtful_however_sure_the_model_is() -> None:
    assert doubt(said(LOOP, -0.001)) > 0.8
    assert doubt(said(PROSE, -0.001)) < 0.01


def test_repetition() -> None:
    assert repetition("") == repetition("yes") == repetition("one two three") == 0.0
    assert repetition(PROSE) == 0.0
    assert repetition("a b c d a b c d") == pytest.approx(1 / 5)
    assert repetition("I went to the market, and then he went to the market too.") < 0.3
    assert repetition("猫が好き。" * 20) > 0.8  # written without spaces


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ("Paris", "paris.", 1.0),
        ("It is Paris!", "it is... Paris", 1.0),
        ("Paris", "London", 0.0),
        ("the capital is Paris", "Paris", 0.4),
        ("Привет, мир", "привет мир!", 1.0),
        ("東京です", "東京", 2 * 2 / 6),
        ("สวัสดี", "สวัสดี", 1.0),
        ("", "", 1.0),
        ("", "Paris", 0.0),
        ("?!", "...", 1.0),
        ("?!", "Paris", 0.0),
        ("no no no", "no", 0.5),
        ("42", "42.", 1.0),
    ],
)
def test_likeness(one: str, other: str, value: float) -> None:
    assert likeness(one, other) == pytest.approx(value)
    assert likeness(other, one) == pytest.approx(value)


@given(one=st.text(max_size=60), other=st.text(max_size=60))
def test_likeness_is_a_symmetric_share(one: str, other: str) -> None:
    assert 0.0 <= likeness(one, other) <= 1.0
    assert likeness(one, other) == likeness(other, one)
    assert likeness(one, one) == 1.0
    assert 0.0 <= repetition(one) <= 1.0


@pytest.mark.parametrize(("text", "kept"), [("", True), ("  \n", True), ("no", False)])
def test_the_empty_and_the_broken_are_not_valid(text: str, kept: bool) -> None:
    assert not plugin({"a": text}, valid=kept).step((), 9.0).state[0].valid
    assert plugin({"a": "no"}).step((), 9.0).state[0].valid


def test_energy_and_the_best_are_what_the_weighing_says() -> None:
    one = plugin({"a": "x" * 10, "b": "x" * 30, "c": "x" * 20}, order=("a", "b", "c"))
    state: Drafts = one.init_state()
    for _ in range(3):
        state = one.step(state, 9.0).state
    assert one.energy(state) == pytest.approx(0.7)
    assert one.best(state).model == "b"


def test_a_step_adds_one_draft_and_leaves_the_old_state() -> None:
    one = plugin({"a": "Paris", "b": "Rome"}, order=("a", "b"))
    assert one.init_state() == ()
    first = one.step((), 9.0)
    second = one.step(first.state, 7.0)
    assert [d.model for d in first.state] == ["a"]
    assert [(d.model, d.completion.text, d.attempt) for d in second.state] == [
        ("a", "Paris", 0),
        ("b", "Rome", 1),
    ]
    assert second.atp == 2.0
    assert one.halt((0.9, 0.8)) == ""


@pytest.mark.parametrize(("asked_for", "again"), [(0.0, RETRY_TEMPERATURE), (1.2, 1.2)])
def test_the_same_model_is_asked_again_less_greedily(asked_for: float, again: float) -> None:
    asked: list[tuple[str, int, float]] = []
    one = plugin({"a": "x", "b": "y"}, order=("a", "b", "a"), temperature=asked_for, asked=asked)
    state: Drafts = one.init_state()
    for _ in range(3):
        state = one.step(state, 9.0).state
    assert asked == [("a", 0, asked_for), ("b", 1, asked_for), ("a", 2, again)]


def test_it_is_exhausted_when_nobody_is_left() -> None:
    one = plugin({"a": "x"}, order=("a", None))
    state = one.step((), 9.0).state
    with pytest.raises(Exhausted):
        one.step(state, 9.0)


def test_a_model_that_passed_the_work_on_is_not_the_one_that_answered() -> None:
    one = LanguagePlugin(
        ask=lambda _model, step, _temperature: Opinion(
            model="b", completion=said("x"), attempt=step, atp=1.0
        ),
        next_model=lambda _drafts, _atp: "a",
        weigh=by_length,
        temperature=0.0,
    )
    assert one.step((), 9.0).state[0].model == "b"
