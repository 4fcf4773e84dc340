"""How drafts are weighed against each other, and whom else it pays to ask."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.economy.evidence import Evidence
from sage.irp.plugins.language import Draft, repetition
from sage.kernel.judge import COMPARABLE
from sage.kernel.weighing import Weighing, accept_at, answer_groups
from sage.types import CandidateScore, Completion, Decision, Rule

LONG = "The sea was calm, the boats came home before dark, and everybody on the quay was glad of that."
OTHER = "Nobody had expected the storm, which took two of the boats and drove a third one on the rocks."
LOOP = "the cat sat on the mat and " * 12


def draft(
    model: str, text: str, logprob: float | None = -0.3, *, valid: bool = True, finish: str = "stop"
) -> Draft:
    completion = Completion(
        text=text,
        prompt_tokens=3,
        completion_tokens=len(text.split()),
        finish_reason=finish,
        logprobs=() if logprob is None else (logprob,) * 4,
    )
    return Draft(model=model, completion=completion, attempt=0, valid=valid and bool(text.strip()))


def decision(trust: dict[str, float], prices: dict[str, float], scale: float) -> Decision:
    scores = tuple(
        CandidateScore(
            name=name,
            expertise=mean,
            cheapness=1.0 / (1.0 + prices.get(name, 0.0) / scale),
            persistence=1.0,
            permission=mean,
            resident=False,
            est_load_s=0.0,
            est_run_s=0.0,
            est_atp=0.0,
            evidence=0.0,
            price=prices.get(name, 0.0),
        )
        for name, mean in trust.items()
    )
    rule = Rule(
        form="product",
        dial=0.5,
        scale=scale,
        load_scale=scale,
        hot_bonus=1.2,
        unit="atp",
        state="WAKE",
        outcomes=0.0,
    )
    return Decision(
        chosen=scores[0].name, mode="permission", reason="", kind="fact", candidates=scores, rule=rule
    )


def weighing(
    *,
    evidence: Evidence | None = None,
    prices: dict[str, float] | None = None,
    scale: float = 10.0,
    **trust: float,
) -> Weighing:
    trust = trust or {"a": 0.6, "b": 0.6, "c": 0.6}
    return Weighing(decision(trust, prices or {}, scale), evidence or Evidence(tuple(trust)), schema=False)


def energies(*drafts: Draft, **trust: float) -> tuple[float, ...]:
    return weighing(**trust).weigh(drafts).energies


def best(*drafts: Draft, **trust: float) -> str:
    return drafts[weighing(**trust).weigh(drafts).best].model


def test_texts_that_are_long_here_are_long() -> None:
    assert min(len(LONG), len(OTHER)) > COMPARABLE
    assert repetition(LOOP) > 0.8


@pytest.mark.parametrize(("dial", "accept"), [(0.0, 0.5), (0.5, 0.5), (0.75, 0.25), (1.0, 0.0)])
def test_the_better_the_answer_has_to_be_the_less_doubt_is_accepted(dial: float, accept: float) -> None:
    assert accept_at(0.5, dial) == pytest.approx(accept)


# --- the same answer ---


def test_short_answers_that_say_the_same_are_one_group() -> None:
    drafts = [draft("a", "Paris"), draft("b", "Rome"), draft("c", "paris."), draft("a", "PARIS!")]
    assert answer_groups(drafts) == [0, 1, 0, 0]


def test_no_answer_is_in_no_group_and_long_ones_are_alone() -> None:
    drafts = [draft("a", ""), draft("b", LONG), draft("c", LONG), draft("a", "no", valid=False)]
    assert answer_groups(drafts) == [-1, 1, 2, -1]


# --- how likely an answer is right ---


def test_trust_and_doubt_decide_about_a_single_draft() -> None:
    (trusted,), (so_so,) = energies(draft("a", "x"), a=0.9), energies(draft("a", "x"), a=0.5)
    assert trusted < 0.2 < 0.4 < so_so
    (sure,), (unsure,) = energies(draft("a", "x", -0.05)), energies(draft("a", "x", -2.0))
    assert sure < unsure - 0.1


def test_what_is_no_answer_has_energy_one() -> None:
    assert energies(draft("a", "", valid=False)) == (1.0,)
    assert energies(draft("a", " ", -0.01), draft("b", "no", valid=False), a=0.9, b=0.9) == (1.0, 1.0)


def test_an_answer_without_probabilities_is_weighed_by_trust() -> None:
    (plain,), (usual,) = energies(draft("a", "x", None)), energies(draft("a", "x", math.log(0.75)))
    assert plain == pytest.approx(usual, abs=0.05)


@pytest.mark.parametrize("logprob", [-0.001, None])
def test_a_loop_is_doubtful_however_sure_and_trusted_the_model_is(logprob: float | None) -> None:
    (energy,) = energies(draft("a", LOOP, logprob), a=0.95)
    assert energy >= repetition(LOOP)


def test_agreement_speaks_for_an_answer_and_dissent_against_it() -> None:
    (alone,) = energies(draft("a", "Paris"))
    agreed = energies(draft("a", "Paris"), draft("b", "paris."))
    dissent = energies(draft("a", "Paris"), draft("b", "Rome"))
    assert agreed[0] == agreed[1] < alone < dissent[0]


def test_a_model_that_repeats_itself_does_not_agree_with_itself() -> None:
    (once,) = energies(draft("a", "Rome"))
    assert energies(draft("a", "Rome"), draft("a", "rome.")) == (once, once)


def test_a_model_that_contradicts_itself_is_less_believed() -> None:
    (once,) = energies(draft("a", "Rome"))
    assert energies(draft("a", "Rome"), draft("a", "Paris"))[0] > once


def test_long_answers_do_not_speak_against_each_other() -> None:
    (alone,) = energies(draft("a", LONG))
    assert energies(draft("a", LONG), draft("b", OTHER), draft("c", "Paris"))[0] == pytest.approx(alone)


def test_pairs_that_err_alike_support_each_other_less() -> None:
    independent, copies = Evidence("ab"), Evidence("ab")
    for evidence, same in ((independent, 0.0), (copies, 50.0)):
        evidence.wrong[:] = 50.0
        evidence.same[:] = same
    drafts = (draft("a", "Paris"), draft("b", "Paris"))
    told = [weighing(evidence=e, a=0.6, b=0.6).weigh(drafts).energies[0] for e in (independent, copies)]
    assert told[0] < told[1] - 0.05


# --- which draft is the answer ---


def test_the_likeliest_answer_is_given_in_the_words_of_the_most_trusted() -> None:
    drafts = (draft("a", "Rome"), draft("c", "paris"), draft("b", "Paris."))
    assert best(*drafts, a=0.6, b=0.6, c=0.5) == "b"
    assert best(*drafts, a=0.99, b=0.3, c=0.2) == "a"


def test_the_earlier_one_on_a_tie_and_an_answer_rather_than_none() -> None:
    assert best(draft("b", "x"), draft("a", "y")) == "b"
    assert best(draft("a", ""), draft("b", "y", -3.0), a=0.9, b=0.1) == "b"
    assert best(draft("a", ""), draft("b", "")) == "a"


@pytest.mark.parametrize("finish", ["cancelled", "deadline"])
def test_half_an_answer_is_given_where_there_is_no_whole_one(finish: str) -> None:
    whole, half = draft("a", "Marlowe", -2.0), draft("b", "Shake", finish=finish)
    (alone,) = energies(whole, a=0.3, b=0.9)
    assert energies(whole, half, a=0.3, b=0.9) == (alone, 1.0)
    assert best(half, whole, a=0.3, b=0.9) == "a"
    assert best(half) == "b"


# --- whom else to ask ---


def test_an_opinion_is_asked_for_while_its_gain_exceeds_its_price() -> None:
    drafts, trust = (draft("a", "x", -1.0),), {"a": 0.5, "b": 0.9, "c": 0.5}
    assert weighing(**trust).next_model(drafts, {"b", "c"}) == "b"
    assert weighing(**trust, prices={"b": 10.0}).next_model(drafts, {"b", "c"}) == "c"
    assert weighing(**trust, prices={"b": 10.0, "c": 10.0}).next_model(drafts, {"b", "c"}) is None
    dear = weighing(**trust, prices={"b": 10.0, "c": 10.0}, scale=math.inf)
    assert dear.next_model(drafts, {"b", "c"}) == "b"


def test_where_prices_do_not_matter_a_load_does() -> None:
    """At the best end of the dial the scale of prices is infinite, that of loads is not."""
    decided = decision({"a": 0.5, "b": 0.9, "c": 0.8}, {}, math.inf)
    a, b, c = decided.candidates
    loads = replace(decided, candidates=(a, replace(b, cheapness=0.5), c))
    weigher = Weighing(loads, Evidence("abc"), schema=False)
    assert weigher.next_model((draft("a", "x", -1.0),), {"b", "c"}) == "c"


def test_only_those_that_may_be_asked_are_asked() -> None:
    one = weighing(a=0.5, b=0.9, c=0.6)
    assert one.next_model((draft("a", "x", -1.0),), {"c"}) == "c"
    assert one.next_model((draft("a", "x", -1.0),), set()) is None


def test_a_sure_answer_of_a_trusted_model_needs_no_opinion_of_a_poor_one() -> None:
    assert weighing(a=0.97, b=0.1, prices={"b": 0.1}).next_model((draft("a", "x", -0.01),), {"b"}) is None


@pytest.mark.parametrize("nothing", ["", LOOP])
def test_without_any_answer_the_best_one_is_asked_whatever_the_price(nothing: str) -> None:
    one = weighing(a=0.9, b=0.5, c=0.9, prices={"b": 1e6})
    assert one.next_model((draft("a", nothing),), {"b", "c"}) == "b"


def test_after_a_long_answer_only_somebody_likelier_right_is_asked() -> None:
    drafts = (draft("a", LONG),)
    assert weighing(a=0.6, b=0.5).next_model(drafts, {"b"}) is None
    assert weighing(a=0.5, b=0.9).next_model(drafts, {"b"}) == "b"
    assert weighing(a=0.5, b=0.9, prices={"b": 9.0}).next_model(drafts, {"b"}) is None
    doubted = (draft("a", LONG, -2.5),)
    assert weighing(a=0.6, b=0.6).next_model(doubted, {"b"}) == "b"


@pytest.mark.parametrize(
    ("text", "logprob", "doubtful"),
    [("x", -0.1, False), ("x", None, False), ("x", -2.0, True), ("", -0.1, True), (LOOP, -0.1, True)],
)
def test_what_may_be_tried_again(text: str, logprob: float | None, doubtful: bool) -> None:
    assert weighing().doubtful((draft("a", text, logprob),)) is doubtful


def test_it_is_told_why() -> None:
    one = weighing()
    drafts = (draft("a", "It is Paris", None), draft("b", ""))
    energy, _ = one.weigh(drafts).energies
    assert one.explain(drafts) == [
        {"model": "a", "group": 0, "p": pytest.approx(1 - energy, abs=1e-4), "tokens": 3, "doubt": None},
        {"model": "b", "group": -1, "p": 0.0, "tokens": 0, "doubt": pytest.approx(0.2592, abs=1e-4)},
    ]


def test_evidence_about_others_is_refused() -> None:
    with pytest.raises(ValueError, match="does not weigh"):
        weighing(evidence=Evidence(["b", "a"]), a=0.5, b=0.5)


drafts = st.builds(
    draft,
    st.sampled_from("abc"),
    st.sampled_from(["Paris", "paris.", "Rome", "", LOOP, LONG, OTHER]),
    st.sampled_from([None, -0.01, -0.7, -9.0, -math.inf]),
    valid=st.booleans(),
)


@given(
    state=st.lists(drafts, min_size=1, max_size=6),
    trust=st.tuples(*[st.floats(0.0, 1.0)] * 3),
    price=st.floats(0.0, 20.0),
)
def test_whatever_is_drafted_can_be_weighed(
    state: list[Draft], trust: tuple[float, float, float], price: float
) -> None:
    one = weighing(**dict(zip("abc", trust, strict=True)), prices={"b": price})
    weighed = one.weigh(tuple(state))
    assert all(0.0 <= energy <= 1.0 for energy in weighed.energies)
    assert min(weighed.energies) == pytest.approx(weighed.energies[weighed.best], abs=1e-8)
    short = {(g, e) for g, d, e in zip(answer_groups(state), state, weighed.energies, strict=True) if g >= 0}
    assert len(short) == len({group for group, _ in short})  # who says the same is as likely right
    fresh = set("abc").difference(d.model for d in state)
    assert one.next_model(tuple(state), fresh) in {*fresh, None}


def test_what_was_learned_changes_what_is_believed() -> None:
    """A model whose long answers were wrong and whose short ones were right."""
    evidence = Evidence("ab")
    first = np.array([[0, -1]])
    for tokens, quality in ((1, 1.0), (40, 0.0)):
        marks = evidence.marks(np.array([0, 1]), first[0], np.array([tokens, 0]))[None]
        for _ in range(40):
            evidence.observe(np.array([[True, False]]), first, np.array([[quality, 0.0]]), marks)
    one = weighing(evidence=evidence, a=0.5, b=0.5)
    (short,), (long,) = (one.weigh((draft("a", text, None),)).energies for text in ("Rome", 4 * OTHER))
    assert short < 0.4 < 0.6 < long
