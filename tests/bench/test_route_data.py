"""Reading recorded outcomes: what is right comes back, what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sage.bench.route_data import load_outcomes, matched, pooled
from sage.errors import NotFound, UsageError

from .conftest import MakeOutcomes

GOOD = np.full((90, 4), 0.5)


def changed(row: int, column: int, value: float) -> np.ndarray[Any, Any]:
    values = GOOD.copy()
    values[row, column] = value
    return values


def test_a_good_folder(make_outcomes: MakeOutcomes) -> None:
    outcomes = load_outcomes(make_outcomes("a"))
    assert outcomes.models == ("sums-7b", "letters-8b", "code-9b", "plain")
    assert outcomes.params_b == (7.0, 8.0, 9.0, 1.0)
    assert outcomes.scores.shape == (90, 4)
    assert (len(outcomes.ids), outcomes.categories[:3]) == (90, ("sums", "letters", "code"))
    assert outcomes.price_unit == "USD per 1,000 queries"
    assert outcomes.price is not None
    assert outcomes.price[0].tolist() == pytest.approx([7.0, 8.0, 9.0, 1.0])


def test_what_is_optional_may_be_missing(make_outcomes: MakeOutcomes) -> None:
    bare = load_outcomes(make_outcomes("a", tokens=None, cost=None, answers=None))
    assert (bare.tokens, bare.cost, bare.answers, bare.price, bare.price_unit) == (None,) * 5


def test_without_costs_size_and_length_are_the_price(make_outcomes: MakeOutcomes) -> None:
    models = json.dumps([{"name": n, "params_b": p} for n, p in zip("abcd", (1, 2, None, 4), strict=True)])
    outcomes = load_outcomes(make_outcomes("a", cost=None, models=models))
    assert outcomes.price is not None
    assert outcomes.price[0].tolist() == pytest.approx([0.1, 0.2, float("nan"), 0.4], nan_ok=True)


def test_a_pattern_keeps_matching_models(make_outcomes: MakeOutcomes) -> None:
    folder = make_outcomes("a")
    some = load_outcomes(folder, models="*-[78]b")
    assert some.models == ("sums-7b", "letters-8b")
    assert some.cost is not None
    assert some.answers is not None
    assert some.cost.shape == some.answers.shape == some.scores.shape == (90, 2)
    assert (some.scores == load_outcomes(folder).scores[:, :2]).all()
    with pytest.raises(UsageError, match=r"No model of .* matches 'plane'.*Did you mean 'plain'"):
        load_outcomes(folder, models="plane")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        (
            "scores",
            changed(3, 1, np.nan),
            r"scores.npy, row 4 \(a-3\), letters-8b: nan .* from 0 to 1; 1 val",
        ),
        ("scores", changed(0, 0, np.inf), "sums-7b: inf"),
        ("scores", changed(0, 2, 1.01), "code-9b: 1.01"),
        ("scores", GOOD[:, :3], r"shape \(90, 3\); 90 questions and 4 models"),
        ("scores", GOOD[:89], r"shape \(89, 4\)"),
        ("scores", GOOD.astype(complex), "no array of numbers"),
        ("scores", "not an array", "no array of numbers"),
        ("cost", changed(89, 3, -0.1), "cost.npy, row 90 .*plain: -0.1 is no number of 0 or more"),
        ("cost", changed(5, 0, np.nan), "cost.npy, row 6"),
        ("tokens", changed(5, 0, np.inf), "tokens.npy, row 6"),
        ("answers", GOOD, "answers.npy holds numbers that are not whole"),
        ("answers", changed(0, 0, -2), "answers.npy, row 1"),
        ("queries", '{"id": "a", "text": "b"}', "line 1: needs the strings id, text and category"),
        ("queries", '{"id": "a", "text": 3, "category": "c"}', "line 1: needs the strings"),
        ("queries", '\n\n{"id": "a", "text', "queries.jsonl, line 3: not JSON"),
        ("queries", '{"id": "a", "text": "\\ud800", "category": "c"}', "line 1: not JSON"),
        ("queries", "[" * 100_000, "line 1: not JSON"),
        ("queries", "[1]", "line 1: needs the strings"),
        ("queries", '{"id":"a","text":"","category":"c"}\n' * 2, "line 2: the id 'a' stands in line 1 too"),
        ("queries", "\n", "holds no question"),
        ("queries", '{"id":"a","text":" ","category":"c"}', "holds no question"),
        ("models", "[", "models.json: not JSON"),
        ("models", "[]", "list of objects with a name"),
        ("models", '{"name": "a"}', "list of objects with a name"),
        ("models", '[{"name": "a"}, {"name": "a"}]', "names 'a' twice"),
        ("models", '[{"name": "a", "params_b": -1}]', "params_b of 'a'"),
        ("models", '[{"name": "a", "params_b": NaN}]', "params_b of 'a'"),
    ],
)
def test_what_is_wrong_is_named(make_outcomes: MakeOutcomes, file: str, content: Any, says: str) -> None:
    folder = make_outcomes("a", **{file: content})
    with pytest.raises(UsageError, match=says) as caught:
        load_outcomes(folder)
    assert caught.value.mend


def test_pickled_objects_are_not_read(make_outcomes: MakeOutcomes) -> None:
    folder = make_outcomes("a")
    np.save(folder / "scores.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="no array of numbers"):
        load_outcomes(folder)


def test_a_header_that_lies_about_the_size_takes_no_memory(make_outcomes: MakeOutcomes) -> None:
    folder = make_outcomes("a")
    whole = (folder / "scores.npy").read_bytes()
    (folder / "scores.npy").write_bytes(whole.replace(b"(90, 4)", b"(9000000000, 4000)"))
    with pytest.raises(UsageError, match="no array of numbers"):
        load_outcomes(folder)


@pytest.mark.parametrize("file", ["queries", "models", "scores"])
def test_a_missing_file_is_named(make_outcomes: MakeOutcomes, file: str) -> None:
    with pytest.raises(NotFound, match=f"has no {file}."):
        load_outcomes(make_outcomes("a", **{file: None}))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        load_outcomes(tmp_path / "nowhere")


def test_models_are_matched_by_name(make_outcomes: MakeOutcomes) -> None:
    train = load_outcomes(make_outcomes("train"))
    order = [2, 0, 3, 1]
    cards = [{"name": train.models[i], "params_b": train.params_b[i]} for i in order]
    there = load_outcomes(make_outcomes("there", seed=1))
    folder = make_outcomes(
        "test", seed=1, models=json.dumps(cards), scores=there.scores[:, order], cost=None, answers=None
    )
    test = matched(load_outcomes(folder), train)
    assert test.models == train.models
    assert test.params_b == train.params_b
    assert (test.scores == there.scores).all()
    both = pooled(train, test)
    assert both.scores.shape == (180, 4)
    assert both.cost is None
    assert both.tokens is not None
    assert (both.scores[90:] == there.scores).all()


def test_other_models_are_refused(make_outcomes: MakeOutcomes) -> None:
    train, test = load_outcomes(make_outcomes("a")), load_outcomes(make_outcomes("b"), models="*b")
    with pytest.raises(UsageError, match="b lacks plain") as caught:
        matched(test, train)
    assert "--models" in caught.value.mend
    with pytest.raises(UsageError, match="b lacks plain"):
        matched(train, test)
