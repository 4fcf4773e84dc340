"""Drafts for one turn: whom to ask next, asking, and passing on when somebody fails.

Owns: the attempts of a turn, what they cost, and who may still be asked. Must not know: when a draft is good
enough, or whether another is worth its price.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sage.clock import Clock
from sage.economy.ledger import price
from sage.errors import ContextTooLong
from sage.events import CandidateFailed, Decided, EventBus, StepTaken
from sage.irp.plugins.language import Draft, Drafts, Opinion
from sage.kernel.candidates import answer_tokens
from sage.kernel.remembering import fitting, lighter, with_quotes
from sage.kernel.turn import Turn
from sage.kernel.weighing import Weighing
from sage.memory.patterns import Judged
from sage.memory.verbatim import VerbatimStore
from sage.types import ANY_KIND, Completion, Decision, Failure, GenerationRequest, Piece
from sage.zoo.card import ModelCard
from sage.zoo.fallback import first_that_answers
from sage.zoo.host import Answer, Host

__all__ = ["Drafting", "OnPiece", "announce"]

ATTENTION_S = 60.0
"""Seconds that all the salience there is counts for where requests wait for a model: the most salient is
taken up first, and nothing waits for ever."""

OnPiece = Callable[[Piece], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drafting:
    """Asks the candidates of one turn's decision; models are loaded with room for ``context_tokens`` at
    most."""

    turn: Turn
    weighing: Weighing
    context_tokens: int
    catalog: Mapping[str, ModelCard]
    host: Host
    store: VerbatimStore
    bus: EventBus
    clock: Clock
    on_piece: OnPiece
    cancelled: threading.Event

    def next_model(self, drafts: Drafts, atp_left: float) -> str | None:
        """Whoever was chosen; then whose opinion is worth most beyond its price, of those that have not
        answered; when nobody is left, the first again, if its answer was none or it doubted it itself. Never
        beyond the ATP or the time that is left."""
        standing = self._standing()
        if not drafts:
            return standing[0] if standing else None
        asked = [draft.model for draft in drafts]
        left = self.turn.seconds_left(self.clock.monotonic())
        allowed = {
            score.name
            for score in self.turn.decided.candidates
            if score.name in standing
            and score.est_atp <= atp_left
            and (left is None or score.est_load_s + score.est_run_s < left)
        }
        if fresh := allowed.difference(asked):
            return self.weighing.next_model(drafts, fresh)
        again = asked[0] in allowed and asked.count(asked[0]) == 1 and self.weighing.doubtful(drafts)
        return asked[0] if again else None

    def again(self, judged: Judged) -> Draft:
        """An earlier answer as a draft that nobody had to write."""
        turn = self.turn
        self.on_piece(Piece(draft=turn.attempts, model=judged.model, text=judged.text))
        turn.answered.append(judged.model)
        turn.attempts += 1
        completion = Completion(text=judged.text, prompt_tokens=0, completion_tokens=0, finish_reason="stop")
        return Draft(
            model=judged.model,
            completion=completion,
            attempt=turn.attempts - 1,
            valid=True,
            remembered=True,
        )

    def ask(self, model: str, step: int, temperature: float) -> Opinion:
        """Ask this model; when it fails, those that rank after it and have not answered."""
        standing = self._standing()
        names = [name for name in standing[standing.index(model) :] if name not in self.turn.answered]
        before = self.turn.spent
        name, completion = first_that_answers(
            names if model in names else [model],
            lambda name: self._attempt(name, step, temperature),
            self._failed,
        )
        self.turn.answered.append(name)
        return Opinion(
            model=name,
            completion=completion,
            attempt=self.turn.attempts - 1,
            atp=self.turn.spent - before,
        )

    def _standing(self) -> list[str]:
        """Candidates that have not failed in this turn: the chosen one, then the others, best first."""
        decision = self.turn.decided
        gone = {failure.name for failure in decision.failures}
        names = [score.name for score in decision.candidates if score.name not in gone]
        return sorted(names, key=lambda name: name != decision.chosen)

    def _attempt(self, name: str, step: int, temperature: float) -> Completion:
        """Ask one model once; what it took is counted, also when it fails."""
        turn, situation = self.turn, self.turn.situation
        draft = turn.attempts
        turn.attempts += 1

        def on_text(text: str) -> None:
            piece = Piece(draft=draft, model=name, text=text)
            turn.partial.append(piece)
            self.on_piece(piece)

        started = self.clock.monotonic()
        answer = self._answer(name, step, temperature, on_text)
        completion = answer.completion
        turn.load_s += answer.load_s
        turn.run_s += completion.run_s
        turn.prompt_tokens += completion.prompt_tokens
        turn.completion_tokens += completion.completion_tokens
        turn.spent += price(seconds=answer.load_s, bytes_moved=answer.load_bytes)
        turn.spent += price(seconds=completion.run_s)
        measured = [
            ("load_s", answer.load_s or None),
            ("rss_bytes", float(answer.resident_bytes) or None),
            # A worker's first grammar takes seconds to build, which is no rate of reading.
            ("prompt_tok_s", completion.prompt_tok_s if situation.schema is None else None),
            ("generate_tok_s", completion.generate_tok_s),
            (answer_tokens(situation.kind), float(completion.completion_tokens) or None),
            (answer_tokens(ANY_KIND), float(completion.completion_tokens) or None),
        ]
        if completion.ended:
            turn.measured.append((name, measured))
        self.bus.emit(
            StepTaken(
                turn_id=turn.id,
                step=step,
                model=name,
                seconds=self.clock.monotonic() - started,
                tokens=completion.completion_tokens,
            )
        )
        return completion

    def _answer(self, name: str, step: int, temperature: float, on_text: Callable[[str], None]) -> Answer:
        """Ask with as much of what memory brought as fits; our count of tokens is a guess, so when the model
        says that it is too much, some of it goes."""
        turn, situation, card = self.turn, self.turn.situation, self.catalog[name]
        system = tuple(m for m in situation.messages if m.role == "system")
        conversation = tuple(m for m in situation.messages if m.role != "system")
        room = card.room(self.context_tokens)
        budget = room - situation.prompt_tokens - situation.max_tokens
        brought = fitting(turn.brought, budget)
        worked = not card.remote

        def hear(text: str) -> None:
            nonlocal worked
            worked = True
            on_text(text)

        while True:
            request = GenerationRequest(
                messages=(*system, *brought.history, *with_quotes(conversation, brought.quotes)),
                max_tokens=situation.max_tokens,
                temperature=temperature,
                seed=(situation.seed or 0) + step,
                stop=situation.stop,
                schema=situation.schema,
                deadline_s=turn.seconds_left(self.clock.monotonic()),
            )
            began = self.clock.monotonic()
            try:
                return self.host.ask(
                    card,
                    request,
                    hear,
                    should_stop=self.cancelled.is_set,
                    turn_id=turn.id,
                    head_start_s=ATTENTION_S * turn.salience,
                )
            except BaseException as error:
                # Nobody works while a server says nothing.
                if worked:
                    turn.spent += price(seconds=self.clock.monotonic() - began)
                if not (brought.history or brought.quotes) or not isinstance(error, ContextTooLong):
                    raise
                brought = lighter(brought)

    def _failed(self, failure: Failure) -> None:
        """Note a failure in the decision; when the chosen one failed, say who answers instead."""
        turn = self.turn
        decision = turn.decided
        self.bus.emit(
            CandidateFailed(turn_id=turn.id, model=failure.name, error=failure.error, message=failure.message)
        )
        turn.decision = replace(decision, failures=(*decision.failures, failure))
        rest = self._standing()
        if decision.chosen == failure.name and rest:
            reason = f"{decision.reason} It failed ({failure.message}), so {rest[0]} answers."
            turn.decision = replace(turn.decision, chosen=rest[0], mode="fallback", reason=reason)
            self.store.record_decision(turn.id, turn.decision)
            announce(turn, turn.decision, self.bus)
        else:
            self.store.record_decision(turn.id, turn.decision)


def announce(turn: Turn, decision: Decision, bus: EventBus) -> None:
    """Tell of a decision."""
    chosen = next(score for score in decision.candidates if score.name == decision.chosen)
    bus.emit(
        Decided(
            turn_id=turn.id,
            model=decision.chosen,
            mode=decision.mode,
            reason=decision.reason,
            permission=chosen.permission,
        )
    )
