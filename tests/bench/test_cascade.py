"""The cascade on made-up outcomes: it gains by agreement, keeps its ceiling, sees only what it paid for."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sage.bench.cascade import (
    Learned,
    Played,
    Policy,
    Questions,
    Recorded,
    alpha_for,
    at_ceilings,
    record,
)
from sage.bench.cascade_cost import BUDGETS, Curves, compare_at_cost, cost_curves
from sage.bench.route_data import Outcomes
from sage.economy.context import Codebook, View

SKILLS = (0.45, 0.5, 0.55, 0.5, 0.7)
PRICES = (1.0, 1.0, 1.0, 1.2, 10.0)


def made_up(count: int, seed: int) -> Recorded:
    """Two topics, five models; wrong answers are spread over four options; the last model is dear. Answers
    that are long are right less often."""
    random = np.random.default_rng(seed)
    many = len(SKILLS)
    topic = random.integers(0, 2, count)
    skill = np.tile(SKILLS, (count, 1))
    skill[topic == 1, :2] = skill[topic == 1, 1::-1] + 0.1
    long = random.random((count, many)) < 0.4
    right = random.random((count, many)) < np.where(long, skill - 0.2, skill + 0.13)
    key = random.integers(0, 5, (count, 1))
    wrong = (key + random.integers(1, 5, (count, many))) % 5
    answers = np.where(right, key, np.where(random.random((count, many)) < 0.05, -1, wrong))
    ones = np.ones((count, 1))
    return Recorded(
        models=tuple("abcde"),
        categories=tuple(f"topic {t}" for t in topic),
        scores=right.astype(np.float64),
        answers=answers,
        tokens=np.where(long, 700.0, 60.0),
        price=np.tile(PRICES, (count, 1)),
        cells=topic[:, None],
        membership=ones,
        weight=ones,
    )


@cache
def learned() -> Learned:
    return Learned(made_up(1500, 0))


@cache
def unseen() -> Questions:
    return learned().new(made_up(1000, 1))


def play(policy: Policy) -> Played:
    questions = unseen()
    return learned().play(questions, policy, np.ones_like(questions.price))


def test_more_opinions_answer_more_right_and_ceilings_hold() -> None:
    data = unseen().data
    played = at_ceilings(learned(), unseen(), (1.5, 2.0, 3.0), seed=0)
    best_single = data.scores.mean(0).max()
    for ceiling, what in played.items():
        assert 1.0 <= what.calls.mean() <= ceiling
        assert what.calls.max() <= len(SKILLS)
    assert played[3.0].score.mean() > played[1.5].score.mean() > best_single - 0.02
    assert played[3.0].score.mean() > best_single + 0.05


def test_a_policy_that_never_asks_again_is_a_router() -> None:
    one = play(Policy(first=0.0, further=math.inf, alpha=2.0))
    assert (one.calls == 1.0).all()
    data = unseen().data
    assert (one.price == data.price[:, 4]).all()
    assert (one.score == data.scores[:, 4]).all()
    thrifty = learned().play(unseen(), Policy(first=1.0, further=math.inf, alpha=2.0))
    assert thrifty.price.max() <= 1.2


def test_what_was_not_paid_for_changes_nothing() -> None:
    policy = Policy(first=0.0, further=0.1, alpha=2.0)
    data = unseen().data
    train = learned()
    ready = train.new(data)
    unit = np.ones_like(ready.price)
    seen = train.play(ready, policy, unit)
    asked_one = seen.calls == 1.0
    assert 0 < asked_one.sum() < len(asked_one)
    first = (ready.beliefs.overall + ready.beliefs.context).argmax(1)
    hidden = np.ones_like(data.answers, bool)
    hidden[np.arange(len(first)), first] = False
    hidden &= asked_one[:, None]
    random = np.random.default_rng(5)
    other = replace(
        data,
        answers=np.where(hidden, random.integers(-1, 5, data.answers.shape), data.answers),
        tokens=np.where(hidden, 9.0, data.tokens),
        scores=np.where(hidden, 1.0 - data.scores, data.scores),
    )
    again = train.play(train.new(other), policy, unit)
    assert (again.score == seen.score).all()
    assert (again.calls == seen.calls).all()


def test_answers_that_training_never_saw_are_groups_like_any_other() -> None:
    policy = Policy(first=0.0, further=0.01, alpha=2.0)
    data = unseen().data
    renamed = replace(data, answers=np.where(data.answers >= 0, data.answers + 40, -1))
    unit = np.ones_like(data.price)
    as_text = learned().play(replace(unseen(), data=renamed), policy, unit)
    assert (as_text.score == play(policy).score).all()
    silent = replace(data, answers=np.full_like(data.answers, -1))
    assert learned().play(replace(unseen(), data=silent), policy, unit).score.sum() == 0.0


def test_own_outcomes_are_left_out_of_beliefs_about_training_questions() -> None:
    train = learned().train
    right = train.data.scores[:, 0] > 0
    row = np.nonzero(right)[0][0]
    twin = np.nonzero(~right & (train.data.cells[:, 0] == train.data.cells[row, 0]))[0][0]
    # Same cell: the one that was right is believed in less, as its own outcome does not count.
    assert train.beliefs.context[row, 0] < train.beliefs.context[twin, 0]


def test_alpha_falls_with_the_ceiling() -> None:
    values = [alpha_for(c) for c in (1.5, 2.0, 3.0, 5.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] > 1.0


def test_at_equal_cost_the_cascade_is_above_what_it_contains() -> None:
    curves = cost_curves(made_up(2500, 0), made_up(2500, 1))
    assert curves is not None
    result = compare_at_cost([curves])
    assert len(result["points"]["cascade"]) == len(result["points"]["router"]) == len(BUDGETS)
    for row in result["at_cost_of"]:
        assert row["cascade"] > row["single"] - 0.02
        assert row["cascade"] > row["router"] - 0.02
    best = max(result["at_cost_of"], key=lambda row: row["cost"])
    assert best["model"] == "e"
    assert best["cascade"] > best["single"] + 0.02


def test_models_without_a_price_are_left_out_of_costs_alone() -> None:
    train, test = made_up(500, 0), made_up(300, 1)
    train.price[:, 4] = np.nan
    curves = cost_curves(train, test)
    assert curves is not None
    assert set(curves.singles) == set("abcd")
    train.price[:, 1:] = np.nan
    assert cost_curves(train, test) is None


def test_curves_of_nothing() -> None:
    with pytest.raises(ValueError, match="no curves"):
        compare_at_cost(list[Curves]())


def outcomes(**replaced: object) -> Outcomes:
    data = made_up(6, 0)
    whole = Outcomes(
        name="made up",
        ids=tuple("123456"),
        texts=("",) * 6,
        categories=data.categories,
        models=data.models,
        params_b=(1.0, 2.0, 3.0, 4.0, None),
        scores=data.scores,
        tokens=data.tokens,
        answers=data.answers,
    )
    return replace(whole, **replaced)  # type: ignore[arg-type]


def test_a_record_is_made_of_the_rows_it_is_asked_for() -> None:
    book = Codebook([View(name="kind", weight=1.0, size=6)])
    contexts = book.place_all({}, {"kind": np.array([4, 2])})
    data = record(outcomes(), contexts, np.array([4, 2]))
    assert data is not None
    assert data.cells.tolist() == [[4], [2]]
    assert (data.answers == outcomes().answers[[4, 2]]).all()  # type: ignore[index]
    assert np.isnan(data.price[:, 4]).all()
    assert not np.isnan(data.price[:, :4]).any()


@pytest.mark.parametrize(
    "missing",
    [
        {"answers": None},
        {"tokens": None},
        {"models": ("a",), "scores": np.ones((6, 1)), "answers": np.zeros((6, 1), np.intp)},
    ],
)
def test_without_answers_lengths_or_a_second_model_there_is_nothing_to_cascade(
    missing: dict[str, object],
) -> None:
    book = Codebook([View(name="kind", weight=1.0, size=6)])
    contexts = book.place_all({}, {"kind": np.array([0, 1])})
    assert record(outcomes(**missing), contexts, np.array([0, 1])) is None
