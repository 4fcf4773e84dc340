"""The cascade as it serves: what it believes of questions, and that shipped weights can be fitted again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sage.bench.arena import Arena, build_arena
from sage.bench.cascade import Policy, Recorded, alpha_for, at_ceilings, fit_on, record
from sage.bench.cascade_served import Served
from sage.bench.route_data import Outcomes, load_outcomes
from sage.bench.route_views import embed_texts
from sage.bench.sage_policy import SageExpectation
from sage.bench.weights import main, weights_of
from sage.economy.evidence import LABELS, LENGTHS
from sage.economy.opinions import DEFAULT_WEIGHTS
from sage.errors import UsageError
from sage.memory.hashing import HashingEmbedder

from .conftest import MakeOutcomes, maker

TRAIN, TEST = np.arange(400), np.arange(400, 600)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return load_outcomes(maker(tmp_path_factory.mktemp("data"))("world", count=600))


@pytest.fixture(scope="module")
def arena(outcomes: Outcomes, tmp_path_factory: pytest.TempPathFactory) -> Arena:
    home = tmp_path_factory.mktemp("home")
    views = embed_texts(outcomes.texts, HashingEmbedder(), home, progress=lambda _text: None)
    return build_arena(outcomes, views, TRAIN, TEST, first=None, seed=0)


@pytest.fixture(scope="module")
def recorded(outcomes: Outcomes, arena: Arena) -> tuple[Recorded, Recorded]:
    train = record(outcomes, arena.train.contexts, TRAIN)
    test = record(outcomes, arena.test.contexts, TEST)
    assert train is not None
    assert test is not None
    return train, test


@pytest.fixture(scope="module")
def served(arena: Arena, recorded: tuple[Recorded, Recorded]) -> Served:
    return Served(recorded[0], arena.train, arena.codebook, seed=0)


def chances(log_odds: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-log_odds))


def test_trust_in_new_questions_is_the_book_s(
    served: Served, arena: Arena, recorded: tuple[Recorded, Recorded]
) -> None:
    train, test = recorded
    beliefs = served.new(test, arena.test).beliefs
    book = SageExpectation(train.models, arena.codebook)
    book.fit(arena.train, train.scores)
    expected = np.clip(book.estimate(arena.test), 0.01, 0.99)
    assert np.allclose(chances(beliefs.overall + beliefs.context), expected)
    assert np.allclose(chances(beliefs.overall), train.scores.mean(0), atol=0.02)


def test_trust_in_training_questions_knows_nothing_of_their_own_outcomes(
    arena: Arena, recorded: tuple[Recorded, Recorded]
) -> None:
    """Each half is read from a book of the other: outcomes turned round in it alone change nothing."""
    train, _ = recorded
    half = np.random.default_rng(0).permutation(len(TRAIN))[::2]
    scores = train.scores.copy()
    scores[half] = 1.0 - scores[half]
    turned = Recorded(**{name: getattr(train, name) for name in train.__slots__} | {"scores": scores})
    before, after = (
        Served(data, arena.train, arena.codebook, seed=0).train.beliefs for data in (train, turned)
    )
    trust, other = (beliefs.overall + beliefs.context for beliefs in (before, after))
    assert np.allclose(trust[half], other[half])
    assert not np.allclose(np.delete(trust, half, 0), np.delete(other, half, 0), atol=0.1)


def test_letters_are_no_marks_and_the_weights_are_those_shipped(
    served: Served, arena: Arena, recorded: tuple[Recorded, Recorded]
) -> None:
    assert served.weights == DEFAULT_WEIGHTS
    assert {served.alpha(ceiling) for ceiling in (1.5, 5.0)} == {DEFAULT_WEIGHTS.alpha}
    assert alpha_for(1.5) != DEFAULT_WEIGHTS.alpha
    assert served._evidence.marked[LENGTHS : LENGTHS + LABELS].sum() == 0.0
    assert served._evidence.marked[:LENGTHS].sum() == 400 * 4


def test_ceilings_hold_and_more_calls_answer_more_right(
    served: Served, arena: Arena, recorded: tuple[Recorded, Recorded]
) -> None:
    questions = served.new(recorded[1], arena.test)
    played = at_ceilings(served, questions, (1.5, 3.0), seed=0)
    for ceiling, what in played.items():
        assert 1.0 <= what.calls.mean() <= ceiling
    once = served.play(questions, Policy(first=0.0, further=np.inf, alpha=1.5))
    assert (once.calls == 1.0).all()
    assert played[3.0].score.mean() > recorded[1].scores.mean(0).max()


def test_the_command_prints_the_mean_of_what_each_folder_gives(
    make_outcomes: MakeOutcomes, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [make_outcomes("a", count=150), make_outcomes("b", count=150, seed=1)]
    assert main(["--data", *map(str, folders), "--embedder", "hash"]) == 0
    printed = [float(value) for value in re.findall(r"-?\d+\.\d\d", capsys.readouterr().out)]
    each = [weights_of(folder, home, embedder="hash") for folder in folders]
    assert len(printed) == len(DEFAULT_WEIGHTS.values)
    assert np.allclose(printed, np.mean(each, 0), atol=0.006)
    assert not np.allclose(each[0], each[1], atol=0.01)


def test_without_answers_no_weights_are_fitted(make_outcomes: MakeOutcomes, home: Path) -> None:
    with pytest.raises(UsageError, match="no answers"):
        weights_of(make_outcomes("a", answers=None), home, embedder="hash")


def test_weights_fitted_here_tell_right_from_wrong(served: Served) -> None:
    """What the strongest of a group is worth must be positive; nothing else is as sure on any data."""
    assert sum(fit_on(served.train).values[index] for index in (0, 1, 5)) > 0.0
