"""A decision says why, and what it says would have changed it does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sage.economy.context import Context
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.reason import expertise_to_win, price_to_win, reason
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook
from sage.types import Candidate, CandidateScore, Decision, Form, Rule, Situation

Make = Callable[..., Candidate]
LIMITS = Limits(atp=1e9, capacity=1e9, memory_bytes=10**9)


@pytest.fixture(scope="session")
def choose(
    make_situation: Callable[..., Situation],
    make_book: Callable[..., TrustBook],
    place: Callable[..., Context],
) -> Callable[..., Decision]:
    """Choose without anything learned, and with nobody lighter preferred."""

    def choose(
        candidates: list[Candidate], *, form: Form = "product", dial: float = 0.5, **more: Any
    ) -> Decision:
        selector = Selector(hot_bonus=1.2, price_scale=10.0, form=form)
        return selector.choose(
            make_situation(),
            place(),
            Pool(candidates),
            make_book(),
            limits=LIMITS,
            now=0.0,
            dial=dial,
            state="FOCUS",
            **more,
        )

    return choose


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"prior": {"*": 0.9}}, {"prior": {"*": 0.3}}, "trusted more at fact (0.90 against 0.30)"),
        ({"est_run_s": 1.0}, {"est_run_s": 20.0}, "cheaper (1 against 20 ATP)"),
        ({"resident": True}, {}, "already loaded"),
    ],
    ids=["expertise", "price", "residency"],
)
def test_the_reason_names_what_decided(
    first: dict[str, Any],
    second: dict[str, Any],
    says: str,
    make_candidate: Make,
    choose: Callable[..., Decision],
) -> None:
    decision = choose([make_candidate("b", **second), make_candidate("a", **first)])
    assert decision.chosen == "a"
    assert decision.reason.startswith("a before b (")
    assert says in decision.reason


def test_the_only_candidate_is_called_so(make_candidate: Make, choose: Callable[..., Decision]) -> None:
    assert "only candidate for fact" in choose([make_candidate("a")]).reason


def test_a_pin_is_called_so(make_candidate: Make, choose: Callable[..., Decision]) -> None:
    decision = choose([make_candidate("a"), make_candidate("b")], pinned="b")
    assert decision.reason.startswith("b was asked for by name")


def test_a_price_beyond_any_expertise_is_said_to_be(
    make_candidate: Make, choose: Callable[..., Decision]
) -> None:
    decision = choose([make_candidate("a", prior={"*": 0.9}), make_candidate("b", est_run_s=90.0)])
    assert "no amount of expertise would have made b win" in decision.reason


def test_close_figures_are_told_apart(make_candidate: Make, choose: Callable[..., Decision]) -> None:
    decision = choose([make_candidate("a", prior={"*": 0.5004}), make_candidate("b")])
    assert "(0.4549 against 0.4545)" in decision.reason


runs = st.floats(0.1, 30.0)
priors = st.floats(0.03, 0.97)
forms = st.sampled_from(["product", "additive"])
dials = st.floats(0.1, 0.99)


def pair(
    make_candidate: Make, expertise: tuple[float, float], run: tuple[float, float], hot: tuple[bool, bool]
) -> list[Candidate]:
    return [
        make_candidate(name, prior={"*": e}, est_run_s=r, resident=h)
        for name, e, r, h in zip("ab", expertise, run, hot, strict=True)
    ]


def loser_of(decision: Decision) -> tuple[CandidateScore, float, Rule]:
    """The second, the permission it had to reach, and the rule."""
    first, second = decision.candidates
    assert decision.rule is not None
    return second, first.permission, decision.rule


@given(
    expertise=st.tuples(priors, priors),
    run=st.tuples(runs, runs),
    hot=st.tuples(st.booleans(), st.booleans()),
    form=forms,
    dial=dials,
)
def test_the_expertise_to_win_is_where_the_choice_turns(
    expertise: tuple[float, float],
    run: tuple[float, float],
    hot: tuple[bool, bool],
    form: Form,
    dial: float,
    make_candidate: Make,
    choose: Callable[..., Decision],
) -> None:
    candidates = pair(make_candidate, expertise, run, hot)
    second, target, rule = loser_of(choose(candidates, form=form, dial=dial))
    turn = expertise_to_win(second, target, rule)
    assert turn >= second.expertise - 1e-9
    for value, wins in ((turn + 1e-4, True), (turn - 1e-4, False)):
        if 0.02 < value < 0.98:  # no belief starts beyond
            changed = [replace(c, prior={"*": value}) if c.name == second.name else c for c in candidates]
            assert (choose(changed, form=form, dial=dial).chosen == second.name) is wins


@given(
    expertise=st.tuples(priors, priors),
    run=st.tuples(runs, runs),
    hot=st.tuples(st.booleans(), st.booleans()),
    form=forms,
    dial=dials,
)
def test_the_price_to_win_is_where_the_choice_turns(
    expertise: tuple[float, float],
    run: tuple[float, float],
    hot: tuple[bool, bool],
    form: Form,
    dial: float,
    make_candidate: Make,
    choose: Callable[..., Decision],
) -> None:
    candidates = pair(make_candidate, expertise, run, hot)
    second, target, rule = loser_of(choose(candidates, form=form, dial=dial))
    turn = price_to_win(second, target, rule)
    assert turn <= second.price + 1e-6
    step = 1e-4 * rule.scale
    for value, wins in ((turn - step, True), (turn + step, False)):
        if value >= 0.0:
            changed = [replace(c, est_run_s=value) if c.name == second.name else c for c in candidates]
            assert (choose(changed, form=form, dial=dial).chosen == second.name) is wins
    if turn < 0.0:  # not even for nothing
        changed = [replace(c, est_run_s=0.0) if c.name == second.name else c for c in candidates]
        assert choose(changed, form=form, dial=dial).chosen != second.name


@given(expertise=st.tuples(priors, priors), run=st.tuples(runs, runs))
def test_the_sentence_names_the_expertise_to_win(
    expertise: tuple[float, float],
    run: tuple[float, float],
    make_candidate: Make,
    choose: Callable[..., Decision],
) -> None:
    decision = choose(pair(make_candidate, expertise, run, (False, False)))
    second, target, rule = loser_of(decision)
    turn = expertise_to_win(second, target, rule)
    assume(abs(turn - 1.0) > 0.01)
    assume(second.permission < target)
    found = re.search(
        rf"with expertise above (\d\.\d\d), {second.name} would have been chosen", decision.reason
    )
    assert (found is not None) is (turn < 1.0)
    if found is not None:
        assert float(found[1]) == pytest.approx(turn, abs=0.0051)


def test_where_price_does_not_matter_no_price_wins(
    make_candidate: Make, choose: Callable[..., Decision]
) -> None:
    for form in ("product", "additive"):
        candidates = [make_candidate("a", prior={"*": 0.8}), make_candidate("b", prior={"*": 0.6})]
        second, target, rule = loser_of(choose(candidates, form=form, dial=1.0))
        assert price_to_win(second, target, rule) == -math.inf


def test_a_target_of_nothing_is_reached_at_any_price(
    make_candidate: Make, choose: Callable[..., Decision]
) -> None:
    second, _, rule = loser_of(choose([make_candidate("a"), make_candidate("b", est_run_s=2.0)]))
    assert price_to_win(second, 0.0, rule) == math.inf


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("explore", "b is tried instead of a, to learn"),
        ("light", "b instead of a: a close race"),
        ("relative", "b instead of its relative a, which is not trusted at fact"),
    ],
)
def test_what_was_chosen_against_the_rule_is_said_so(
    mode: Any, says: str, make_candidate: Make, choose: Callable[..., Decision]
) -> None:
    decision = choose([make_candidate("a"), make_candidate("b", est_run_s=2.0)])
    first, second = decision.candidates
    assert decision.rule is not None
    said = reason((first, second), second, mode, "fact", decision.rule)
    assert says in said
    assert "trying costs 1.0 ATP more" in said or mode != "explore"
