"""The measurement of salience is right where the answer is known."""

from __future__ import annotations

from pathlib import Path

from sage.bench.conversations import Conversation, Question
from sage.bench.memory import generated
from sage.bench.salience import BOUNDS, auc, measure_salience
from sage.memory.passages import Said


def test_auc_of_known_orders() -> None:
    assert auc({1: 3.0, 2: 2.0, 3: 1.0}, {1}) == 1.0
    assert auc({1: 3.0, 2: 2.0, 3: 1.0}, {3}) == 0.0
    assert auc({1: 1.0, 2: 1.0}, {1}) == 0.5
    assert auc({1: 1.0}, {1}) is None


def test_every_order_at_every_bound(home: Path) -> None:
    rows, more = measure_salience(generated(1), home, progress=lambda _: None)
    assert [row["order"] for row in rows] == ["all"] + [
        order for order in ("salience", "length", "recency", "random") for _ in BOUNDS
    ]
    whole, *others = rows
    assert (whole["evidence_kept"], whole["loss"]) == (100.0, 0.0)
    for row in others:
        assert row["stored"] == round(row["bound"] / 100 * whole["stored"])
    kept = {(row["order"], row["bound"]): row["evidence_kept"] for row in others}
    assert kept["salience", 40] > max(kept[order, 40] for order in ("length", "recency", "random"))
    assert more["sentence model"] is False


def test_dropped_messages_are_no_hits(home: Path) -> None:
    """The evidence is the oldest of many, so recency drops it and its question fails."""
    texts = ["The tortoise Bertha came from Porto.", *("we talked about the weather",) * 19]
    said = tuple(
        Said(namespace="t", session="s", speaker="a", at=float(n), text=t) for n, t in enumerate(texts)
    )
    asked = Question(text="Where did the tortoise Bertha come from?", category="x", evidence=frozenset({0}))
    talk = Conversation(name="t", said=said, questions=(asked,))
    rows, _ = measure_salience([talk], home, progress=lambda _: None)
    found = {(row["order"], row["bound"]): (row["any@10"], row["loss"]) for row in rows}
    assert found["salience", 40] == (100.0, 0.0)
    assert found["recency", 40] == (0.0, 100.0)
