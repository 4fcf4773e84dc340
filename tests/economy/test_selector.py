"""Who may do the work, who does it, and what is said when nobody can."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.selector import Limits, Selector
from sage.economy.trust import TrustBook
from sage.errors import (
    BudgetSpent,
    ContextTooLong,
    DeadlineExceeded,
    DoesNotFit,
    ModelNotFound,
    NoCandidate,
    SageError,
    UnsafeFile,
    WeightsMissing,
)
from sage.types import Candidate, Decision, Outcome, Situation

Make = Callable[..., Candidate]
MakeSituation = Callable[..., Situation]

PLENTY = Limits(atp=100.0, capacity=1000.0, memory_bytes=1_000_000_000)


def choose(
    situation: Situation,
    candidates: list[Candidate],
    *,
    limits: Limits = PLENTY,
    pinned: str | None = None,
    hot_bonus: float = 1.2,
) -> Decision:
    """Choose without anything learned."""
    trust = TrustBook(prior_strength=4.0, half_life_s=1e6)
    selector = Selector(hot_bonus=hot_bonus, price_scale=10.0)
    return selector.choose(situation, candidates, trust, limits=limits, now=0.0, pinned=pinned)


# What removes a candidate: (what is wrong with it, the error, its exit code, what the message must name).
FILTERS: dict[str, tuple[dict[str, object], type[SageError], int, str]] = {
    "weights": ({"unavailable": WeightsMissing("its weights are not here")}, WeightsMissing, 3, "not here"),
    "unsafe": ({"unavailable": UnsafeFile("bad header")}, UnsafeFile, 5, "bad header"),
    "capability": ({"capabilities": frozenset({"image"})}, NoCandidate, 4, "cannot do text"),
    "context": ({"context_length": 10}, ContextTooLong, 2, "about 10 tokens, its context holds 10"),
    "memory": ({"memory_bytes": 1_500_000_000}, DoesNotFit, 4, "needs 1500 MB of memory, 1000 MB are free"),
    "atp": ({"est_run_s": 100.5}, BudgetSpent, 4, "about 100.5 ATP, 100.0 are left"),
    "deadline": ({"est_run_s": 50.0}, DeadlineExceeded, 4, "about 50.0 s, the deadline is 20.0 s"),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_removes_everyone_names_the_error(
    name: str, make_candidate: Make, make_situation: MakeSituation
) -> None:
    wrong, error, exit_code, says = FILTERS[name]
    with pytest.raises(error) as caught:
        choose(make_situation(deadline_s=20.0), [make_candidate("a", **wrong), make_candidate("b", **wrong)])
    assert type(caught.value) is error
    assert caught.value.exit_code == exit_code
    assert caught.value.message.count(says) == 2
    assert "a: " in caught.value.message
    assert "b: " in caught.value.message


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_removes_only_whom_it_must(
    name: str, make_candidate: Make, make_situation: MakeSituation
) -> None:
    wrong, _, _, says = FILTERS[name]
    far_better = make_candidate("a", prior={"*": 0.95}, **wrong)
    decision = choose(make_situation(deadline_s=20.0), [far_better, make_candidate("b", prior={"*": 0.1})])
    assert decision.chosen == "b"
    assert [score.name for score in decision.candidates] == ["b"]
    assert says in decision.excluded["a"]


@pytest.mark.parametrize(
    "fits",
    [{"context_length": 11}, {"memory_bytes": 1_000_000_000}, {"est_run_s": 20.0}],
    ids=["context", "memory", "deadline"],
)
def test_what_just_fits_stays(
    fits: dict[str, object], make_candidate: Make, make_situation: MakeSituation
) -> None:
    assert choose(make_situation(deadline_s=20.0), [make_candidate("a", **fits)]).chosen == "a"


def test_the_last_atp_may_be_spent(make_candidate: Make, make_situation: MakeSituation) -> None:
    limits = Limits(atp=1.0, capacity=1000.0, memory_bytes=10**9)
    assert choose(make_situation(), [make_candidate("a", est_run_s=1.0)], limits=limits).chosen == "a"


def test_what_is_loaded_needs_no_more_memory(make_candidate: Make, make_situation: MakeSituation) -> None:
    limits = Limits(atp=100.0, capacity=1000.0, memory_bytes=0)
    loaded = make_candidate("a", resident=True, memory_bytes=10**12)
    assert choose(make_situation(), [loaded], limits=limits).chosen == "a"


def test_the_price_of_a_load_is_part_of_it(make_candidate: Make, make_situation: MakeSituation) -> None:
    slow = make_candidate("a", est_load_s=4.0, load_bytes=2**31, est_run_s=3.0)
    big = make_candidate("b", est_load_s=1.0, load_bytes=2**33, est_run_s=3.0)
    scores = {s.name: s for s in choose(make_situation(), [slow, big]).candidates}
    assert scores["a"].est_atp == pytest.approx(7.0)  # 4 s are more than 2 GiB
    assert scores["b"].est_atp == pytest.approx(11.0)  # 8 GiB are more than 1 s
    assert scores["a"].cheapness == pytest.approx(10 / 17)


@pytest.mark.parametrize("seed", range(3))
def test_mixed_causes_list_every_candidate(
    seed: int, make_candidate: Make, make_situation: MakeSituation
) -> None:
    candidates = [make_candidate(name, **wrong) for name, (wrong, *_) in FILTERS.items()]
    random.Random(seed).shuffle(candidates)  # noqa: S311
    with pytest.raises(NoCandidate) as caught:
        choose(make_situation(deadline_s=20.0), candidates)
    for name, (_, _, _, says) in FILTERS.items():
        assert re.search(rf"{name}: [^;]*{re.escape(says)}", caught.value.message)


def test_an_empty_pool_says_how_to_fill_it(make_situation: MakeSituation) -> None:
    with pytest.raises(NoCandidate, match="no model to choose from") as caught:
        choose(make_situation(), [])
    assert caught.value.mend == "sage models pull"


def test_an_unknown_pin_is_not_found(make_candidate: Make, make_situation: MakeSituation) -> None:
    with pytest.raises(ModelNotFound, match=r"'smol'.*Did you mean 'smollm'\?") as caught:
        choose(make_situation(), [make_candidate("smollm"), make_candidate("other")], pinned="smol")
    assert caught.value.exit_code == 3


def test_a_pin_wins_and_keeps_the_others_as_excluded(
    make_candidate: Make, make_situation: MakeSituation
) -> None:
    candidates = [
        make_candidate("best", prior={"*": 0.9}),
        make_candidate("worst", prior={"*": 0.1}),
        make_candidate("long", context_length=1),
    ]
    decision = choose(make_situation(), candidates, pinned="worst")
    assert (decision.chosen, decision.mode) == ("worst", "pinned")
    assert [score.name for score in decision.candidates] == ["worst"]
    assert decision.excluded["best"] == "another model was asked for"
    assert "context" in decision.excluded["long"]
    assert "worst was asked for by name" in decision.reason


def test_a_pin_that_cannot_gives_its_own_error(make_candidate: Make, make_situation: MakeSituation) -> None:
    candidates = [make_candidate("good"), make_candidate("long", context_length=1)]
    with pytest.raises(ContextTooLong, match="long: ") as caught:
        choose(make_situation(), candidates, pinned="long")
    assert "good" not in caught.value.message
    absent = make_candidate("gone", unavailable=WeightsMissing("not here", mend="sage models pull gone"))
    with pytest.raises(WeightsMissing) as missing:
        choose(make_situation(), [*candidates, absent], pinned="gone")
    assert missing.value.mend == "sage models pull gone"


@pytest.mark.parametrize(("cold_expertise", "winner"), [(0.59, "hot"), (0.61, "cold")])
def test_the_loaded_one_wins_a_close_race_and_no_other(
    cold_expertise: float, winner: str, make_candidate: Make, make_situation: MakeSituation
) -> None:
    hot = make_candidate("hot", resident=True)  # expertise 0.5, so the hysteresis ends at 0.6
    cold = make_candidate("cold", prior={"*": cold_expertise})
    assert choose(make_situation(), [hot, cold]).chosen == winner
    assert choose(make_situation(), [hot, cold], hot_bonus=1.0).chosen == "cold"


def test_ties_go_by_price_and_then_by_name(make_candidate: Make, make_situation: MakeSituation) -> None:
    same = [make_candidate(name) for name in ("c", "a", "b")]
    assert [s.name for s in choose(make_situation(), same).candidates] == ["a", "b", "c"]
    useless = [make_candidate("a", est_run_s=9.0), make_candidate("b", est_run_s=1.0)]
    cheap = choose(make_situation(), useless, hot_bonus=1.0)
    assert cheap.chosen == "b"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"prior": {"*": 0.9}}, {"prior": {"*": 0.3}}, "trusted more at fact (0.90 against 0.30)"),
        ({"est_run_s": 1.0}, {"est_run_s": 20.0}, "cheaper (1.0 against 20.0 ATP)"),
        ({"resident": True}, {}, "already loaded"),
    ],
    ids=["expertise", "price", "residency"],
)
def test_the_reason_names_what_decided(
    first: dict[str, object],
    second: dict[str, object],
    says: str,
    make_candidate: Make,
    make_situation: MakeSituation,
) -> None:
    decision = choose(make_situation(), [make_candidate("b", **second), make_candidate("a", **first)])
    assert decision.chosen == "a"
    assert decision.reason.startswith("a before b (")
    assert says in decision.reason


def test_the_only_candidate_is_called_so(make_candidate: Make, make_situation: MakeSituation) -> None:
    assert "only candidate for fact" in choose(make_situation(), [make_candidate("a")]).reason


def test_a_price_beyond_any_expertise_is_said_to_be(
    make_candidate: Make, make_situation: MakeSituation
) -> None:
    candidates = [make_candidate("a", prior={"*": 0.9}), make_candidate("b", est_run_s=90.0)]
    assert "no amount of expertise would have made b win" in choose(make_situation(), candidates).reason


@given(
    first=st.floats(0.05, 0.9),
    second=st.floats(0.05, 0.9),
    run=st.tuples(st.floats(0.1, 30.0), st.floats(0.1, 30.0)),
    hot=st.booleans(),
)
def test_a_bit_more_expertise_than_named_does_turn_it(
    first: float,
    second: float,
    run: tuple[float, float],
    hot: bool,
    make_candidate: Make,
    make_situation: MakeSituation,
) -> None:
    situation = make_situation()
    candidates = [
        make_candidate("a", prior={"fact": first}, est_run_s=run[0], resident=hot),
        make_candidate("b", prior={"fact": second}, est_run_s=run[1]),
    ]
    decision = choose(situation, candidates)
    loser = decision.candidates[1].name
    found = re.search(rf"with expertise above (\d\.\d\d), {loser} would have been chosen", decision.reason)
    if found is None:
        assert f"no amount of expertise would have made {loser} win" in decision.reason
        return
    turn = float(found[1])  # two decimals

    def with_expertise(value: float) -> str:
        changed = [replace(c, prior={"fact": value}) if c.name == loser else c for c in candidates]
        return choose(situation, changed).chosen

    if turn + 0.006 < 0.98:  # no belief starts above that
        assert with_expertise(turn + 0.006) == loser
    if turn - 0.006 > 0.02:
        assert with_expertise(turn - 0.006) != loser


def test_a_thousand_candidates(make_candidate: Make, make_situation: MakeSituation) -> None:
    candidates = [make_candidate(f"m{i:04}", prior={"*": 0.1 + i * 8e-4}) for i in range(1000)]
    random.Random(3).shuffle(candidates)  # noqa: S311
    decision = choose(make_situation(), candidates)
    assert [s.name for s in decision.candidates] == [f"m{i:04}" for i in reversed(range(1000))]


specs = st.lists(
    st.tuples(
        st.sampled_from([0.2, 0.5, 0.5001, 0.9]),
        st.sampled_from([1.0, 2.0, 150.0]),
        st.booleans(),
        st.sampled_from([5, 2048]),
    ),
    min_size=1,
    max_size=8,
)


@given(specs=specs, data=st.data())
def test_the_order_of_the_candidates_does_not_matter(
    specs: list[tuple[float, float, bool, int]],
    data: st.DataObject,
    make_candidate: Make,
    make_situation: MakeSituation,
) -> None:
    candidates = [
        make_candidate(f"m{i}", prior={"*": prior}, est_run_s=run, resident=hot, context_length=context)
        for i, (prior, run, hot, context) in enumerate(specs)
    ]

    def outcome(pool: list[Candidate]) -> object:
        try:
            return choose(make_situation(), pool)
        except SageError as error:
            return type(error)

    shuffled = data.draw(st.permutations(candidates))
    assert outcome(candidates) == outcome(shuffled)
    decision = outcome(candidates)
    if isinstance(decision, Decision):
        ranked = [s.permission for s in decision.candidates]
        assert ranked == sorted(ranked, reverse=True)
        assert {s.name for s in decision.candidates} | set(decision.excluded) == {c.name for c in candidates}


def test_trust_learned_at_another_kind_ranks_less_than_at_this_one(
    make_candidate: Make, make_situation: MakeSituation
) -> None:
    trust = TrustBook(prior_strength=4.0, half_life_s=1e6)

    for number in range(3):
        for who, kind in (("here", "fact"), ("there", "code")):
            trust.observe(
                Outcome(
                    event_id=f"{who}{number}",
                    turn_id="t",
                    candidate=who,
                    kind=kind,
                    quality=1.0,
                    source="user",
                    at=0.0,
                )
            )
    candidates = [make_candidate(name) for name in ("never", "there", "here")]
    decision = Selector(hot_bonus=1.2, price_scale=10.0).choose(
        make_situation(), candidates, trust, limits=PLENTY, now=0.0
    )
    assert [s.name for s in decision.candidates] == ["here", "there", "never"]
    assert [s.evidence for s in decision.candidates] == [3.0, 0.0, 0.0]
