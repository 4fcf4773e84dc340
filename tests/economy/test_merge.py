"""What several nodes learned apart adds up to what one would have learned, however books are exchanged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.belief import Beliefs
from sage.economy.context import Codebook, Context, View
from sage.economy.trust import TrustBook, TrustRow
from sage.types import Outcome

Make = Callable[..., TrustBook]
Tell = Callable[..., Outcome]
Place = Callable[..., Context]

CLOSE = 0.02
"""How near beliefs of equal evidence lie: the fit of difficulties takes small steps, in another order."""

# (node, candidate, quality, topic, time): a node learned something.
events = st.tuples(
    st.sampled_from("xyz"),
    st.sampled_from("abc"),
    st.floats(0.0, 1.0),
    st.integers(0, 3),
    st.floats(0.0, 1.0),
)
histories = st.lists(events, max_size=15)
Event = tuple[str, str, float, int, float]


def ask(trust: TrustBook, context: Context, *, now: float = 1.0) -> Beliefs:
    priors = np.full(3, 0.5)
    return trust.beliefs(("a", "b", "c"), context, priors=priors, shifts=0.0 * priors, now=now)


def copy(trust: TrustBook, make_book: Make) -> TrustBook:
    """The book as another would get it: from its rows."""
    return make_book(trust.origin, rows=trust.rows(), resets=trust.resets)


def learned(
    history: Sequence[Event], make_book: Make, told: Tell, place: Place, *, alone: bool = False
) -> dict[str, TrustBook]:
    """A book of each node, or one that saw all."""
    books = {name: make_book(name) for name in ("x" if alone else "xyz")}
    for node, who, quality, topic, at in history:
        book = books["x" if alone else node]
        book.observe(told(quality, candidate=who, at=at), place(topic))
    return books


def merged(books: Sequence[TrustBook], make_book: Make, *, into: str = "new") -> TrustBook:
    result = make_book(into)
    for book in books:
        result.merge(book)
    return result


def stored(kept: TrustBook | TrustRow | None) -> object:
    """Rows and resets, as exact numbers, in an order that does not depend on how they came."""
    if isinstance(kept, TrustBook):
        return sorted(map(str, map(stored, kept.rows()))), dict(kept.resets)
    assert kept is not None
    names = ("origin", "candidate", "since", "events", "at", "total", "drift")
    return *(getattr(kept, name) for name in names), kept.sums.tolist(), kept.weights.tolist()


def believes_the_same(left: TrustBook, right: TrustBook, place: Place) -> None:
    assert ask(left, place(), now=1.0).total.sum() == pytest.approx(
        ask(right, place(), now=1.0).total.sum(), abs=1e-9
    )
    for topic in range(5):
        first, second = ask(left, place(topic)), ask(right, place(topic))
        assert first.evidence == pytest.approx(second.evidence, abs=1e-9)
        assert first.sd == pytest.approx(second.sd, abs=1e-9)
        assert first.mean == pytest.approx(second.mean, abs=CLOSE)


@given(history=histories)
def test_merging_does_not_depend_on_order_or_grouping(
    history: list[Event], make_book: Make, told: Tell, place: Place
) -> None:
    books = list(learned(history, make_book, told, place).values())
    results = [merged(order, make_book) for order in itertools.permutations(books)]
    for pair, single in ((books[:2], books[2]), (books[1:], books[0])):
        results.append(merged([merged(pair, make_book, into="between"), single], make_book))
    for result in results[1:]:
        assert stored(result) == stored(results[0])
        believes_the_same(result, results[0], place)


@given(history=histories, data=st.data())
def test_merging_again_or_an_older_copy_changes_nothing(
    history: list[Event], data: st.DataObject, make_book: Make, told: Tell, place: Place
) -> None:
    half = data.draw(st.integers(0, len(history)))
    books = learned(history[:half], make_book, told, place)
    older = [copy(book, make_book) for book in books.values()]
    for node, who, quality, topic, at in history[half:]:
        books[node].observe(told(quality, candidate=who, at=at), place(topic))
    result = merged(list(books.values()), make_book)
    before = stored(result)
    again = merged([result], make_book, into="new")
    for other in [*books.values(), *older, result, copy(result, make_book), *older]:
        result.merge(other)
        assert stored(result) == before
    believes_the_same(result, again, place)


@given(history=histories)
def test_books_that_learned_apart_believe_what_one_that_saw_all_believes(
    history: list[Event], make_book: Make, told: Tell, place: Place
) -> None:
    apart = merged(list(learned(history, make_book, told, place).values()), make_book)
    one = learned(history, make_book, told, place, alone=True)["x"]
    for who in "abc":
        row = one.row(who)
        others = [r for r in apart.rows() if r.candidate == who]
        assert (row is None) is (others == [])
        if row is not None:
            shares = [math.exp2(r.at - row.at) for r in others]
            for column in ("sums", "weights", "total"):
                added = sum(share * getattr(r, column) for share, r in zip(shares, others, strict=True))
                assert added == pytest.approx(getattr(row, column), abs=1e-9)
    for topic in range(4):
        first, second = ask(apart, place(topic)), ask(one, place(topic))
        assert first.evidence == pytest.approx(second.evidence, abs=1e-9)
        assert first.mean == pytest.approx(second.mean, abs=0.1)


def test_with_much_evidence_merged_beliefs_are_those_of_one(
    make_book: Make, told: Tell, place: Place
) -> None:
    random = np.random.default_rng(0)
    skill = {"a": 0.8, "b": 0.5, "c": 0.3}
    history = []
    for number in range(900):
        who, topic = "abc"[number % 3], int(random.integers(4))
        right = float(random.random() < skill[who] - 0.1 * topic + 0.1)
        history.append(("xyz"[int(random.integers(3))], who, right, topic, number / 9000))
    apart = merged(list(learned(history, make_book, told, place).values()), make_book)
    one = learned(history, make_book, told, place, alone=True)["x"]
    for topic in range(4):
        assert ask(apart, place(topic)).mean == pytest.approx(ask(one, place(topic)).mean, abs=CLOSE)


def test_learning_goes_on_in_a_merged_book(make_book: Make, told: Tell, place: Place) -> None:
    ours, theirs = make_book("x"), make_book("y")
    for _ in range(20):
        theirs.observe(told(0.0), place())
    ours.merge(theirs)
    ours.observe(told(1.0), place())
    assert ask(ours, place(), now=1.0).total.sum() == pytest.approx(
        ask(theirs, place(), now=1.0).total.sum() + 0.5**1
    )
    believes_the_same(ours, copy(ours, make_book), place)
    row = ours.row("a")
    assert row is not None
    assert row.events == 1  # what others saw is not ours to tell


def test_a_book_that_comes_home_teaches_its_origin_nothing(make_book: Make, told: Tell, place: Place) -> None:
    ours, theirs = make_book("x"), make_book("y")
    for _ in range(5):
        ours.observe(told(1.0), place())
        theirs.merge(ours)
        theirs.observe(told(0.0, candidate="b"), place())
        ours.observe(told(1.0), place())  # which the other does not know of
        before = stored(ours.row("a"))
        ours.merge(theirs)
        assert stored(ours.row("a")) == before
    assert ask(ours, place(), now=0.0).total.sum() == pytest.approx(15.0)
    theirs.merge(ours)
    assert ask(theirs, place(), now=0.0).total.sum() == pytest.approx(15.0)


def test_a_node_that_lost_its_book_gets_it_back_from_another(
    make_book: Make, told: Tell, place: Place
) -> None:
    ours, theirs = make_book("x"), make_book("y")
    for _ in range(5):
        ours.observe(told(1.0), place())
    theirs.merge(ours)
    reborn = make_book("x")
    reborn.merge(theirs)
    reborn.observe(told(1.0), place())
    theirs.merge(reborn)
    assert ask(theirs, place(), now=0.0).total.sum() == pytest.approx(6.0)


def test_a_candidate_only_others_have_seen_is_known(make_book: Make, told: Tell, place: Place) -> None:
    ours, theirs = make_book("x"), make_book("y")
    for _ in range(40):
        theirs.observe(told(1.0, candidate="b"), place())
    ours.merge(theirs)
    assert ask(ours, place(), now=0.0).mean[1] > 0.8
    assert ours.row("b") is None


def test_a_book_of_another_codebook_is_refused(make_book: Make) -> None:
    other = Codebook([View(name="kind", weight=1.0, size=3)])
    with pytest.raises(ValueError, match="the book is of codebook"):
        make_book().merge(TrustBook(other, origin="y", half_life=1.0, prior_strength=4.0))


def test_a_reset_forgets_one_candidate(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    for who in "ab":
        for _ in range(10):
            trust.observe(told(0.0, candidate=who), place())
    trust.reset("a", 5.0)
    beliefs = ask(trust, place(), now=0.0)
    assert beliefs.evidence[0] == 0.0
    assert beliefs.evidence[1] == pytest.approx(10.0)
    assert beliefs.mean[0] > beliefs.mean[1] + 0.1
    assert trust.row("a") is None
    assert list(trust.resets) == ["a"]


@given(history=histories, later=histories, data=st.data())
def test_a_reset_wins_over_older_rows_from_anywhere_in_any_order(
    history: list[Event],
    later: list[Event],
    data: st.DataObject,
    make_book: Make,
    told: Tell,
    place: Place,
) -> None:
    books = learned(history, make_book, told, place)
    older = [copy(book, make_book) for book in books.values()]
    resetter = make_book("resetter")
    resetter.reset("a", 2.0)
    # Some nodes hear of the reset before they learn on, others never do.
    for node in data.draw(st.sets(st.sampled_from("xyz"))):
        books[node].merge(resetter)
    count = {"a": 0, "other": sum(who != "a" for _, who, *_ in [*history, *later])}
    for node, who, quality, topic, at in later:
        books[node].observe(told(quality, candidate=who, at=2.0 + at), place(topic))
        count["a"] += who == "a" and "a" in books[node].resets
    every = [*books.values(), *older, resetter]
    results = [merged(data.draw(st.permutations(every)), make_book) for _ in range(3)]
    for result in results:
        assert stored(result) == stored(results[0])
        assert result.resets == {"a": 2.0}
        assert sum(r.events for r in result.rows() if r.candidate == "a") == count["a"]
        assert sum(r.events for r in result.rows() if r.candidate != "a") == count["other"]


def test_learning_goes_on_after_a_reset_and_survives_exchange(
    make_book: Make, told: Tell, place: Place
) -> None:
    ours, theirs = make_book("x"), make_book("y")
    for _ in range(10):
        ours.observe(told(0.0), place())
    theirs.merge(ours)
    ours.reset("a", 0.5)
    for _ in range(10):
        ours.observe(told(1.0, at=0.5), place())
    theirs.merge(ours)
    ours.merge(theirs)
    for book in (ours, theirs, copy(ours, make_book), copy(theirs, make_book)):
        beliefs = ask(book, place(), now=0.5)
        assert ask(book, place(), now=0.5).total.sum() == pytest.approx(10.0)
        assert beliefs.mean[0] > 0.7


def test_two_resets_at_one_time_are_two_resets(make_book: Make, told: Tell, place: Place) -> None:
    trust, other = make_book("x"), make_book("y")
    trust.reset("a", 1.0)
    trust.observe(told(0.0, at=1.0), place())
    other.merge(trust)
    trust.reset("a", 1.0)
    other.merge(trust)
    assert trust.row("a") is None
    assert other.rows() == []
    trust.reset("a", -50.0)  # and so is one by a clock that was set back
    assert len({trust.resets["a"], other.resets["a"]}) == 2


def test_a_reset_of_somebody_unknown_is_remembered(make_book: Make, told: Tell, place: Place) -> None:
    trust, other = make_book("x"), make_book("y")
    trust.reset("a", 1.0)
    other.observe(told(0.0), place())
    trust.merge(other)
    assert trust.rows() == []
    assert ask(trust, place()).mean == pytest.approx([0.5, 0.5, 0.5])
