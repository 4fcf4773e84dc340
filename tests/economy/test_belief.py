"""Beliefs start at the card, follow outcomes where they were seen, and spread to what is alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.belief import Beliefs
from sage.economy.context import Codebook, Context
from sage.economy.pool import Pool, card_shift
from sage.economy.trust import TrustBook
from sage.types import Candidate, Outcome

Make = Callable[..., TrustBook]
MakeCandidate = Callable[..., Candidate]
Tell = Callable[..., Outcome]
Place = Callable[..., Context]


def ask(
    trust: TrustBook,
    context: Context,
    who: Sequence[str] = ("a", "b"),
    *,
    now: float = 0.0,
    prior: float = 0.5,
    families: Sequence[int] | None = None,
) -> Beliefs:
    priors = np.full(len(who), prior)
    numbers = None if families is None else np.array(families)
    shifts = np.zeros(len(who))
    return trust.beliefs(tuple(who), context, priors=priors, shifts=shifts, now=now, families=numbers)


def teach(
    trust: TrustBook, told: Tell, context: Context, quality: float, times: int, **about: object
) -> None:
    for _ in range(times):
        trust.observe(told(quality, **about), context)


def test_without_evidence_it_is_the_card(make_book: Make, place: Place) -> None:
    priors, shifts = np.array([0.7, 0.4]), np.array([0.0, 0.25])
    beliefs = make_book().beliefs(("a", "b"), place(), priors=priors, shifts=shifts, now=0.0)
    assert beliefs.mean == pytest.approx([0.7, 0.65])
    assert beliefs.evidence.tolist() == [0.0, 0.0]
    assert (beliefs.sd > 0.2).all()


def test_enough_evidence_outweighs_any_card(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    ask(trust, place(), prior=0.05)
    teach(trust, told, place(), 1.0, 400)
    teach(trust, told, place(), 0.0, 400, candidate="b")
    beliefs = ask(trust, place(), prior=0.05)
    assert beliefs.mean[0] > 0.95
    assert beliefs.mean[1] < 0.05
    assert beliefs.evidence == pytest.approx([400.0, 400.0])


@given(
    history=st.lists(
        st.tuples(
            st.floats(0.0, 1.0),
            st.sampled_from("ab"),
            st.sampled_from(["verifier", "user", "agreement", "self"]),
            st.integers(0, 7),
            st.floats(-1e9, 1e9),
        ),
        max_size=20,
    ),
    prior=st.floats(0.02, 0.98),
    now=st.floats(-1e9, 1e9),
    related=st.booleans(),
)
def test_a_belief_is_always_a_quality(
    history: list[tuple[float, str, str, int, float]],
    prior: float,
    now: float,
    related: bool,
    make_book: Make,
    told: Tell,
    place: Place,
) -> None:
    trust = make_book(half_life=1e6)
    for quality, who, source, topic, at in history:
        trust.observe(told(quality, candidate=who, source=source, at=at), place(topic))
    for topic in range(8):
        families = [0, 0] if related else None
        beliefs = ask(trust, place(topic), now=now, prior=prior, families=families)
        assert ((beliefs.mean >= 0.0) & (beliefs.mean <= 1.0)).all()
        assert ((beliefs.sd > 0.0) & (beliefs.sd <= 0.5)).all()
        assert ((beliefs.evidence >= 0.0) & (beliefs.evidence <= len(history) + 1e-9)).all()


@given(qualities=st.lists(st.floats(0.0, 1.0), max_size=8), last=st.sampled_from([0.0, 1.0]))
def test_one_more_success_or_failure_never_moves_it_the_other_way(
    qualities: list[float], last: float, make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book()
    for quality in qualities:
        trust.observe(told(quality), place())
    before = ask(trust, place()).mean[0]
    trust.observe(told(last), place())
    after = ask(trust, place()).mean[0]
    assert (after - before) * (last - 0.5) >= -1e-9


def test_more_evidence_makes_it_surer_there_most(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    start = ask(trust, place()).sd
    teach(trust, told, place(), 0.5, 40)
    here, elsewhere = ask(trust, place()).sd, ask(trust, place(5, "chat")).sd
    assert here[0] < elsewhere[0] < start[0]
    assert here[1] == pytest.approx(start[1])


def test_a_text_between_cells_that_disagree_stays_uncertain(
    make_book: Make, told: Tell, place: Place, codebook: Codebook
) -> None:
    """It may be like either: no number of outcomes in the cells tells which."""
    trust, between = make_book(), place(0, towards=1)
    for times in (200, 800):
        for who, elsewhere in (("specialist", 0.0), ("generalist", 1.0)):
            teach(trust, told, place(0), 1.0, times, candidate=who)
            teach(trust, told, place(1), elsewhere, times, candidate=who)
        special, general = ask(trust, between, ("specialist", "generalist")).sd
        assert special > 0.3
        assert special > 5.0 * general
    assert ask(trust, codebook.alone("topic", 0), ("specialist",)).sd[0] < 0.03


def test_outcomes_move_similar_work_more_than_other_work(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    teach(trust, told, place(0, "fact"), 1.0, 20)
    teach(trust, told, place(0, "fact"), 0.5, 20, candidate="b")
    gain = [
        float(ask(trust, context).mean[0] - ask(trust, context).mean[1])
        for context in (place(0), place(0, towards=1), place(1, "fact"), place(1, "chat"))
    ]
    assert gain[0] > gain[1] > gain[3] > 0.0
    assert gain[0] > gain[2] > gain[3]


def test_each_is_trusted_where_it_is_good(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    for who, good, bad in (("a", 0, 1), ("b", 1, 0)):
        teach(trust, told, place(good), 1.0, 20, candidate=who)
        teach(trust, told, place(bad), 0.0, 20, candidate=who)
    first, second = ask(trust, place(0)).mean, ask(trust, place(1)).mean
    assert first[0] > first[1] + 0.3
    assert second[1] > second[0] + 0.3


def test_one_candidate_s_failure_at_what_all_can_do_is_its_own(
    make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book()
    teach(trust, told, place(), 0.0, 30)
    for who in ("b", "c", "d"):
        teach(trust, told, place(), 1.0, 30, candidate=who)
    beliefs = ask(trust, place(4, "chat"), ("a", "b", "new"))
    assert beliefs.mean[0] < 0.3 < 0.45 < beliefs.mean[2] < beliefs.mean[1]


def test_hard_questions_are_blamed_on_the_questions(make_book: Make, told: Tell, place: Place) -> None:
    """``a`` was asked what everybody fails at, ``b`` what everybody can do: neither says much of them."""
    trust = make_book()
    for who in ("x", "y", "z"):
        teach(trust, told, place(0), 0.0, 40, candidate=who)
        teach(trust, told, place(1, "math"), 1.0, 40, candidate=who)
    teach(trust, told, place(0), 0.0, 10)
    teach(trust, told, place(1, "math"), 1.0, 10, candidate="b")
    beliefs = ask(trust, place(6, "chat"))
    assert beliefs.mean[1] - beliefs.mean[0] < 0.3  # of 1.0 that the plain means are apart
    hard, easy = ask(trust, place(0), ("new",)), ask(trust, place(1, "math"), ("new",))
    assert hard.mean[0] < 0.3
    assert easy.mean[0] > 0.7


def test_a_card_that_says_weak_at_math_is_not_blamed_elsewhere(
    make_book: Make, told: Tell, place: Place
) -> None:
    honest, vain = {"*": 0.7, "math": 0.1}, {"*": 0.7}
    trust = make_book()
    for number in range(40):
        for who, card in (("honest", honest), ("vain", vain)):
            right = float(number % 10 == 0)  # both fail as often as the honest card says
            told_now = told(right, candidate=who, kind="math", shift=card_shift(card, "math"))
            trust.observe(told_now, place(0, "math"))
    priors, none = np.array([0.7, 0.7]), np.zeros(2)
    chat = trust.beliefs(("honest", "vain"), place(5, "chat"), priors=priors, shifts=none, now=0.0)
    assert chat.mean[0] > chat.mean[1] + 0.1
    shifts = np.array([card_shift(honest, "math"), 0.0])
    math = trust.beliefs(("honest", "vain"), place(0, "math"), priors=priors, shifts=shifts, now=0.0)
    assert math.mean[0] == pytest.approx(0.1, abs=0.15)
    assert math.mean[1] < 0.4


@pytest.mark.parametrize(("quality", "direction"), [(1.0, 1), (0.0, -1)])
def test_relatives_that_surprise_move_the_untried_relative(
    quality: float, direction: int, make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book()
    who, families = ("s1", "s2", "untried", "stranger"), [0, 0, 0, 1]
    ask(trust, place(), who)
    for relative in ("s1", "s2"):
        teach(trust, told, place(), quality, 30, candidate=relative)
    alone = ask(trust, place(5, "chat"), who).mean
    together = ask(trust, place(5, "chat"), who, families=families).mean
    assert alone[2] == pytest.approx(alone[3])  # without families nobody is nearer than another
    assert (together[2] - alone[2]) * direction > 0.1
    assert together[3] == pytest.approx(alone[3])


def test_a_candidate_is_not_its_own_relative(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    teach(trust, told, place(), 1.0, 30)
    plain, families = ask(trust, place()), ask(trust, place(), families=[0, 1])
    assert families.mean == pytest.approx(plain.mean)
    assert ask(trust, place(), families=[0, 0]).mean[0] == pytest.approx(plain.mean[0])


def test_its_own_outcomes_do_not_dilute_what_its_relatives_show(
    make_book: Make, told: Tell, place: Place
) -> None:
    trust = make_book(prior_strength=1000.0)
    teach(trust, told, place(0, "fact"), 1.0, 30, candidate="relative")
    teach(trust, told, place(0, "fact"), 0.0, 30, candidate="stranger")  # so the questions are not easy
    teach(trust, told, place(5, "chat"), 0.5, 100)
    who = ("a", "relative")
    plain = ask(trust, place(6, "math"), who).mean[0]
    assert ask(trust, place(6, "math"), who, families=[0, 0]).mean[0] - plain > 0.2


def test_relatives_as_good_as_their_cards_move_nobody(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    for number in range(40):
        trust.observe(told(float(number % 2)), place())
    assert ask(trust, place(), families=[0, 0]).mean[1] == pytest.approx(0.5, abs=0.02)


def test_the_same_candidates_in_another_order_are_the_same(make_book: Make, told: Tell, place: Place) -> None:
    trust = make_book()
    for number, who in enumerate("abc"):
        teach(trust, told, place(), number / 2, 5, candidate=who)
    forward, backward = ask(trust, place(), tuple("abc")), ask(trust, place(), tuple("cba"))
    assert forward.mean.tolist() == backward.mean[::-1].tolist()


def test_a_pool_s_columns_are_what_a_book_reads(
    make_book: Make, make_candidate: MakeCandidate, place: Place
) -> None:
    pool = Pool([make_candidate("a", prior={"*": 0.6, "fact": 0.8}), make_candidate("b", prior={})])
    priors, shifts = pool.priors("fact")
    beliefs = make_book().beliefs(pool.names, place(), priors=priors, shifts=shifts, now=0.0)
    assert beliefs.mean == pytest.approx([0.8, 0.5])
