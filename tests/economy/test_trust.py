"""Trust follows what came of the work, fades, and takes nothing that is not an outcome."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.belief import Beliefs
from sage.economy.context import Codebook, Context, View
from sage.economy.trust import RECENT, SOURCE_WEIGHT, TrustBook, TrustRow
from sage.types import Outcome

Make = Callable[..., TrustBook]
Tell = Callable[..., Outcome]
Place = Callable[..., Context]

# What an outcome may be: quality, candidate, kind, topic.
words = st.tuples(
    st.floats(0.0, 1.0), st.sampled_from("ab"), st.sampled_from(["fact", "math"]), st.integers(0, 3)
)


def ask(trust: TrustBook, context: Context, *, now: float = 0.0, who: str = "ab") -> Beliefs:
    """What is believed of candidates whose cards say 0.5."""
    priors = np.full(len(who), 0.5)
    return trust.beliefs(tuple(who), context, priors=priors, shifts=0.0 * priors, now=now)


def kept(trust: TrustBook) -> list[tuple[object, ...]]:
    """Everything that a book would store."""
    return [
        (r.origin, r.candidate, r.since, r.events, r.at, r.total, r.sums.tolist(), r.weights.tolist())
        for r in trust.rows()
    ]


@given(history=st.lists(words, min_size=1, max_size=10), later=st.floats(0.0, 50.0))
def test_evidence_halves_with_each_half_life(
    history: list[tuple[float, str, str, int]], later: float, make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book(half_life=10.0)
    for quality, who, kind, topic in history:
        trust.observe(told(quality, candidate=who, kind=kind, at=3.0), place(topic, kind))
    start, then = (ask(trust, place(0), now=now) for now in (3.0, 3.0 + later))
    share = 0.5 ** (later / 10.0)
    assert ask(trust, place(), now=3.0).total.sum() == pytest.approx(len(history))
    assert ask(trust, place(), now=3.0 + later).total.sum() == pytest.approx(share * len(history))
    assert then.evidence == pytest.approx(share * start.evidence)


@given(
    history=st.lists(st.tuples(words, st.floats(-5.0, 5.0)), max_size=10),
    now=st.floats(-9.0, 9.0),
    later=st.floats(0.0, 9.0),
)
def test_reading_later_never_finds_more_evidence_and_is_never_surer(
    history: list[tuple[tuple[float, str, str, int], float]],
    now: float,
    later: float,
    make_book: Make,
    told: Tell,
    place: Place,
    codebook: Codebook,
) -> None:
    trust, topic_alone = make_book(), codebook.alone("topic", 1)
    for (quality, who, kind, topic), at in history:
        trust.observe(told(quality, candidate=who, kind=kind, at=at), place(topic, kind))
    for where in (place(1), topic_alone):
        first, second = ask(trust, where, now=now), ask(trust, where, now=now + later)
        assert (second.evidence <= first.evidence + 1e-12).all()
        assert (second.overall_variance >= first.overall_variance - 1e-12).all()
    # Of one cell: a text is between cells, and how far they are apart is forgotten too.
    assert (second.sd >= first.sd - 1e-12).all()
    assert (second.total <= first.total + 1e-12).all()
    before = kept(trust)
    ask(trust, place(1), now=now + 100.0)
    assert kept(trust) == before  # reading changes nothing


def test_when_all_has_faded_nobody_is_believed_better_than_another(
    make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book()
    for number in range(30):
        trust.observe(told(float(number % 2), candidate="ab"[number % 2]), place())
    start, end = ask(trust, place()), ask(trust, place(), now=60.0)
    assert start.mean[1] - start.mean[0] > 0.6
    assert end.mean[0] == pytest.approx(end.mean[1])
    assert end.sd == pytest.approx(ask(make_book(), place()).sd)


def test_new_evidence_counts_more_than_faded_evidence(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    for number in range(20):
        trust.observe(told(float(number >= 10), at=0.0 if number < 10 else 1.5), place())
    assert ask(trust, place(), now=1.5).mean[0] > 0.55
    assert ask(trust, place(), now=1.5).evidence[0] == pytest.approx(10 + 10 / 2**1.5, rel=1e-6)


def test_a_clock_that_is_years_ahead_once_wipes_nothing_out(
    make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book(half_life=100.0)
    for _ in range(40):
        trust.observe(told(1.0), place())
    trust.observe(told(1.0, at=1e6), place())
    assert ask(trust, place(), now=0.0).total.sum() == pytest.approx(11.0)


def test_a_clock_that_goes_back_fades_nothing(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book(half_life=100.0)
    for _ in range(8):
        trust.observe(told(0.0, at=1000.0), place())
    now, back = ask(trust, place(), now=1000.0), ask(trust, place(), now=0.0)
    assert ask(trust, place(), now=0.0).total.sum() == ask(trust, place(), now=1000.0).total.sum() == 8.0
    assert back.mean == pytest.approx(now.mean)


def test_after_a_clock_was_set_far_back_learning_goes_on(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book(half_life=100.0)
    for _ in range(8):
        trust.observe(told(0.0, at=1e6), place())
    for _ in range(8):
        trust.observe(told(1.0, at=5.0), place())
    beliefs = ask(trust, place(), now=5.0)
    assert ask(trust, place(), now=5.0).total.sum() == pytest.approx(16.0)
    assert beliefs.mean[0] == pytest.approx(0.5, abs=0.02)
    assert ask(trust, place(), now=105.0).total.sum() == pytest.approx(
        16.0
    )  # nothing fades until the time it was ahead by is over


@given(
    history=st.lists(st.tuples(words, st.floats(0.0, 1.0)), min_size=1, max_size=12),
    data=st.data(),
)
def test_within_a_half_life_the_order_of_outcomes_does_not_matter(
    history: list[tuple[tuple[float, str, str, int], float]],
    data: st.DataObject,
    make_book: Make,
    told: Tell,
    place: Place,
) -> None:
    books = make_book(), make_book()
    for trust, order in zip(books, (history, data.draw(st.permutations(history))), strict=True):
        for (quality, who, kind, topic), at in order:
            trust.observe(told(quality, candidate=who, kind=kind, at=at), place(topic, kind))
    for who in "ab":
        left, right = (trust.row(who) for trust in books)
        assert (left is None) is (right is None)
        if left is not None and right is not None:
            assert left.at == right.at
            assert left.total == pytest.approx(right.total, abs=1e-9)
            assert left.sums == pytest.approx(right.sums, abs=1e-9)
            assert left.weights == pytest.approx(right.weights, abs=1e-9)


def test_an_infinite_half_life_forgets_nothing(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book(half_life=math.inf)
    for at in (0.0, 1e12, -1e12, 5.0):
        trust.observe(told(1.0, at=at), place())
    assert ask(trust, place(), now=1e15).total.sum() == 4.0


@pytest.mark.parametrize("half_life", [0.0, -1.0, math.nan])
def test_a_half_life_that_is_none_is_refused(half_life: float, make_book: Make) -> None:
    with pytest.raises(ValueError, match="half_life must be positive"):
        make_book(half_life=half_life)


@given(
    history=st.lists(st.tuples(words, st.booleans()), max_size=10),
    praise=st.lists(st.tuples(words, st.floats(-9.0, 9.0)), min_size=1, max_size=5),
)
def test_self_praise_never_changes_anything(
    history: list[tuple[tuple[float, str, str, int], bool]],
    praise: list[tuple[tuple[float, str, str, int], float]],
    make_book: Make,
    told: Tell,
    place: Place,
) -> None:
    trust = make_book()
    for (quality, who, kind, topic), _ in history:
        trust.observe(told(quality, candidate=who, kind=kind), place(topic, kind))
    rows, beliefs = kept(trust), ask(trust, place())
    for (quality, who, kind, topic), at in praise:
        said = told(quality, candidate=who, kind=kind, source="self", at=at)
        assert trust.observe(said, place(topic, kind)) is False
    assert kept(trust) == rows
    assert ask(trust, place()).mean.tolist() == beliefs.mean.tolist()


def test_self_praise_does_not_use_up_the_event(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    trust.observe(told(1.0, event_id="e", source="self"), place())
    assert trust.observe(told(0.0, event_id="e"), place()) is True


def test_agreement_counts_a_quarter(make_book: Make, told: Tell, place: Place) -> None:
    weak, strong = make_book(), make_book()
    for _ in range(4):
        weak.observe(told(0.0, source="agreement"), place())
    strong.observe(told(0.0, source="user"), place())
    assert ask(weak, place()).evidence == pytest.approx(ask(strong, place()).evidence)
    assert ask(weak, place()).mean == pytest.approx(ask(strong, place()).mean, abs=1e-3)
    assert SOURCE_WEIGHT["user"] == SOURCE_WEIGHT["verifier"] == 1.0


def test_an_event_counts_once(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    assert trust.observe(told(0.0, event_id="e"), place()) is True
    rows = kept(trust)
    assert trust.observe(told(0.0, event_id="e"), place()) is False
    assert trust.observe(told(1.0, event_id="e", candidate="b", at=2.0), place(1)) is False
    assert kept(trust) == rows


@pytest.mark.parametrize(
    "bad",
    [
        *({"quality": q} for q in (math.nan, math.inf, -math.inf, 1.0001, -0.0001)),
        *({"at": at} for at in (math.nan, math.inf)),
        *({"shift": shift} for shift in (math.nan, -math.inf)),
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["verifier", "self"])
def test_an_outcome_that_is_none_is_refused_and_changes_nothing(
    bad: dict[str, float], source: str, make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book()
    trust.observe(told(0.3), place())
    rows, beliefs = kept(trust), ask(trust, place())
    with pytest.raises(ValueError, match=r"must be (in \[0, 1\]|finite)"):
        trust.observe(told(**{"quality": 0.5, "source": source, "event_id": "bad", **bad}), place())
    assert kept(trust) == rows
    assert ask(trust, place()).mean.tolist() == beliefs.mean.tolist()
    assert trust.observe(told(0.5, event_id="bad"), place()) is True  # nor was the event remembered


def test_a_context_of_another_codebook_is_refused(make_book: Make, told: Tell, place: Place) -> None:
    elsewhere = Codebook([View(name="kind", weight=1.0, size=3)]).place({}, {"kind": 0})
    trust = make_book()
    with pytest.raises(ValueError, match="of codebook"):
        trust.observe(told(1.0), elsewhere)
    with pytest.raises(ValueError, match="of codebook"):
        ask(trust, elsewhere)
    assert trust.rows() == []


def row(cells: int, **changes: object) -> TrustRow:
    """One outcome of quality 1 in the first cell."""
    one = np.zeros(cells)
    one[0] = 1.0
    values: dict[str, object] = {
        "origin": "there",
        "candidate": "a",
        "since": 0.0,
        "events": 1,
        "at": 0.0,
        "total": 1.0,
        "sums": one,
        "weights": one,
    }
    return TrustRow(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        {"sums": np.full(11, np.nan)},
        {"weights": np.full(11, np.inf)},
        {"weights": np.full(11, -1.0)},
        {"sums": np.full(11, 9.0)},
        {"sums": np.zeros(10)},
        {"weights": np.zeros((2, 11))},
        {"total": -1.0},
        {"total": math.nan},
        {"at": math.inf},
        {"events": -1},
    ],
    ids=["nan", "inf", "negative", "beyond", "short", "deep", "total", "total-nan", "at", "events"],
)
@pytest.mark.parametrize("origin", ["here", "there"])
def test_a_row_that_cannot_be_is_refused(bad: dict[str, object], origin: str, make_book: Make) -> None:
    assert len(make_book(rows=[row(11, origin=origin)]).rows()) == 1
    with pytest.raises(ValueError, match="the row of a"):
        make_book(rows=[row(11, origin=origin, **bad)])


def test_the_size_does_not_grow_with_outcomes(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book(half_life=500.0)
    contexts = [place(topic, kind) for topic in range(8) for kind in ("fact", "math", "chat")]

    def size() -> tuple[int, int, int]:
        sums = trust._all.sums
        return len(trust.rows()), sums.size, len(trust._fit._surplus)

    for number in range(10_000):
        told_now = told((number % 11) / 10, candidate="abc"[number % 3], at=float(number))
        trust.observe(told_now, contexts[number % len(contexts)])
        if number == 10:
            start = size()
    assert size() == start
    assert start[0] == 3
    assert len(trust._recent) == RECENT
    # What is stored is all there is: a book opened from it believes the same.
    again = make_book(half_life=500.0, rows=trust.rows(), resets=trust.resets)
    for context in contexts:
        first, second = (ask(b, context, now=10_000.0, who="abc") for b in (trust, again))
        assert first.evidence == pytest.approx(second.evidence)
        assert first.mean == pytest.approx(second.mean, abs=0.02)
