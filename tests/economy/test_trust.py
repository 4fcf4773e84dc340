"""Trust follows what came of the work, and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.trust import SOURCE_WEIGHT, TrustBook, TrustRecord
from sage.types import Outcome, OutcomeSource

DAY = 86_400.0
HALF_LIFE = 30 * DAY
PRIOR = {"fact": 0.7, "math": 0.2, "*": 0.4}
KINDS = ("fact", "math", "chat")


def book(records: dict[tuple[str, str], TrustRecord] | None = None) -> TrustBook:
    return TrustBook(records, prior_strength=4.0, half_life_s=HALF_LIFE)


def told(
    quality: float,
    *,
    who: str = "a",
    kind: str = "fact",
    source: OutcomeSource = "verifier",
    at: float = 0.0,
) -> Outcome:
    return Outcome(event_id="e", turn_id="t", candidate=who, kind=kind, quality=quality, source=source, at=at)


def mean(trust: TrustBook, kind: str = "fact", *, now: float = 0.0, who: str = "a") -> float:
    return trust.belief(who, kind, PRIOR, now).mean


def test_without_evidence_it_is_the_card_s_prior() -> None:
    trust = book()
    assert mean(trust, "fact") == pytest.approx(0.7)
    assert mean(trust, "chat") == pytest.approx(0.4)  # the card says something of any kind
    assert trust.belief("a", "chat", {}, 0.0).mean == pytest.approx(0.5)  # it says nothing at all
    assert trust.belief("a", "fact", PRIOR, 0.0).evidence == 0.0


@pytest.mark.parametrize(("figure", "start"), [(1.0, 0.98), (0.0, 0.02)])
def test_no_figure_on_a_card_is_certain(figure: float, start: float) -> None:
    belief = book().belief("a", "fact", {"fact": figure}, 0.0)
    assert belief.mean == pytest.approx(start)
    assert belief.sd > 0


def test_it_moves_towards_the_outcomes_and_is_the_weighted_mean() -> None:
    trust = book()
    trust.observe(told(0.0))
    assert mean(trust) == pytest.approx(4 * 0.7 / 5)
    for _ in range(3):
        trust.observe(told(0.0))
    assert mean(trust) == pytest.approx(4 * 0.7 / 8)
    before = mean(trust)
    trust.observe(told(1.0))
    assert before < mean(trust) < 0.7


def test_enough_evidence_outweighs_any_prior() -> None:
    trust = book()
    for _ in range(400):
        trust.observe(told(1.0, kind="math"))
    belief = trust.belief("a", "math", PRIOR, 0.0)
    assert belief.mean > 0.98
    assert belief.evidence == pytest.approx(400)


def test_more_evidence_makes_it_surer() -> None:
    few, many = book(), book()
    for trust, times in ((few, 2), (many, 50)):
        for number in range(times):
            trust.observe(told(float(number % 2)))
    assert many.belief("a", "fact", PRIOR, 0.0).sd < few.belief("a", "fact", PRIOR, 0.0).sd


def test_one_candidate_teaches_nothing_about_another() -> None:
    trust = book()
    for _ in range(10):
        trust.observe(told(0.0, who="b"))
    assert mean(trust) == pytest.approx(0.7)


def test_evidence_halves_at_the_half_life() -> None:
    trust = book()
    for _ in range(8):
        trust.observe(told(0.0))
    assert trust.belief("a", "fact", PRIOR, HALF_LIFE).evidence == pytest.approx(4.0)
    assert mean(trust, now=HALF_LIFE) == pytest.approx(0.7 / 2)
    assert mean(trust, now=100 * HALF_LIFE) == pytest.approx(0.7)


def test_new_evidence_counts_more_than_faded_evidence() -> None:
    trust = book()
    trust.observe(told(0.0, at=0.0))
    record = trust.observe(told(1.0, at=HALF_LIFE))
    assert record is not None
    assert record.weight == pytest.approx(1.5)
    assert record.quality == pytest.approx(1.0 / 1.5)


def test_a_clock_that_goes_back_fades_nothing() -> None:
    trust = book()
    for _ in range(8):
        trust.observe(told(0.0, at=1000 * DAY))
    assert trust.belief("a", "fact", PRIOR, 0.0).evidence == pytest.approx(8.0)
    record = trust.observe(told(0.0, at=5 * DAY))
    assert record is not None
    assert record.weight == pytest.approx(9.0)
    assert record.updated_at == 1000 * DAY  # nor does it fade twice when the clock is put right
    assert trust.belief("a", "fact", PRIOR, 1000 * DAY).evidence == pytest.approx(9.0)


def test_self_praise_changes_nothing() -> None:
    trust = book()
    assert trust.observe(told(1.0, source="self")) is None
    assert trust.record("a", "fact") is None
    assert mean(trust) == pytest.approx(0.7)


def test_agreement_counts_a_quarter() -> None:
    weak, strong = book(), book()
    for _ in range(4):
        weak.observe(told(0.0, source="agreement"))
    strong.observe(told(0.0, source="user"))
    assert mean(weak) == pytest.approx(mean(strong))
    assert SOURCE_WEIGHT["user"] == SOURCE_WEIGHT["verifier"] == 1.0


@pytest.mark.parametrize("quality", [math.nan, math.inf, -math.inf, 1.0001, -0.0001])
@pytest.mark.parametrize("source", ["verifier", "self"])
def test_a_quality_that_is_none_is_refused(quality: float, source: OutcomeSource) -> None:
    trust = book()
    with pytest.raises(ValueError, match="quality"):
        trust.observe(told(quality, source=source))
    assert trust.record("a", "fact") is None


@pytest.mark.parametrize(("quality", "direction"), [(1.0, 1), (0.0, -1)])
def test_surprise_at_another_kind_shifts_the_start(quality: float, direction: int) -> None:
    trust = book()
    for _ in range(6):
        trust.observe(told(quality, kind="math"))
    shift = mean(trust, "fact") - 0.7
    assert shift * direction > 0
    # 6 outcomes, each 0.8 (or 0.2) off the card, against 4 x 4 outcomes that say "as on the card".
    assert shift == pytest.approx(6 * (quality - 0.2) / (6 + 16))


def test_what_was_expected_shifts_nothing() -> None:
    trust = book()
    for number in range(10):
        trust.observe(told(float(number < 7)))  # 0.7 of them, as the card says
    assert mean(trust, "math") == pytest.approx(0.2)
    assert mean(trust, "chat") == pytest.approx(0.4)


def test_right_answers_at_an_easy_kind_do_not_hide_failures_elsewhere() -> None:
    trust = book()
    prior = {"fact": 0.95, "math": 0.3}
    for _ in range(50):
        trust.observe(told(1.0))
    assert trust.belief("a", "math", prior, 0.0).mean < 0.35


def test_own_evidence_counts_more_than_that_of_other_kinds() -> None:
    own, other = book(), book()
    for _ in range(4):
        own.observe(told(0.0))
        other.observe(told(0.0, kind="chat"))
    assert mean(own) < mean(other) < 0.7


outcomes = st.builds(
    told,
    st.floats(0.0, 1.0),
    who=st.sampled_from("ab"),
    kind=st.sampled_from(KINDS),
    source=st.sampled_from(["verifier", "user", "agreement", "self"]),
    at=st.floats(-1e10, 1e10),
)


@given(
    history=st.lists(outcomes, max_size=30),
    prior=st.dictionaries(st.sampled_from([*KINDS, "*"]), st.floats(0.0, 1.0)),
    now=st.floats(-1e10, 1e10),
)
def test_belief_is_always_a_quality(history: list[Outcome], prior: dict[str, float], now: float) -> None:
    trust = book()
    for outcome in history:
        trust.observe(outcome)
    for kind in KINDS:
        belief = trust.belief("a", kind, prior, now)
        assert 0.0 <= belief.mean <= 1.0
        assert 0.0 <= belief.sd <= 0.5
        assert 0.0 <= belief.evidence <= len(history)


@given(start=st.lists(outcomes, max_size=10), quality=st.floats(0.0, 1.0))
def test_one_more_outcome_never_moves_it_away(start: list[Outcome], quality: float) -> None:
    trust = book()
    for outcome in start:
        trust.observe(outcome)
    now = max((o.at for o in start), default=0.0)
    before = mean(trust, now=now)
    trust.observe(told(quality, at=now))
    after = mean(trust, now=now)
    assert abs(after - quality) <= abs(before - quality) + 1e-9


def test_the_size_is_candidates_times_kinds_however_many_outcomes() -> None:
    trust = book()
    pairs: dict[tuple[str, str], TrustRecord] = {}
    for number in range(5_000):
        outcome = told(
            (number % 11) / 10, who="abc"[number % 3], kind=KINDS[number % 7 % 3], at=float(number)
        )
        record = trust.observe(outcome)
        assert record is not None
        pairs[outcome.candidate, outcome.kind] = record
    stored = list(trust._records.values())
    assert sum(len(kinds) for kinds in stored) == len(pairs) == 9
    # What was stored is all there is: a book opened from it believes the same.
    again = book(pairs)
    assert all(mean(again, k, now=5000.0, who=w) == mean(trust, k, now=5000.0, who=w) for w, k in pairs)
