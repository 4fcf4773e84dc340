"""Books and crashes; the million events are `sage bench ledger`."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from sage.bench import ledger
from sage.bench.ledger import measure_ledger


def test_books_stay_exact_whatever_write_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "FOLDED_EVERY", 1500)
    row = measure_ledger(events=4000, seed=3)
    assert row["crashes"] > 40
    assert (row["off"], row["negative"], row["lost"]) == (0, 0, 0.0)


def test_it_sees_books_that_are_not_written_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger._Fragile, "transaction", lambda *_, **__: nullcontext())
    assert measure_ledger(events=1000, seed=3)["off"] > 0


@pytest.mark.slow
def test_a_million_events() -> None:
    row = measure_ledger(events=1_000_000)
    assert row["crashes"] > 10_000
    assert (row["off"], row["negative"], row["lost"]) == (0, 0, 0.0)
