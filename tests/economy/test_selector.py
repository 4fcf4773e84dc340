"""Who does the work: the rule's winner, or another for a reason that is stated."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.context import Codebook, Context, View
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.selector import CLOSE, RECORDED, TRUSTED, Selector
from sage.economy.trust import TrustBook
from sage.errors import ContextTooLong, ModelNotFound, NoCandidate, SageError
from sage.types import Candidate, Decision, Form, Outcome, PriceUnit, Situation

Make = Callable[..., Candidate]
MakeBook = Callable[..., TrustBook]
Choose = Callable[..., Decision]

PLENTY = Limits(atp=100.0, capacity=1000.0, memory_bytes=1_000_000_000)
EXPLORING = Limits(atp=100.0, capacity=1000.0, memory_bytes=1_000_000_000, explore_atp=5.0)


@pytest.fixture(scope="session")
def choose(
    make_situation: Callable[..., Situation], make_book: MakeBook, place: Callable[..., Context]
) -> Choose:
    """Choose, without anything learned unless a book is given."""

    def choose(
        candidates: Sequence[Candidate] | Pool,
        *,
        situation: Situation | None = None,
        trust: TrustBook | None = None,
        hot_bonus: float = 1.2,
        form: Form = "product",
        unit: PriceUnit = "atp",
        **how: Any,
    ) -> Decision:
        pool = candidates if isinstance(candidates, Pool) else Pool(candidates)
        selector = Selector(hot_bonus=hot_bonus, price_scale=10.0, form=form, unit=unit)
        book = make_book() if trust is None else trust
        how = {"limits": PLENTY, "now": 0.0, **how}
        return selector.choose(situation or make_situation(), how.pop("at", place()), pool, book, **how)

    return choose


def many(make_candidate: Make, count: int, **common: Any) -> list[Candidate]:
    """Candidates in any order, the more expert the higher their number."""
    made = [make_candidate(f"m{i:04}", prior={"*": 0.1 + 0.8 * i / count}, **common) for i in range(count)]
    random.Random(3).shuffle(made)  # noqa: S311
    return made


# The rule


@pytest.mark.parametrize(("cold_expertise", "winner"), [(0.59, "hot"), (0.61, "cold")])
def test_the_loaded_one_wins_a_close_race_and_no_other(
    cold_expertise: float, winner: str, make_candidate: Make, choose: Choose
) -> None:
    hot = make_candidate("hot", resident=True)  # expertise 0.5, so the hysteresis ends at 0.6
    cold = make_candidate("cold", prior={"*": cold_expertise})
    assert choose([hot, cold]).chosen == winner
    assert choose([hot, cold], hot_bonus=1.0).chosen == "cold"


def test_ties_go_by_price_and_then_to_the_first(make_candidate: Make, choose: Choose) -> None:
    same = [make_candidate(name) for name in ("c", "a", "b")]
    assert [s.name for s in choose(same).candidates] == ["c", "a", "b"]
    dear = [make_candidate("a", est_run_s=9.0), make_candidate("b", est_run_s=1.0)]
    assert choose(dear, dial=1.0).chosen == "b"


@pytest.mark.parametrize("form", ["product", "additive"])
def test_the_dial_goes_from_the_cheap_to_the_best(form: Form, make_candidate: Make, choose: Choose) -> None:
    candidates = [
        make_candidate("small", prior={"*": 0.4}, est_run_s=0.1),
        make_candidate("middle", prior={"*": 0.7}, est_run_s=2.0),
        make_candidate("large", prior={"*": 0.9}, est_run_s=40.0),
    ]
    assert [choose(candidates, form=form, dial=dial).chosen for dial in (0.0, 0.5, 1.0)] == [
        "small",
        "middle",
        "large",
    ]


def test_price_is_counted_in_the_unit_asked_for(make_candidate: Make, choose: Choose) -> None:
    a = make_candidate("a", est_run_s=1.0, est_usd=9.0, est_tokens=500.0)
    b = make_candidate("b", est_run_s=9.0, est_usd=1.0, est_tokens=100.0)
    for unit, winner, price in (
        ("atp", "a", 1.0),
        ("seconds", "a", 1.0),
        ("usd", "b", 1.0),
        ("tokens", "b", 100.0),
    ):
        decision = choose([a, b], unit=unit)
        assert decision.chosen == winner
        assert decision.candidates[0].price == price
        assert decision.rule is not None
        assert decision.rule.unit == unit


def test_what_was_learned_decides_over_the_card(
    make_candidate: Make,
    make_book: MakeBook,
    told: Callable[..., Outcome],
    place: Callable[..., Context],
    choose: Choose,
) -> None:
    trust = make_book()
    for number in range(30):
        trust.observe(told(0.0, candidate="vain"), place())
        trust.observe(told(float(number % 3 > 0), candidate="honest"), place())
    candidates = [make_candidate("vain", prior={"*": 0.9}), make_candidate("honest")]
    decision = choose(candidates, trust=trust)
    assert decision.chosen == "honest"
    assert [s.evidence for s in decision.candidates] == pytest.approx([30.0, 30.0], rel=1e-4)
    assert decision.rule is not None
    assert decision.rule.outcomes == pytest.approx(60.0)


def test_a_context_of_another_codebook_is_refused(make_candidate: Make, choose: Choose) -> None:
    elsewhere = Codebook([View(name="kind", weight=1.0, size=3)]).place({}, {"kind": 0})
    with pytest.raises(ValueError, match="codebook"):
        choose([make_candidate("a")], at=elsewhere)


specs = st.lists(
    st.tuples(
        st.sampled_from([0.2, 0.5, 0.5001, 0.9]),
        st.sampled_from([1.0, 2.0, 150.0, math.nan]),
        st.booleans(),
        st.sampled_from([5, 2048]),
    ),
    min_size=1,
    max_size=14,
)


@given(specs=specs, data=st.data())
def test_the_order_of_the_candidates_does_not_matter(
    specs: list[tuple[float, float, bool, int]], data: st.DataObject, make_candidate: Make, choose: Choose
) -> None:
    candidates = [  # tiny differences, so that no two are worth exactly the same
        make_candidate(
            f"m{i}", prior={"*": prior + i * 1e-7}, est_run_s=run, resident=hot, context_length=context
        )
        for i, (prior, run, hot, context) in enumerate(specs)
    ]

    def outcome(pool: Sequence[Candidate]) -> object:
        try:
            return choose(pool)
        except SageError as error:
            return type(error)

    decision = outcome(candidates)
    assert decision == outcome(data.draw(st.permutations(candidates)))
    if isinstance(decision, Decision):
        ranked = [s.permission for s in decision.candidates]
        assert ranked == sorted(ranked, reverse=True)
        shown = {s.name for s in decision.candidates}
        assert shown.isdisjoint(decision.excluded)
        assert len(shown) + decision.others + len(decision.excluded) == len(candidates)


# The record


def test_of_a_thousand_candidates_the_best_are_recorded(make_candidate: Make, choose: Choose) -> None:
    decision = choose(many(make_candidate, 1000))
    assert [s.name for s in decision.candidates] == [f"m{i:04}" for i in range(999, 991, -1)]
    assert (decision.chosen, decision.others) == ("m0999", 992)
    assert RECORDED == 8


def test_the_record_holds_the_factors_of_the_rule(make_candidate: Make, choose: Choose) -> None:
    cold = make_candidate("cold", prior={"*": 0.6}, est_load_s=4.0, load_bytes=2**31, est_run_s=3.0)
    decision = choose([cold, make_candidate("hot", resident=True)], dial=0.5)
    rule = decision.rule
    assert rule is not None
    assert (rule.form, rule.dial, rule.scale, rule.hot_bonus, rule.state) == (
        "product",
        0.5,
        10.0,
        1.2,
        "WAKE",
    )
    for score in decision.candidates:
        assert score.permission == pytest.approx(score.expertise * score.cheapness * score.persistence)
        assert score.cheapness == pytest.approx(1.0 / (1.0 + score.price / rule.scale))
    score = next(s for s in decision.candidates if s.name == "cold")
    assert (score.est_atp, score.est_load_s, score.est_run_s, score.resident) == (7.0, 4.0, 3.0, False)


# Who may


def test_nobody_is_a_typed_error(make_candidate: Make, choose: Choose) -> None:
    with pytest.raises(NoCandidate, match="no model to choose from"):
        choose([])
    with pytest.raises(ContextTooLong, match=r"a: .*b: "):
        choose([make_candidate("a", context_length=1), make_candidate("b", context_length=1)])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_price_that_is_none_removes_its_candidate_by_name(
    bad: float, make_candidate: Make, choose: Choose
) -> None:
    decision = choose([make_candidate("good", prior={"*": 0.1}), make_candidate("bad", est_run_s=bad)])
    assert decision.chosen == "good"
    assert "not a number" in decision.excluded["bad"]
    with pytest.raises(NoCandidate, match=r"bad: its estimated price is not a number"):
        choose([make_candidate("bad", est_run_s=bad)])


@pytest.mark.parametrize("ceiling", ["max_atp", "max_usd", "deadline_s"])
def test_a_ceiling_holds_whatever_the_dial(
    ceiling: str, make_candidate: Make, make_situation: Callable[..., Situation], choose: Choose
) -> None:
    best = make_candidate("best", prior={"*": 0.9}, est_run_s=3.0, est_usd=3.0)
    cheap = make_candidate("cheap", prior={"*": 0.1}, est_run_s=1.0, est_usd=1.0)
    for limit, winner in ((3.0, "best"), (2.9, "cheap")):
        decision = choose([best, cheap], situation=make_situation(**{ceiling: limit}), dial=1.0)
        assert decision.chosen == winner
        assert list(decision.excluded) == ([] if winner == "best" else ["best"])


def test_a_pin_wins_and_keeps_the_others_as_excluded(make_candidate: Make, choose: Choose) -> None:
    candidates = [
        make_candidate("best", prior={"*": 0.9}),
        make_candidate("worst", prior={"*": 0.1}),
        make_candidate("long", context_length=1),
    ]
    decision = choose(candidates, pinned="worst", random=np.random.default_rng(0), limits=EXPLORING)
    assert (decision.chosen, decision.mode, decision.others) == ("worst", "pinned", 0)
    assert [score.name for score in decision.candidates] == ["worst"]
    assert decision.excluded["best"] == "another model was asked for"
    assert "context" in decision.excluded["long"]
    with pytest.raises(ContextTooLong, match="long cannot do this"):
        choose(candidates, pinned="long")


def test_an_unknown_pin_is_not_found(make_candidate: Make, choose: Choose) -> None:
    with pytest.raises(ModelNotFound, match=r"'smol'.*Did you mean 'smollm'\?") as caught:
        choose([make_candidate("smollm"), make_candidate("other")], pinned="smol")
    assert caught.value.exit_code == 3


# Overrides


def heavy_and_light(make_candidate: Make, behind: float, **light: Any) -> list[Candidate]:
    return [
        make_candidate("heavy", prior={"*": 0.8}, memory_bytes=900),
        make_candidate("light", prior={"*": 0.8 * (1.0 - behind)}, **{"memory_bytes": 100, **light}),
    ]


def test_awake_a_lighter_one_wins_a_close_race(make_candidate: Make, choose: Choose) -> None:
    decision = choose(heavy_and_light(make_candidate, 0.9 * CLOSE))
    assert (decision.chosen, decision.mode, decision.instead_of) == ("light", "light", "heavy")
    assert decision.candidates[0].name == "heavy"  # which the rule ranks first
    assert "light instead of heavy: a close race" in decision.reason


@pytest.mark.parametrize("state", ["FOCUS", "REST", "DREAM", "CRISIS"])
def test_only_awake(state: str, make_candidate: Make, choose: Choose) -> None:
    decision = choose(heavy_and_light(make_candidate, 0.9 * CLOSE), state=state)
    assert (decision.chosen, decision.mode, decision.instead_of) == ("heavy", "permission", "")


@pytest.mark.parametrize(
    ("behind", "light"),
    [(1.1 * CLOSE, {}), (0.0001, {"memory_bytes": 900}), (0.0001, {"est_run_s": 1.001})],
    ids=["far-behind", "as-heavy", "dearer"],
)
def test_only_a_lighter_one_that_is_close_and_no_dearer(
    behind: float, light: dict[str, Any], make_candidate: Make, choose: Choose
) -> None:
    assert choose(heavy_and_light(make_candidate, behind, **light)).chosen == "heavy"


def family(make_candidate: Make, relative: float, **changes: Any) -> list[Candidate]:
    """The rule's winner is not trusted, it is only cheap; so is a relative, which is dear."""
    return [
        make_candidate("cheap", prior={"*": TRUSTED - 0.01}, family="f"),
        make_candidate("relative", prior={"*": relative}, est_run_s=60.0, **{"family": "f", **changes}),
        make_candidate("stranger", prior={"*": 0.9}, est_run_s=90.0, family="g"),
    ]


def test_a_winner_that_is_not_trusted_gives_way_to_a_trusted_relative(
    make_candidate: Make, choose: Choose
) -> None:
    decision = choose(family(make_candidate, TRUSTED + 0.1))
    assert (decision.chosen, decision.mode, decision.instead_of) == ("relative", "relative", "cheap")
    assert "relative instead of its relative cheap, which is not trusted at fact" in decision.reason


@pytest.mark.parametrize(
    ("relative", "changes"),
    [(TRUSTED - 0.001, {}), (0.9, {"family": "h"}), (0.9, {"context_length": 1})],
    ids=["no-better", "no-relative", "may-not"],
)
def test_only_to_one_that_may_is_related_and_trusted(
    relative: float, changes: dict[str, Any], make_candidate: Make, choose: Choose
) -> None:
    assert choose(family(make_candidate, relative, **changes)).chosen == "cheap"


def test_nobody_without_a_family_has_relatives(make_candidate: Make, choose: Choose) -> None:
    candidates = [
        make_candidate("cheap", prior={"*": 0.2}),
        make_candidate("good", prior={"*": 0.9}, est_run_s=60.0),
    ]
    assert choose(candidates).chosen == "cheap"
