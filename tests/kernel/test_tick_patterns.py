"""Earlier turns limit how a later one is refined, and answers that were judged right are given again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sage.config import MemorySettings, ModelSettings, SelectorSettings, Settings
from sage.errors import StoreError
from sage.kernel.sense import Request
from sage.kernel.tick import Kernel
from sage.types import Message, Outcome, Piece
from sage.zoo.card import ModelCard

pytestmark = pytest.mark.usefixtures("sound_and_tidy")

MakeCard = Callable[..., ModelCard]
MakeKernel = Callable[..., Kernel]
Ask = Callable[..., Request]


def right(answer: str) -> float:
    return 1.0


def wrong(answer: str) -> float:
    return 0.0


def settings(**memory: Any) -> Settings:
    return Settings(
        models=ModelSettings(stop_timeout_s=0.5),
        selector=SelectorSettings(explore_share=0.0, price_scale=1000.0),
        memory=MemorySettings(**memory),
    )


def rate(kernel: Kernel, turn_id: str, model: str, quality: float) -> None:
    kernel.learn(
        Outcome(
            event_id=f"{turn_id}/{quality}",
            turn_id=turn_id,
            candidate=model,
            kind="fact",
            quality=quality,
            source="user",
            at=kernel.clock.time(),
        )
    )


def test_an_answer_judged_right_is_given_again_at_no_cost(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Shakespeare"}), settings=settings())
    first = kernel.tick(ask(session="one", verify=right))
    pieces: list[Piece] = []
    again = kernel.tick(ask(session="two"), on_piece=pieces.append)
    assert (again.answer, again.model) == ("Shakespeare", "a")
    assert "".join(piece.text for piece in pieces) == "Shakespeare"
    assert (again.decision.mode, again.irp["remembered"]) == ("remembered", first.turn_id)
    assert first.turn_id in again.decision.reason
    assert again.atp["spent"] == 0.0
    assert again.usage["completion_tokens"] == 0
    assert kernel.store.turn(again.turn_id).answer == "Shakespeare"
    assert kernel.store.turn(again.turn_id).mode == "remembered"


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.5},
        {"model": "a"},
        {"max_tokens": 7},
        {"namespace": "other"},
        {"session": "one"},
        {"messages": (Message(role="system", content="Be curt."), Message(role="user", content="Who?"))},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_it_is_not_given_again_where_another_might_be_wanted(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, changed: dict[str, Any]
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Shakespeare"}), settings=settings())
    kernel.tick(ask(session="one", verify=right))
    reply = kernel.tick(ask(**{"session": "two", **changed}))
    assert reply.irp["remembered"] is None
    assert reply.atp["spent"] > 0.0


def test_nobody_judged_it_or_patterns_are_off(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a"), settings=settings(patterns=False))
    kernel.tick(ask(session="one", verify=right))
    assert kernel.tick(ask(session="two")).irp["remembered"] is None


def test_a_conversation_that_does_not_fit_is_still_one(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Shakespeare"}), settings=settings())
    kernel.tick(ask(session="one", verify=right))
    kernel.tick(ask("Something else", session="two"))
    monkeypatch.setattr("sage.kernel.remembering.recall_session", lambda *_, **__: ())
    reply = kernel.tick(ask(session="two"))
    assert reply.irp["remembered"] is None


def test_nothing_is_given_again_where_memory_was_not_looked_through(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Shakespeare"}), settings=settings())
    kernel.tick(ask(session="one", verify=right))

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("The disk failed.")

    monkeypatch.setattr(kernel.stores.recall, "recall", fail)
    assert kernel.tick(ask(session="two")).irp["remembered"] is None


def test_nobody_is_trusted_more_for_an_answer_that_is_given_again(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Shakespeare"}), settings=settings())
    kernel.tick(ask(session="one", verify=right))
    again = kernel.tick(ask(session="two", verify=right))
    assert again.irp["remembered"]
    assert again.outcomes == ()
    kernel.tick(ask(session="three", verify=wrong))
    assert kernel.tick(ask(session="four")).irp["remembered"] is None, "a verifier took it back"
    with kernel.trust.book() as book:
        row = book.row("a")
    assert row is not None
    assert row.events == 2


def test_a_later_bad_word_takes_it_back(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Marlowe"}), settings=settings())
    first = kernel.tick(ask(session="one", verify=right))
    rate(kernel, first.turn_id, "a", 0.0)
    reply = kernel.tick(ask(session="two"))
    assert reply.irp["remembered"] is None
    assert reply.irp["energy"] == [1.0], "the same words are known to be wrong"


def test_what_was_wrong_is_not_said_again_where_another_model_is(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("trusted", prior=0.9, script={"answer": "Marlowe"}),
        make_card("other", prior=0.4, script={"answer": "Shakespeare"}),
        settings=settings(),
    )
    first = kernel.tick(ask(session="one"))
    assert first.answer == "Marlowe"
    rate(kernel, first.turn_id, "trusted", 0.0)
    assert kernel.tick(ask(session="two")).answer == "Shakespeare"


def test_an_answer_is_not_given_again_after_something_was_said_about_it(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Noted."}), settings=settings())
    question = "Where was my dog Biscuit born?"
    kernel.tick(ask(question, session="one", verify=right))
    assert kernel.tick(ask(question, session="two")).irp["remembered"]
    kernel.tick(ask("My dog Biscuit was born in Porto.", session="three"))
    assert kernel.tick(ask(question, session="four")).irp["remembered"] is None


def test_further_opinions_that_never_paid_are_not_asked(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("one", prior=0.65, script={"answer": "Marlowe", "logprob": -2.0}),
        make_card("two", prior=0.5, script={"answer": "I cannot tell", "logprob": -2.0}),
        settings=settings(recall_tokens=0),
    )
    steps = [kernel.tick(ask(session=f"s{number}")).irp["steps"] for number in range(12)]
    assert (steps[0], steps[-1]) == (3, 1)


def test_a_failing_pattern_memory_costs_no_answer(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "Shakespeare"}))

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("The disk failed.")

    for name in ("judged", "expect", "learn"):
        monkeypatch.setattr(kernel.stores.patterns, name, fail)
    reply = kernel.tick(ask())
    assert reply.answer == "Shakespeare"
    assert kernel.store.turn(reply.turn_id).status == "done"
