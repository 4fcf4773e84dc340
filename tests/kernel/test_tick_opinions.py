"""One tick that asks for another opinion: when, whom, and whose answer is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sage.config import IrpSettings, ModelSettings, SelectorSettings, Settings
from sage.economy.selector import Selector
from sage.errors import WorkerDied
from sage.kernel.sense import Request
from sage.kernel.tick import Kernel
from sage.types import Decision, Outcome
from sage.zoo.card import Figure, ModelCard

MakeCard = Callable[..., ModelCard]
MakeKernel = Callable[..., Kernel]
Ask = Callable[..., Request]

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

CHEAP = Settings(
    models=ModelSettings(stop_timeout_s=0.5), selector=SelectorSettings(explore_share=0.0, price_scale=1000.0)
)
"""Any gain is worth the price of these models."""

pytestmark = pytest.mark.usefixtures("sound_and_tidy")


def test_a_doubtful_draft_is_escalated(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(
        make_card("doubtful", prior=0.65, script={"answer": "Perhaps Marlowe", "logprob": -2.0}),
        make_card("sure", prior=0.6, script={"answer": "Shakespeare"}),
        settings=CHEAP,
    )
    reply = kernel.tick(ask())
    assert (reply.answer, reply.model, reply.draft) == ("Shakespeare", "sure", 1)
    assert (reply.decision.mode, reply.decision.chosen) == ("escalated", "sure")
    assert reply.decision.reason.startswith("sure after 2 drafts: its answer is the likeliest to be right.")
    assert "First chosen was doubtful: doubtful before sure" in reply.decision.reason
    first, second = reply.irp["energy"]
    assert first > 0.5
    assert second < first
    assert reply.usage["completion_tokens"] == 3  # both drafts are counted
    assert reply.outcomes == ()  # dissent teaches nothing


def test_a_doubtful_draft_that_took_more_than_its_grant_is_escalated_too(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    """Small models talk in circles: that is no reason to keep what one said."""
    talker = {"answer": "Perhaps Marlowe", "logprob": -2.0, "token_s": 0.8}
    fast = {name: Figure(value=1000.0) for name in ("prompt_tok_s", "generate_tok_s")}
    kernel = make_kernel(
        make_card("talker", prior=0.65, script=talker, rates=fast),
        make_card("sure", prior=0.6, script={"answer": "Shakespeare"}, rates=fast),
        settings=CHEAP,
    )
    reply = kernel.tick(ask())
    assert reply.atp["spent"] > reply.atp["granted"]
    assert (reply.answer, reply.irp["steps"]) == ("Shakespeare", 2)
    assert kernel.tick(ask(max_atp=1.0)).irp["halt_reason"] == "budget"


def test_the_first_draft_stands_when_the_others_are_no_better(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("a", prior=0.65, script={"answer": "Marlowe", "logprob": -1.0}),
        make_card("b", prior=0.5, script={"answer": "Bacon", "logprob": -3.0}),
        settings=CHEAP,
    )
    reply = kernel.tick(ask())
    assert (reply.answer, reply.model, reply.draft) == ("Marlowe", "a", 0)
    assert reply.decision.mode == "permission"
    assert kernel.store.turn(reply.turn_id).answer == "Marlowe"
    first, second, *_ = reply.irp["energy"]
    assert second > first  # dissent is evidence against the first, too


def test_two_that_agree_outvote_one_that_is_trusted_more(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    """Energy rose when the second dissented; the answer comes from all that was heard, nevertheless."""
    kernel = make_kernel(
        make_card("a", prior=0.65, script={"answer": "Marlowe", "logprob": -1.5}),
        make_card("b", prior=0.6, script={"answer": "Shakespeare", "logprob": -0.3}),
        make_card("c", prior=0.55, script={"answer": "shakespeare.", "logprob": -0.3}),
        settings=CHEAP,
    )
    reply = kernel.tick(ask())
    assert [opinion["group"] for opinion in reply.irp["opinions"]] == [0, 1, 1]
    assert (reply.answer, reply.model) == ("Shakespeare", "b")
    assert {outcome.source for outcome in reply.outcomes} == {"agreement"}


def test_a_second_opinion_must_be_worth_its_price(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("a", prior=0.55, script={"answer": "Marlowe", "logprob": -1.0}),
        make_card("dear", prior=0.5, script={"answer": "Shakespeare"}),
    )
    kernel.books.measure("dear", [("load_s", 8.0)])
    reply = kernel.tick(ask())
    assert (reply.model, reply.irp["steps"], reply.irp["halt_reason"]) == ("a", 1, "exhausted")
    deep = kernel.tick(ask(model="sage:deep"))
    assert [opinion["model"] for opinion in deep.irp["opinions"]][:2] == ["a", "dear"]


def test_a_sure_answer_is_checked_where_price_does_not_matter(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("a", prior=0.8, script={"answer": "Shakespeare", "logprob": -0.6}),
        make_card("b", prior=0.75, script={"answer": "Shakespeare", "logprob": -0.6}),
        settings=Settings(selector=SelectorSettings(explore_share=0.0), irp=IrpSettings(accept_energy=0.5)),
    )
    assert kernel.tick(ask()).irp["steps"] == 1
    assert kernel.tick(ask(model="sage:deep")).irp["steps"] == 2


def test_the_chosen_one_is_asked_first_though_another_ranks_higher(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the rule's winner is left: to learn, for a light one, for a trusted relative."""
    kernel = make_kernel(make_card("a", prior=0.9), make_card("b", prior=0.8), make_card("c", prior=0.7))
    choose = Selector.choose

    def left(*args: Any, **more: Any) -> Decision:
        return replace(choose(*args, **more), chosen="c", mode="explore", instead_of="a")

    monkeypatch.setattr(Selector, "choose", left)
    reply = kernel.tick(ask())
    assert (reply.model, reply.decision.mode) == ("c", "explore")
    assert set(kernel.host.resident()) == {"c"}


