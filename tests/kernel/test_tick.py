"""One tick from request to books, with everything real but the models."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sage.config import AtpSettings, IrpSettings, Settings
from sage.errors import (
    BudgetSpent,
    DeadlineExceeded,
    LoadFailed,
    ModelNotFound,
    NoCandidate,
    RemoteFailed,
    UsageError,
    WorkerDied,
)
from sage.events import Event, EventBus
from sage.kernel.sense import Request
from sage.kernel.tick import Kernel
from sage.types import Message, Outcome, Piece
from sage.zoo.card import ModelCard

MakeCard = Callable[..., ModelCard]
MakeKernel = Callable[..., Kernel]
Ask = Callable[..., Request]
Accounts = Callable[[], dict[str, int]]

pytestmark = pytest.mark.usefixtures("sound_and_tidy")


def evidence(kernel: Kernel, model: str) -> tuple[float, float] | None:
    """How many outcomes trust has of a model, and their mean quality."""
    with kernel.trust.book() as book:
        row = book.row(model)
    return (row.total, row.sums.sum() / row.weights.sum()) if row else None


# --- the happy path ---


def test_an_answer_and_everything_said_about_it(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("good", prior=0.9, script={"answer": "William Shakespeare"}),
        make_card("poor", prior=0.2),
        make_card("tiny", context_length=4),
    )
    pieces: list[Piece] = []
    reply = kernel.tick(ask(), on_piece=pieces.append)
    assert (reply.answer, reply.model, reply.finish_reason) == ("William Shakespeare", "good", "stop")
    assert "".join(piece.text for piece in pieces) == reply.answer
    assert {(piece.draft, piece.model) for piece in pieces} == {(reply.draft, "good")} == {(0, "good")}
    assert (reply.irp["steps"], reply.irp["halt_reason"]) == (1, "accepted")
    (energy,), (opinion,) = reply.irp["energy"], reply.irp["opinions"]
    assert 0.0 < energy < 0.1  # a trusted model that is not doubtful
    assert opinion == {
        "model": "good",
        "group": 0,
        "p": pytest.approx(1.0 - energy, abs=1e-4),
        "tokens": 2,
        "doubt": pytest.approx(0.0952, abs=1e-4),
    }
    assert reply.usage["prompt_tokens"] == 3
    assert reply.usage["completion_tokens"] == 2
    assert reply.usage["load_s"] > 0
    assert reply.outcomes == ()
    decision = reply.decision
    assert (decision.chosen, decision.mode, decision.kind) == ("good", "permission", "fact")
    assert [score.name for score in decision.candidates] == ["good", "poor"]
    assert "context" in decision.excluded["tiny"]
    assert decision.reason.startswith("good before poor")

    turn = kernel.store.turn(reply.turn_id)
    assert (turn.status, turn.answer, turn.model, turn.error) == ("done", reply.answer, "good", "")
    assert (turn.prompt, turn.kind, turn.session) == ("Who wrote Hamlet?", "fact", "s")
    assert dict(turn.usage) == dict(reply.usage)
    assert dict(turn.irp) == dict(reply.irp)
    assert dict(turn.atp) == dict(reply.atp)
    stored = kernel.store.decision(reply.turn_id)
    assert stored["chosen"] == "good"
    assert {row["name"] for row in stored["candidates"]} == {"good", "poor"}


def test_a_loaded_model_is_not_loaded_again_and_its_rates_are_kept(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"token_s": 0.005, "answer": "one two three four five six"}))
    first, second = kernel.tick(ask()), kernel.tick(ask())
    assert first.usage["load_s"] > 0
    assert second.usage["load_s"] == 0
    assert (first.decision.candidates[0].resident, second.decision.candidates[0].resident) == (False, True)
    assert second.decision.candidates[0].persistence == kernel.settings.selector.hot_bonus
    rates = kernel.books.rates()["a"]
    assert rates["load_s"] == pytest.approx(first.usage["load_s"], abs=1e-3)
    assert rates["answer_tokens.fact"] == 6
    assert rates["rss_bytes"] > 1_000_000
    assert 50 < rates["generate_tok_s"] < 250


def test_events_tell_the_turn_in_order(
    make_card: MakeCard, make_kernel: MakeKernel, home: Path, ask: Ask
) -> None:
    heard: list[Event] = []
    bus = EventBus()
    bus.subscribe(heard.append)
    cards = (make_card("a", prior=0.9, script={"crash_after": 1}), make_card("b", prior=0.5))
    kernel = make_kernel(*cards, bus=bus)
    reply = kernel.tick(ask(verify=lambda _text: 1.0))
    names = [type(event).__name__ for event in heard]
    assert names == [
        "TurnStarted",
        "Decided",
        "LoadStarted",
        "LoadFinished",
        "Unloaded",
        "CandidateFailed",
        "Decided",
        "LoadStarted",
        "LoadFinished",
        "StepTaken",
        "AtpSettled",
        "TurnEnded",
        "OutcomeRecorded",
    ]
    assert {event.turn_id for event in heard if type(event).__name__ != "Unloaded"} == {reply.turn_id}
    written = [json.loads(line) for line in (home / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in written] == names
    assert "Hamlet" not in (home / "events.jsonl").read_text()


# --- trust ---


def test_trust_is_learned_from_the_verifier(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(
        make_card("sure", prior=0.6, script={"answer": "Marlowe", "logprob": -0.001}),
        make_card("right", prior=0.5, script={"answer": "Shakespeare"}),
    )

    def verify(text: str) -> float:
        return float("Shakespeare" in text)

    first = kernel.tick(ask(verify=verify))
    assert first.model == "sure"
    (outcome,) = first.outcomes
    assert (outcome.candidate, outcome.quality, outcome.source) == ("sure", 0.0, "verifier")
    assert kernel.store.outcomes(first.turn_id) == [outcome]
    for _ in range(9):
        kernel.tick(ask(verify=verify))
    last = kernel.tick(ask(verify=verify))
    assert last.model == "right"
    scores = {score.name: score for score in last.decision.candidates}
    assert scores["sure"].evidence >= 1
    assert scores["sure"].expertise < 0.5


def test_the_verifier_s_word_is_not_used_to_choose_among_drafts(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(
        make_card("wrong", prior=0.9, script={"answer": "Marlowe", "logprob": -0.1}),
        make_card("right", prior=0.1, script={"answer": "Shakespeare"}),
    )
    assert kernel.tick(ask(verify=lambda text: float("Shake" in text))).answer == "Marlowe"


def test_the_same_outcome_counts_once(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a"))
    reply = kernel.tick(ask(verify=lambda _text: 0.0))
    assert evidence(kernel, "a") == (1.0, 0.0)
    assert kernel.learn(reply.outcomes[0]) is False
    assert evidence(kernel, "a") == (1.0, 0.0)
    thumbs = Outcome(
        event_id="user-1",
        turn_id=reply.turn_id,
        candidate="a",
        kind="fact",
        quality=1.0,
        source="user",
        at=reply.outcomes[0].at,
    )
    assert [kernel.learn(thumbs) for _ in range(3)] == [True, False, False]
    assert evidence(kernel, "a") == (pytest.approx(2.0), pytest.approx(0.5))


@pytest.mark.parametrize("says", [ZeroDivisionError("in the verifier"), math.nan, math.inf])
def test_a_verifier_that_fails_costs_no_answer(
    says: float | Exception, make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "kept"}))

    def verify(_text: str) -> float:
        if isinstance(says, Exception):
            raise says
        return says

    reply = kernel.tick(ask(verify=verify))
    assert (reply.answer, reply.outcomes) == ("kept", ())
    assert kernel.store.turns()[0].status == "done"


# --- failures ---

FAILS = {
    "crashes": ({"answer": "one two three four", "crash_after": 2}, WorkerDied),
    "hangs": ({"answer": "one two three four", "hang_after": 2}, DeadlineExceeded),
    "does not load": ({"load_error": "bad tensors"}, LoadFailed),
}


@pytest.mark.parametrize("how", FAILS)
def test_the_next_one_answers_when_the_best_fails(
    how: str, make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    script, error = FAILS[how]
    kernel = make_kernel(
        make_card("best", prior=0.9, script=script),
        make_card("next", prior=0.5, script={"answer": "fine"}),
        make_card("last", prior=0.1, script={"answer": "also fine"}),
        silence_timeout_s=0.3,
    )
    pieces: list[Piece] = []
    reply = kernel.tick(ask("Hamlet?"), on_piece=pieces.append)
    assert (reply.answer, reply.model) == ("fine", "next")
    assert (reply.decision.mode, reply.decision.chosen) == ("fallback", "next")
    assert "It failed" in reply.decision.reason
    (failure,) = reply.decision.failures
    assert (failure.name, failure.error) == ("best", error.__name__)
    assert reply.draft == 1
    assert "".join(piece.text for piece in pieces if piece.draft == reply.draft) == "fine"
    assert kernel.store.decision(reply.turn_id)["mode"] == "fallback"
    assert kernel.store.turn(reply.turn_id).answer == "fine"
    assert set(kernel.host.resident()) == {"next"}
    if how == "hangs":
        assert reply.atp["spent"] > 0.3  # the time it hung is charged too


@pytest.mark.parametrize("how", FAILS)
def test_a_typed_error_when_all_fail(
    how: str, make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    script, error = FAILS[how]
    cards = [make_card(name, script=script) for name in "ab"]
    kernel = make_kernel(*cards, silence_timeout_s=0.3)
    with pytest.raises(error):
        kernel.tick(ask("Hamlet?"))
    turn = kernel.store.turns()[0]
    assert turn.status == "failed"
    assert turn.error.startswith(error.__name__)
    assert turn.answer == ("" if how == "does not load" else "one two")
    assert 0 < turn.atp["spent"] < turn.atp["granted"]
    assert [f["name"] for f in kernel.store.decision(turn.id)["failures"]] == ["a", "b"]


def test_different_failures_are_all_named(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(
        make_card("a", script={"crash_after": 0}), make_card("b", script={"load_error": "bad tensors"})
    )
    with pytest.raises(NoCandidate, match=r"a: .*SIGSEGV.*b: bad tensors"):
        kernel.tick(ask())


def test_a_request_that_is_wrong_is_not_passed_on(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", prior=0.9, script={"error": "bad grammar"}), make_card("b"))
    with pytest.raises(UsageError, match="bad grammar"):
        kernel.tick(ask())
    assert set(kernel.host.resident()) == {"a"}
    assert kernel.store.turns()[0].status == "failed"


def test_an_unknown_model_is_not_found_and_nothing_is_charged(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("smollm"))
    before = kernel.books.balance()
    with pytest.raises(ModelNotFound, match="Did you mean 'smollm'"):
        kernel.tick(ask(model="smolm"))
    assert kernel.books.balance() == before
    assert kernel.store.turns()[0].status == "failed"


def test_a_deadline_returns_what_there_is_and_spares_the_worker(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    cards = [make_card(name, script={"answer": "word " * 500, "token_s": 0.05}) for name in "ab"]
    kernel = make_kernel(*cards)
    kernel.tick(ask(max_tokens=2))  # loads one, and measures
    kernel.books.measure("a", [("generate_tok_s", 1e6), ("answer_tokens.fact", 1.0)])
    (loaded,) = kernel.host.resident()
    started = time.monotonic()
    reply = kernel.tick(ask(deadline_s=0.6, model=loaded))
    assert time.monotonic() - started < 1.6
    assert reply.answer.startswith("word word")
    assert (reply.finish_reason, reply.irp["halt_reason"]) == ("deadline", "deadline")
    assert (reply.irp["steps"], reply.outcomes) == (1, ())
    assert kernel.store.turns()[0].status == "done"
    assert 0.4 < reply.atp["spent"] < 1.6
    assert list(kernel.host.resident()) == [loaded]


def test_a_deadline_before_the_first_word_is_typed(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"hang_after": 0}))
    with pytest.raises(DeadlineExceeded):
        kernel.tick(ask(deadline_s=0.8))
    assert kernel.store.turns()[0].status == "failed"


# --- ATP ---


def test_atp_are_granted_spent_and_refunded(
    make_card: MakeCard, make_kernel: MakeKernel, home: Path, ask: Ask, accounts: Accounts
) -> None:
    atp = AtpSettings(capacity=50.0, recovery_per_s=0.0, grant=20.0)
    kernel = make_kernel(make_card("a", script={"token_s": 0.02}), settings=Settings(atp=atp))
    assert kernel.books.balance() == 50.0
    reply = kernel.tick(ask())
    worked = reply.usage["load_s"] + reply.usage["run_s"]
    assert worked < reply.atp["granted"] < 20.0  # what the drafts may cost, not all there is
    assert reply.atp["spent"] == pytest.approx(worked, abs=1e-3)
    assert reply.atp["balance"] == pytest.approx(50.0 - worked, abs=1e-3)
    second = kernel.tick(ask())
    assert second.atp["balance"] == pytest.approx(reply.atp["balance"] - second.atp["spent"], abs=1e-5)
    assert accounts()["spent"] == round((50.0 - second.atp["balance"]) * 1e6)


def test_an_empty_budget_refuses_and_says_so(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    atp = AtpSettings(capacity=0.01, recovery_per_s=0.0, grant=20.0)
    kernel = make_kernel(make_card("a"), settings=Settings(atp=atp))
    with pytest.raises(BudgetSpent, match="ATP") as caught:
        kernel.tick(ask())
    assert (caught.value.exit_code, caught.value.http_status) == (4, 429)
    assert kernel.host.resident() == {}
    turn = kernel.store.turns()[0]
    assert (turn.status, turn.atp["spent"]) == ("failed", 0.0)


def test_nobody_is_asked_beyond_the_grant(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    atp = AtpSettings(capacity=50.0, recovery_per_s=0.0, grant=3.0)
    doubtful = {"answers": ["Perhaps", "Hardly"], "logprob": -2.0, "token_s": 0.4}
    kernel = make_kernel(
        make_card("a", prior=0.6, script=doubtful),
        make_card("b", prior=0.5, script=doubtful),
        settings=Settings(atp=atp, irp=IrpSettings(max_steps=10)),
    )
    kernel.books.measure("a", [("load_s", 0.1)])
    kernel.books.measure("b", [("load_s", 2.4)])  # within the grant, but not within what a leaves of it
    reply = kernel.tick(ask(max_tokens=10))
    assert {score.name for score in reply.decision.candidates} == {"a", "b"}
    assert (reply.model, reply.irp["steps"], reply.irp["halt_reason"]) == ("a", 2, "exhausted")
    assert set(kernel.host.resident()) == {"a"}


# --- memory ---


def test_the_session_is_recalled_and_no_other(
    make_card: MakeCard, make_kernel: MakeKernel, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a"))
    seen: list[tuple[tuple[str, str], ...]] = []
    real = kernel.host.ask

    def spy(card: ModelCard, request: object, *args: object, **more: object) -> object:
        seen.append(tuple((m.role, m.content) for m in request.messages))  # type: ignore[attr-defined]
        return real(card, request, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(kernel.host, "ask", spy)
    kernel.tick(ask("My name is Ada."))
    kernel.tick(ask("unrelated", session="other"))
    system = Message(role="system", content="Be brief.")
    reply = kernel.tick(ask("What is my name?", messages=(system, Message(role="user", content="Name?"))))
    assert seen[-1] == (
        ("system", "Be brief."),
        ("user", "My name is Ada."),
        ("assistant", "You said: My name is Ada."),
        ("user", "Name?"),
    )
    assert seen[1] == (("user", "unrelated"),)
    assert reply.answer == "You said: Name?"

    kernel.tick(ask("long " * 1500, max_tokens=150))  # leaves room for the newest turn only
    assert [content for _, content in seen[-1][:-1]] == ["Name?", "You said: Name?"]
    kernel.tick(ask("And now?", max_tokens=1900))  # 2048 less 1900 leaves no room for the long one
    assert seen[-1] == (("user", "And now?"),)


def test_a_failed_turn_is_not_recalled(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a", script={"crash_after": 1}))
    with pytest.raises(WorkerDied):
        kernel.tick(ask("remember me"))
    assert kernel.store.history("s", turns=9) == ()


def test_a_server_that_says_nothing_is_not_paid(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a worker of ours gives up after the same time, that time was spent."""

    def hung(*_args: object, **_options: object) -> None:
        time.sleep(0.1)
        raise RemoteFailed("nothing came", silent_s=0.1)

    def spent(card: ModelCard) -> float:
        kernel = make_kernel(card)
        monkeypatch.setattr(kernel.host, "ask", hung)
        with pytest.raises(RemoteFailed):
            kernel.tick(ask(f"to {card.name}"))
        return float(kernel.store.turns(limit=1)[0].atp["spent"])

    served = make_card("served", backend="openai_http", source="openai:http://127.0.0.1:1/v1#m", bytes=0)
    assert spent(served) == 0.0
    assert spent(make_card("ours")) >= 0.1
