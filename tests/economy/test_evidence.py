"""What counters say about answers, and that they add up."""

from __future__ import annotations

import numpy as np
import pytest

from sage.economy.evidence import COUNTERS, MARKS, Evidence, logit, sigmoid


def test_what_two_learned_apart_is_what_one_would_have_learned() -> None:
    evidence = Evidence(("a", "b"))
    apart = [Evidence(("a", "b")), Evidence(("a", "b"))]
    groups = np.array([[0, 1], [2, 2], [0, -1], [1, 1]])
    quality = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    who = np.broadcast_to(np.arange(2), groups.shape)
    marks = evidence.marks(who, groups, np.full(groups.shape, 50))
    known = np.ones(groups.shape, bool)
    evidence.observe(known, groups, quality, marks)
    for book, rows in zip(apart, (slice(0, 2), slice(2, 4)), strict=True):
        book.observe(known[rows], groups[rows], quality[rows], marks[rows])
    for field in COUNTERS:
        assert np.allclose(getattr(evidence, field), sum(getattr(book, field) for book in apart))
    assert evidence.same[0, 1] == 1.0  # wrong alike in the second question
    assert evidence.wrong[0, 1] == 1.0
    assert evidence.silent.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("quality", [float("nan"), float("inf"), -0.1, 1.5])
def test_quality_must_be_in_range_where_it_is_known(quality: float) -> None:
    evidence = Evidence(("a",))
    groups, values = np.zeros((1, 1), np.intp), np.array([[quality]])
    marks = evidence.marks(groups, groups, np.ones((1, 1)))
    with pytest.raises(ValueError, match="quality"):
        evidence.observe(np.ones((1, 1), bool), groups, values, marks)
    evidence.observe(np.zeros((1, 1), bool), groups, values, marks)  # not looked at
    assert evidence.asked[0] == 0.0


def test_without_outcomes_only_doubt_and_a_broken_schema_say_something() -> None:
    evidence = Evidence(("a",))
    who = np.zeros(4, np.intp)
    mean, sd = evidence.usual_doubt()
    doubts = np.array([np.nan, mean[0], mean[0] + sd[0], mean[0] - sd[0]])
    marks = evidence.marks(who, who, np.full(4, 90), labels=who, doubts=doubts)
    assert evidence.shifts(who, marks) == pytest.approx([0.0, 0.0, -1.0, 1.0], abs=1e-9)
    valid = np.array([True, False, True, True])
    broken = evidence.shifts(who, evidence.marks(who, who, np.full(4, 90), valid=valid))
    assert broken == pytest.approx([0.0, -2.0, 0.0, 0.0], abs=1e-9)


def test_doubt_is_measured_against_what_the_model_usually_shows() -> None:
    evidence = Evidence(("timid", "bold"))
    random = np.random.default_rng(0)
    for candidate, centre in ((0, 0.6), (1, 0.1)):
        evidence.notice(np.full(200, candidate), centre + 0.05 * random.standard_normal(200))
    who = np.array([0, 1])
    marks = evidence.marks(who, np.zeros(2, np.intp), np.full(2, 90), doubts=np.array([0.6, 0.6]))
    timid, bold = evidence.shifts(who, marks)
    assert timid == pytest.approx(0.0, abs=0.3)
    assert bold == pytest.approx(-1.5, abs=0.1)


def test_a_mark_that_comes_with_wrong_answers_lowers_trust() -> None:
    evidence = Evidence(("a",))
    tokens = np.tile([[40.0], [1000.0]], (100, 1))
    groups = np.zeros((200, 1), np.intp)
    quality = np.tile([[1.0], [0.0]], (100, 1))
    who = np.zeros((200, 1), np.intp)
    marks = evidence.marks(who, groups, tokens)
    evidence.observe(np.ones((200, 1), bool), groups, quality, marks)
    short, long = evidence.shifts(who[:2, 0], marks[:2, 0])
    assert long < -1.0 < 1.0 < short
    left_out = evidence.shifts(who[:2, 0], marks[:2, 0], quality[:2, 0])
    assert left_out[0] < short
    assert left_out[1] > long


def test_two_that_are_always_wrong_alike_prove_little_by_agreeing() -> None:
    evidence = Evidence(("a", "twin", "other"))
    groups = np.tile([[1, 1, 2]], (300, 1))
    marks = evidence.marks(np.broadcast_to(np.arange(3), groups.shape), groups, np.full(groups.shape, 9))
    evidence.observe(np.ones(groups.shape, bool), groups, np.zeros(groups.shape), marks)
    surprise = evidence.surprise()
    assert surprise[0, 1] < 0.1 < 2.0 < surprise[0, 2]
    assert (surprise == surprise.T).all()


@pytest.mark.parametrize("tokens", [0, 1, 2, 5, 2047, 10**9])
def test_every_length_has_a_row(tokens: int) -> None:
    evidence = Evidence(("a",))
    zero = np.zeros(1, np.intp)
    rows = evidence.marks(zero, zero, np.array([tokens]), labels=np.array([31]), valid=np.array([True]))
    assert ((rows >= -1) & (rows < MARKS)).all()


def test_log_odds_stay_finite() -> None:
    assert np.isfinite(logit([0.0, 1.0])).all()
    assert sigmoid(logit(0.3)) == pytest.approx(0.3)
