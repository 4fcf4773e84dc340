"""When what is dear is told anew."""

from __future__ import annotations

from collections.abc import Mapping

from sage.config import SelectorSettings
from sage.economy.pool import Pool
from sage.kernel.dearness import RENEWED, Dearness

SPEED = {"generate_tok_s": 5.0}


def test_it_is_told_with_each_model_that_is_measured_and_now_and_then() -> None:
    told = []

    def usual() -> Pool:
        told.append(1)
        return Pool(())

    dearness = Dearness(SelectorSettings())

    def after(decisions: int, rates: Mapping[str, Mapping[str, float]]) -> int:
        for _ in range(decisions):
            dearness.selector(rates, usual)
        return len(told)

    assert after(3, {}) == 1
    assert after(3, {"a": {"load_s": 1.0}}) == 1
    assert after(3, {"a": SPEED}) == 2
    assert after(1, {"a": SPEED, "b": SPEED}) == 3
    assert after(RENEWED - 1, {"a": SPEED, "b": SPEED}) == 3
    assert after(1, {"a": SPEED, "b": SPEED}) == 4
