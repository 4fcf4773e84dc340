"""One tick: every request takes this way, from wherever it comes.

Owns: the order of the steps, and that each turn ends with balanced books whatever happens between them.
Must not know: terminals, HTTP, or how a model runs.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sage.clock import Clock
from sage.config import Settings
from sage.economy.context import Context
from sage.economy.regime import LEAST_GRANT, drafts_allowed, grant_for
from sage.economy.selector import FrontierPoint
from sage.errors import BudgetSpent, DeadlineExceeded, Interrupted, SageError, StoreError
from sage.events import AtpSettled, EventBus, OutcomeRecorded, StateChanged, TurnEnded, TurnStarted
from sage.irp.engine import refine
from sage.irp.plugins.language import Draft, Drafts, LanguagePlugin
from sage.irp.protocol import Limits, Refined
from sage.kernel.choosing import Choosing, Surroundings
from sage.kernel.drafting import Drafting, OnPiece, announce
from sage.kernel.experience import (
    expected_of,
    given_again,
    judged_before,
    question_of,
    refinement_of,
    remembering,
)
from sage.kernel.judge import judge
from sage.kernel.learning import Lesson, learn, learn_from
from sage.kernel.remembering import Heard, bring_back, salience_of
from sage.kernel.sense import Request, asked_for, labels, sense
from sage.kernel.stores import Stores
from sage.kernel.turn import Reply, Turn
from sage.kernel.vitals import Condition, Vitals
from sage.kernel.weighing import Weighing, accept_at
from sage.memory.books import Ending
from sage.memory.locate import telling_text
from sage.memory.patterns import UNKNOWN
from sage.memory.verbatim import TurnStatus
from sage.types import Decision, MetabolicState, Outcome, Situation, new_id
from sage.zoo.card import ModelCard
from sage.zoo.catalog import find_card
from sage.zoo.host import Host

__all__ = ["Kernel"]

_ACTIVE: set[str] = set()
"""The turns that kernels of this process are working on: a stored turn that runs and is not among them was
left behind by an error while its end was written."""

GRACE_S = 1.0
"""What a cancelled step gets to end, beyond the time after which its worker is killed."""


class Kernel:
    """Answers requests. Build one with ``sage.kernel.session.open_kernel``."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Mapping[str, ModelCard],
        host: Host,
        stores: Stores,
        vitals: Vitals,
        surroundings: Surroundings,
        bus: EventBus,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.host = host
        self.stores = stores
        self.store = stores.turns
        self.books = stores.books
        self.trust = stores.trust
        self.opinions = stores.opinions
        self.vitals = vitals
        self.bus = bus
        self.clock = clock
        self.choosing = Choosing(
            settings=settings,
            catalog=catalog,
            host=host,
            books=stores.books,
            trust=stores.trust,
            surroundings=surroundings,
            clock=clock,
        )
        self._running: dict[str, Turn] = {}
        self._state: MetabolicState | None = None

    def tick(
        self,
        request: Request,
        *,
        on_piece: OnPiece = lambda _piece: None,
        cancelled: threading.Event | None = None,
    ) -> Reply:
        """Sense, feel, recall, choose, refine, judge, settle.

        Setting ``cancelled`` stops the generation and returns what there is.

        Raises:
            SageError: typed; the turn is stored as failed and its ATP are settled.
            KeyboardInterrupt: passed on after the partial answer is stored and settled.
        """
        cancelled = cancelled or threading.Event()
        situation = self._sense(request)
        turn = Turn(id=new_id("turn"), situation=situation, started=self.clock.monotonic())
        _ACTIVE.add(turn.id)
        self._running[turn.id] = turn
        try:
            self._begin(turn)
            condition = self._feel(turn)
            self._recall(turn)
            context = self._locate(turn)
            self._choose(turn, context, request, condition)
            weighing = self._weighing(turn)
            refined = self._refine(turn, context, weighing, condition, on_piece, cancelled)
            drafts = refined.latest or ()
            outcomes = judge(turn, drafts, verify=request.verify, now=self.clock.time())
            return self._settle(turn, context, drafts, weighing, refined, outcomes)
        except BaseException as error:
            self._abort(turn, error)
            raise
        finally:
            _ACTIVE.discard(turn.id)
            del self._running[turn.id]

    def learn(self, outcome: Outcome) -> bool:
        """Record an outcome once and let trust learn from it; False when it was known."""
        learned = learn(outcome, self.catalog.get(outcome.candidate), self.stores)
        if learned:
            self._tell(outcome)
        return learned

    def frontier(self, request: Request) -> tuple[FrontierPoint, ...]:
        """Who would be chosen at each setting of the dial; nothing is asked, loaded or stored.

        Raises:
            SageError: typed; the request is wrong, or no candidate is left.
        """
        situation = self._sense(request)
        context = self.trust.locator.locate(telling_text(situation.prompt, ()), labels(situation))
        return self.choosing.frontier(situation, context)

    def anticipate(self) -> None:
        """Load ahead what the next requests will want, where the state allows work that nobody waits for.
        Returns at once."""
        if self.vitals.look().regime.background != "none":
            self.choosing.anticipate(self._busy())

    def tidy(self) -> None:
        """Give up turns whose process is gone or whose end could not be written, and give back what they
        hold."""
        self.store.abandon_dead(active=_ACTIVE)
        self.books.release_ended()

    def _busy(self) -> set[str]:
        return {turn.decision.chosen for turn in list(self._running.values()) if turn.decision}

    def _sense(self, request: Request) -> Situation:
        models, memory = self.settings.models, self.settings.memory
        return sense(request, default_max_tokens=models.max_tokens, default_namespace=memory.namespace)

    def _begin(self, turn: Turn) -> None:
        """Store the question."""
        self.tidy()
        self.store.begin(turn.id, turn.situation)
        self.bus.emit(
            TurnStarted(
                turn_id=turn.id,
                kind=turn.situation.kind,
                session=turn.situation.session,
                prompt_tokens=turn.situation.prompt_tokens,
            )
        )

    def _feel(self, turn: Turn) -> Condition:
        """How much the request matters, and in which state the system takes it up."""
        turn.salience = salience_of(turn.situation, self.stores, now=self.clock.time())
        condition = self.vitals.update(salience=turn.salience, queue=len(self._running))
        turn.state = condition.standing.state
        if turn.state != self._state:
            if self._state is not None:
                self.bus.emit(StateChanged(turn_id=turn.id, state=turn.state, why=condition.standing.why))
            self._state = turn.state
        return condition

    def _recall(self, turn: Turn) -> None:
        """What memory gives, in the room that the prompt and the answer leave. Before choosing, because
        reading it is part of the price."""
        situation, settings = turn.situation, self.settings
        room = settings.models.context - situation.prompt_tokens - situation.max_tokens
        turn.brought = bring_back(situation, self.stores, room=room, most=settings.memory.recall_tokens)
        turn.situation = replace(situation, context_tokens=turn.brought.tokens)
        turn.question = question_of(situation, turn.brought)
        if settings.memory.patterns:
            turn.judged = judged_before(turn.question, situation, turn.brought, self.stores)

    def _locate(self, turn: Turn) -> Context:
        """Where this piece of work lies among all others. Told from what was asked alone: what memory holds
        does not lead the choice."""
        before = [message.content for message in turn.brought.history if message.role == "user"]
        text = telling_text(turn.situation.prompt, before)
        return self.trust.locator.locate(text, labels(turn.situation))

    def _choose(self, turn: Turn, context: Context, request: Request, condition: Condition) -> None:
        """The decision, and the ATP set aside for it."""
        pinned, dial = asked_for(request, default_dial=self.settings.selector.dial)
        if pinned is not None:
            pinned = find_card(self.catalog, pinned).name
        regime = condition.regime
        turn.decision = self.choosing.choose(
            turn.situation,
            context,
            pinned=pinned,
            dial=dial,
            judged=request.verify is not None,
            state=condition.standing.state,
            regime=regime,
            busy=self._busy(),
        )
        if pinned is None and (again := given_again(turn.judged, turn.decision)):
            turn.again, turn.decision = again, remembering(turn.decision, again)
        # Twice what the drafts should cost, so that many turns can run side by side; what a turn takes
        # beyond its grant is charged too.
        most = drafts_allowed(self.settings.irp.max_steps, regime)
        prices = [score.est_atp for score in turn.decided.candidates[:most]]
        want = max(LEAST_GRANT, 2.0 * sum(prices))
        if turn.situation.max_atp is not None:
            want = min(want, turn.situation.max_atp)
        turn.ceiling = grant_for(
            math.inf,
            usual=self.settings.atp.grant,
            salience=turn.salience,
            regime=regime,
            balance=math.inf,  # the books see to it
        )
        want = min(want, turn.ceiling)
        need = 0.0 if turn.again else min(prices[0], want, LEAST_GRANT)
        with self.stores.db.transaction():
            self.trust.note(turn.id, context, labels(turn.situation))
            turn.granted = self._grant(turn, want=want, need=need)
            self.store.record_decision(turn.id, turn.decided)
        announce(turn, turn.decided, self.bus)

    def _grant(self, turn: Turn, *, want: float, need: float) -> float:
        """The ATP that the books grant; an answer that is given again needs none."""
        try:
            return self.books.grant(turn.id, want=want, need=need)
        except BudgetSpent:
            if turn.again is None:
                raise
            return 0.0

    def _weighing(self, turn: Turn) -> Weighing:
        """What is known of the candidates' answers before any of them is asked."""
        names = [score.name for score in turn.decided.candidates]
        evidence = self.opinions.evidence(names)
        known = {each.text: each.quality for each in turn.judged}
        return Weighing(turn.decided, evidence, schema=turn.situation.schema is not None, known=known)

    def _refine(
        self,
        turn: Turn,
        context: Context,
        weighing: Weighing,
        condition: Condition,
        on_piece: OnPiece,
        cancelled: threading.Event,
    ) -> Refined[Drafts]:
        """Draft until the answer is good enough, no opinion is worth its price, or the ATP are spent."""
        drafting = Drafting(
            turn=turn,
            weighing=weighing,
            context_tokens=self.settings.models.context,
            catalog=self.catalog,
            host=self.host,
            store=self.store,
            bus=self.bus,
            clock=self.clock,
            on_piece=on_piece,
            cancelled=cancelled,
        )
        situation, irp = turn.situation, self.settings.irp
        expected = expected_of(context, situation, self.stores) if self.settings.memory.patterns else UNKNOWN
        plugin = LanguagePlugin(
            ask=drafting.ask,
            next_model=drafting.next_model,
            weigh=weighing.weigh,
            temperature=situation.temperature,
            remembered=drafting.again(turn.again) if turn.again else None,
        )
        asked = turn.decided.rule
        left = turn.seconds_left(self.clock.monotonic())
        grace = self.settings.models.stop_timeout_s + GRACE_S
        limits = Limits(
            max_steps=expected.limit(drafts_allowed(irp.max_steps, condition.regime)),
            atp=self._allowance(turn),
            # The worker keeps the deadline itself and returns what there is; this one is for a hung step.
            seconds=(self.settings.models.answer_timeout_s if left is None else left) + grace,
            accept=accept_at(irp.accept_energy, asked.dial if asked else self.settings.selector.dial),
            epsilon=irp.epsilon,
            grace=grace,
        )
        refined = refine(plugin, limits, cancelled=cancelled, clock=self.clock)
        if not refined.latest:
            raise refined.error or _no_draft(refined.halt_reason, limits.seconds)
        return refined

    def _allowance(self, turn: Turn) -> float:
        """ATP that the drafts may take in all. A first answer may be longer than expected and worth little:
        the next opinion is not refused for that while the books can pay it."""
        most = turn.ceiling
        if turn.situation.max_atp is not None:
            most = min(most, turn.situation.max_atp)
        return min(most, turn.granted + self.books.balance())

    def _settle(
        self,
        turn: Turn,
        context: Context,
        drafts: Drafts,
        weighing: Weighing,
        refined: Refined[Drafts],
        outcomes: tuple[Outcome, ...],
    ) -> Reply:
        """Ledger, memory, events, trust; then the reply.

        The turn is closed before anything is learned from it: no answer is lost because learning fails.
        """
        decision = turn.decided
        best = drafts[weighing.weigh(drafts).best]
        if best.model != decision.chosen:
            reason = (
                f"{best.model} after {refined.steps} drafts: its answer is the likeliest to be right. "
                f"First chosen was {decision.chosen}: {decision.reason}"
            )
            decision = replace(decision, chosen=best.model, mode="escalated", reason=reason)
            announce(turn, decision, self.bus)
        finish = best.completion.finish_reason
        stopped = finish == "cancelled"
        irp = {
            "steps": refined.steps,
            "energy": [round(energy, 4) for energy in refined.energies],
            "halt_reason": finish if finish in ("cancelled", "deadline") else refined.halt_reason,
            "opinions": weighing.explain(drafts),
            "state": turn.state,
            "salience": round(turn.salience, 4),
            "recalled": list(turn.brought.shown),
            "remembered": turn.again.turn_id if turn.again else None,
        }
        text = best.completion.text
        status: TurnStatus = "interrupted" if stopped else "done"
        lesson = Lesson(
            drafts=drafts,
            outcomes=outcomes,
            heard=_heard(drafts, weighing, outcomes, best),
            refinement=None if stopped else refinement_of(drafts, weighing, context, turn.question),
        )
        try:
            atp = self._close(turn, status, text, best.model, decision=decision, irp=irp, lesson=lesson)
        except StoreError as error:  # an answer that was paid for is not withheld
            logging.getLogger(__name__).warning("This answer could not be kept: %s", error.message)
            atp = {}
        return Reply(
            turn_id=turn.id,
            answer=text,
            model=best.model,
            draft=best.attempt,
            decision=decision,
            irp=irp,
            usage=turn.usage(),
            atp=atp,
            outcomes=outcomes,
            finish_reason=finish,
        )

    def _abort(self, turn: Turn, error: BaseException) -> None:
        """Keep what there is of an answer, and balance the books."""
        model = turn.partial[-1].model if turn.partial else ""
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        status: TurnStatus = "interrupted" if stopped else "failed"
        # Where even that cannot be written, the next tick gives back what the turn holds.
        with suppress(StoreError):
            self._close(turn, status, turn.partial_text(), model, error=f"{type(error).__name__}: {error}")

    def _close(
        self,
        turn: Turn,
        status: TurnStatus,
        answer: str,
        model: str,
        *,
        decision: Decision | None = None,
        irp: Mapping[str, Any] | None = None,
        error: str = "",
        lesson: Lesson | None = None,
    ) -> dict[str, float]:
        """End the turn; whatever happened to it before, it is settled and stored once, and all that learns
        from it does so in the same transaction. What cannot be learned from costs no answer."""
        turn.wall_s = self.clock.monotonic() - turn.started
        ending = Ending(status=status, answer=answer, model=model, usage=turn.usage(), irp=irp, error=error)
        learned: list[Outcome] = []
        with self.trust.together():
            atp = self.books.close(turn.id, granted=turn.granted, spent=turn.spent, ending=ending)
            if atp is None:
                return {}
            if decision is not None and decision != turn.decision:
                self.store.record_decision(turn.id, decision)
            for name, rates in turn.measured:
                self.books.measure(name, rates)
            if lesson is not None:
                learned = learn_from(lesson, turn, self.catalog, self.stores, now=self.clock.time())
        self.bus.emit(AtpSettled(turn_id=turn.id, **atp))
        self.bus.emit(TurnEnded(turn_id=turn.id, status=status, model=model, seconds=turn.wall_s))
        for outcome in learned:
            self._tell(outcome)
        return atp

    def _tell(self, outcome: Outcome) -> None:
        self.bus.emit(
            OutcomeRecorded(
                turn_id=outcome.turn_id,
                model=outcome.candidate,
                kind=outcome.kind,
                quality=outcome.quality,
                source=outcome.source,
            )
        )


def _heard(drafts: Drafts, weighing: Weighing, outcomes: tuple[Outcome, ...], best: Draft) -> Heard:
    """What the drafts say of how surprising and how disputed the answer is."""
    opinions = weighing.explain(drafts)
    kept = next(row for draft, row in zip(drafts, opinions, strict=True) if draft is best)
    return Heard(
        expected=weighing.trust(best.model),
        found=next((each.quality for each in outcomes if each.candidate == best.model), None),
        disagree=sum(row["group"] != kept["group"] for row in opinions) / len(opinions),
    )


def _no_draft(halt_reason: str, seconds: float) -> SageError:
    """The error for a refinement that ended without an error and without a draft."""
    if halt_reason == "hung":
        return DeadlineExceeded(f"No answer came within {seconds:.1f} s.", mend="Allow more time")
    if halt_reason == "cancelled":
        return Interrupted("It was stopped before anything was answered.")
    return SageError(f"No draft was made ({halt_reason}).")
