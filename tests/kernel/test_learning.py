"""Who may be learned about from a turn, and what becomes of an answer when learning fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sage.cli.trust import rate_turn
from sage.errors import ModelNotFound, StoreError, TurnNotFound, WorkerDied
from sage.events import Event, EventBus
from sage.kernel.sense import Request
from sage.kernel.tick import Kernel
from sage.types import Outcome
from sage.zoo.card import ModelCard

MakeCard = Callable[..., ModelCard]
MakeKernel = Callable[..., Kernel]
Ask = Callable[..., Request]


def thumbs(kernel: Kernel, turn_id: str, candidate: str) -> Outcome:
    return Outcome(
        event_id=f"{turn_id}/user/{candidate}",
        turn_id=turn_id,
        candidate=candidate,
        kind="fact",
        quality=1.0,
        source="user",
        at=kernel.clock.time(),
    )


def evidence(kernel: Kernel, candidate: str) -> float:
    with kernel.trust.book() as book:
        row = book.row(candidate)
    return row.total if row else 0.0


def test_who_was_considered_tried_or_heard_can_be_learned_about(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("fails", prior=0.9, script={"load_error": "bad tensors"}),
        make_card("answers", prior=0.6),
        make_card("waits", prior=0.2),
    )
    reply = kernel.tick(ask(verify=lambda _text: 1.0))
    assert (reply.model, evidence(kernel, "answers")) == ("answers", 1.0)
    assert rate_turn(kernel.store, kernel.learn, kernel.clock, reply.turn_id, 1.0)
    for name in ("fails", "waits"):
        assert kernel.learn(thumbs(kernel, reply.turn_id, name))
        assert evidence(kernel, name) == 1.0


def test_who_had_no_part_in_a_turn_cannot(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a"), make_card("tiny", context_length=4))
    reply = kernel.tick(ask())
    for name in ("tiny", "nobody", ""):
        with pytest.raises(ModelNotFound, match=reply.turn_id) as refused:
            kernel.learn(thumbs(kernel, reply.turn_id, name))
        assert "sage trust explain" in refused.value.mend
        assert evidence(kernel, name) == 0.0
    assert kernel.store.outcomes(reply.turn_id) == []
    with pytest.raises(TurnNotFound):
        kernel.learn(thumbs(kernel, "turn-none", "a"))


def test_a_turn_that_came_to_no_decision_teaches_nothing(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a"))
    with pytest.raises(ModelNotFound):
        kernel.tick(ask(model="b"))
    (turn,) = kernel.store.turns()
    with pytest.raises(ModelNotFound, match=turn.id):
        kernel.learn(thumbs(kernel, turn.id, "a"))


@pytest.mark.parametrize("error", [StoreError("the disk is full"), ValueError("no number")])
@pytest.mark.parametrize("store", ["trust", "opinions"])
def test_an_answer_survives_learning_that_fails_and_is_learned_from_later(
    store: str,
    error: Exception,
    make_card: MakeCard,
    make_kernel: MakeKernel,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[Event] = []
    bus = EventBus()
    bus.subscribe(heard.append)
    card = replace(make_card("a", script={"answer": "kept"}), prior={"*": 0.5, "fact": 0.7})
    kernel = make_kernel(card, bus=bus)

    def fail(*_args: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(getattr(kernel, store), "learn", fail)
        reply = kernel.tick(ask(verify=lambda _text: 1.0))
    (outcome,) = reply.outcomes
    turn = kernel.store.turn(reply.turn_id)
    assert (reply.answer, turn.status, turn.answer, turn.error) == ("kept", "done", "kept", "")
    assert kernel.store.outcomes(reply.turn_id) == [replace(outcome, shift=pytest.approx(0.2))]
    assert ("OutcomeRecorded" in [type(event).__name__ for event in heard]) == (store == "opinions")
    kernel.tick(ask(verify=lambda _text: 1.0))
    assert evidence(kernel, "a") == pytest.approx(2.0)


def test_an_answer_that_failed_can_still_be_rated(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "one two three", "crash_after": 2}))
    with pytest.raises(WorkerDied):
        kernel.tick(ask())
    (turn,) = kernel.store.turns()
    assert rate_turn(kernel.store, kernel.learn, kernel.clock, turn.id, 0.0)
    assert evidence(kernel, "a") == 1.0