def test_a_pinned_model_never_escalates_to_another(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("doubtful", script={"answers": ["Marlowe", "Bacon"], "logprob": -2.0}),
        make_card("sure", prior=0.9),
    )
    reply = kernel.tick(ask(model="doubtful"))
    assert (reply.model, reply.decision.mode) == ("doubtful", "pinned")
    assert reply.irp["steps"] == 2  # it was asked again, and then nobody was left
    assert reply.irp["halt_reason"] == "exhausted"
    assert set(kernel.host.resident()) == {"doubtful"}


def test_a_pinned_model_that_fails_is_not_replaced(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"crash_after": 0}), make_card("b", prior=0.9))
    with pytest.raises(WorkerDied):
        kernel.tick(ask(model="a"))
    assert kernel.host.resident() == {}


def test_an_escalation_that_fails_asks_the_next_and_not_the_first_again(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("a", prior=0.65, script={"answer": "Marlowe", "logprob": -2.0}),
        make_card("b", prior=0.6, script={"crash_after": 0}),
        make_card("c", prior=0.5, script={"answer": "Shakespeare"}),
        settings=CHEAP,
    )
    reply = kernel.tick(ask())
    assert (reply.answer, reply.model) == ("Shakespeare", "c")
    assert [failure.name for failure in reply.decision.failures] == ["b"]
    assert reply.usage["completion_tokens"] == 2


def test_a_failed_escalation_leaves_the_first_draft(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("a", prior=0.65, script={"answer": "Marlowe", "logprob": -2.0}),
        make_card("b", prior=0.5, script={"crash_after": 0}),
        settings=CHEAP,
    )
    reply = kernel.tick(ask())
    assert (reply.answer, reply.model, reply.draft) == ("Marlowe", "a", 0)
    assert reply.irp["halt_reason"] == "error"


def test_a_schema_not_kept_is_retried_and_taught(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("chatty", prior=0.9, script={"answer": "It is three.", "ignore_schema": True}),
        make_card("strict", prior=0.5),
    )
    reply = kernel.tick(ask("How many?", schema=SCHEMA))
    assert (json.loads(reply.answer), reply.model) == ({"n": 0}, "strict")
    assert reply.irp["energy"][0] == 1.0
    (outcome,) = reply.outcomes
    assert (outcome.candidate, outcome.quality, outcome.source) == ("chatty", 0.0, "verifier")
    assert outcome.kind == "json"
    with kernel.trust.book() as book:
        assert book.row("strict") is None


def test_opinions_learn_from_the_verifier_and_how_sure_a_model_usually_sounds(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Marlowe", "logprob": -0.6}))
    kernel.tick(ask())
    before = kernel.opinions.evidence(["a"])
    assert (before.asked[0], before.doubt[0, 0]) == (0.0, pytest.approx(1.0))
    kernel.tick(ask(verify=lambda _text: 0.0))
    after = kernel.opinions.evidence(["a"])
    assert (after.asked[0], after.right[0]) == (pytest.approx(1.0), 0.0)
    assert after.usual_doubt()[0][0] > before.usual_doubt()[0][0]


def test_opinions_learn_from_what_a_user_says_later(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a"))
    reply = kernel.tick(ask())
    thumbs = Outcome(
        event_id="user-1",
        turn_id=reply.turn_id,
        candidate="a",
        kind="fact",
        quality=1.0,
        source="user",
        at=kernel.clock.time(),
    )
    assert [kernel.learn(thumbs) for _ in range(2)] == [True, False]
    assert kernel.opinions.evidence(["a"]).right[0] == pytest.approx(1.0)
