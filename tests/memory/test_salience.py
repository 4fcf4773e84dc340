"""What each dimension is computed from, and the order of attention."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.memory.salience import DIMENSIONS, Context, Reading, Salience, Weights, appraise

PLAIN = Reading(nats=10.0, new=1, near=0.4, nearest=1)


def of(text: str = "the tea is warm", reading: Reading = PLAIN, context: Context | None = None) -> Salience:
    return appraise(text, reading, context or Context(), Weights())


@given(
    st.text(max_size=300),
    st.floats(0, 1e9),
    st.integers(0, 400),
    st.floats(allow_nan=True),
    st.booleans(),
    st.one_of(st.none(), st.floats(allow_nan=True)),
)
def test_whatever_is_read_all_stay_within_0_and_1(
    text: str, nats: float, new: int, near: float, asked: bool, share: float | None
) -> None:
    context = Context(asked=asked, nearby=share, expected=share, found=0.5, disagree=share)
    found = of(text, Reading(nats=nats, new=new, near=near), context)
    assert all(0.0 <= value <= 1.0 for value in (*found.values(), found.total))


def test_surprise_is_prediction_error() -> None:
    assert of(reading=Reading(nats=40.0)).surprise > of(reading=Reading(nats=5.0)).surprise > 0
    assert of(reading=Reading()).surprise == 0.0
    assert of(reading=Reading(), context=Context(expected=0.9, found=0.1)).surprise == pytest.approx(0.8)
    assert of(reading=Reading(), context=Context(expected=0.9)).surprise == 0.0


def test_novelty_is_distance_to_memory() -> None:
    assert of(reading=Reading(near=1.0)).novelty == 0.0
    assert of(reading=Reading(near=0.2)).novelty > of(reading=Reading(near=0.7)).novelty
    assert of(reading=Reading(near=0.2, new=3)).novelty > of(reading=Reading(near=0.2)).novelty
    assert of("  ", Reading()).novelty == 0.0, "nothing was said"


@pytest.mark.parametrize(
    "more",
    [
        "my tea is warm",
        "the tea is warm tomorrow",
        "the tea is urgent",
        "the tea is 80 warm",
        "the tea of Anna",
    ],
)
def test_arousal_is_magnitude_and_urgency(more: str) -> None:
    assert of(more).arousal > of("the tea is warm").arousal


def test_reward_is_what_it_brought_and_who_asked_never_praise() -> None:
    assert of().reward == 0.25
    assert of(context=Context(asked=True)).reward == 0.75
    assert of(context=Context(nearby=1.0)).reward > of().reward > of(context=Context(nearby=0.0)).reward
    praise = "you are a brilliant wonderful genius"
    assert of(praise).reward == of("the tea is warm").reward


def test_conflict_is_disagreement_or_a_change_of_what_is_near() -> None:
    assert of().conflict == 0.0
    assert of(context=Context(disagree=0.6)).conflict == 0.6
    assert of("the tea is no longer warm").conflict == 0.4
    assert of("the tea is no longer warm", Reading()).conflict == 0.0, "there is nothing to contradict"


@pytest.mark.parametrize("name", DIMENSIONS)
def test_each_weight_counts(name: str) -> None:
    reading, context = Reading(nats=20.0, new=2, near=0.5), Context(asked=True, disagree=0.5)
    heavier = appraise("I changed it", reading, context, dataclasses.replace(Weights(), **{name: 6.0}))
    assert heavier.total > appraise("I changed it", reading, context, Weights()).total
