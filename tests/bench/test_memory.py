"""The measurements of recall measure what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage.bench.chatter import tell
from sage.bench.conversations import read_conversations
from sage.bench.memory import generated, measure_memory, wilson
from sage.bench.memory_growth import measure_growth
from sage.bench.updates import measure_updates
from sage.errors import UsageError


def quiet(line: str) -> None:
    """Nobody reads the progress."""


LOCOMO = [
    {
        "sample_id": "talk",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Ben",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ann", "dia_id": "D1:1", "text": "I saw a heron"},
                {"speaker": "Ben", "dia_id": "D1:2", "text": "Where?", "blip_caption": "a pond"},
            ],
            "session_2_date_time": "2:00 pm on 9 May, 2023",
        },
        "qa": [
            {"question": "What did Ann see?", "category": 4, "evidence": ["D1:01; D1:2"]},
            {"question": "Of no valid evidence?", "category": 1, "evidence": ["D7:1"]},
            {"question": "Not answerable?", "category": 5, "evidence": ["D1:1"]},
        ],
    }
]


def test_the_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text(json.dumps(LOCOMO), encoding="utf-8")
    (talk,) = read_conversations(path)
    assert [each.text for each in talk.said] == ["I saw a heron", "Where? [a pond]"]
    assert talk.said[0].at == 1683554160.0
    (question,) = talk.questions
    assert (question.category, question.evidence) == ("single-hop", {0, 1})


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"sample_id": "x"}]'])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text(text, encoding="utf-8")
    if text == "{}":
        assert read_conversations(path) == []
        return
    with pytest.raises(UsageError, match="format"):
        read_conversations(path)


def test_the_same_seed_says_the_same() -> None:
    assert tell(seed=3) == tell(seed=3)
    assert tell(seed=3) != tell(seed=4)


def test_what_was_told_is_where_it_is_said_to_be() -> None:
    told = tell(seed=5)
    assert any(fact.stale for fact in told.facts)
    for fact in told.facts:
        assert told.conversation.said[fact.newest].speaker == fact.who
        assert all(place < fact.newest for place in fact.stale)


def test_rows_of_memory(home: Path) -> None:
    rows = measure_memory(generated(2), home, progress=quiet)
    shares = {row["index"]: row for row in rows if row["category"] == "all"}
    assert set(shares) == {"sage, words", "fts5"}
    for row in rows:
        assert row["any@5"] <= row["any@10"] <= row["any@20"]
        assert row["any@10_low"] <= row["any@10"] <= row["any@10_high"]
    assert shares["sage, words"]["any@10"] > shares["fts5"]["any@10"]


def test_rows_of_updates(home: Path) -> None:
    rows = measure_updates(seeds=2, turns=200, home=home, progress=quiet)
    assert [(row["wordings"], row["index"]) for row in rows] == [
        ("known", "sage, words"),
        ("held out", "sage, words"),
    ]
    for row in rows:
        assert row["absent"] == 12
        assert 0 < row["newest first"] <= 100
        assert row["recall"] > 50


def test_rows_of_growth(home: Path) -> None:
    (row,) = measure_growth([600], home, progress=quiet)
    assert row["turns"] == 600
    assert row["p95_ms"] >= row["median_ms"] > 0


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(50, 100, 40.4, 59.6), (0, 10, 0.0, 27.8), (0, 0, 0, 100)]
)
def test_wilson(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=0.1)
