"""One tick: every request takes this way, from wherever it comes.

Owns: the order of the steps, and that each turn ends with balanced books whatever happens between them.
Must not know: terminals, HTTP, or how a model runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sage.clock import Clock
from sage.config import Settings
from sage.economy.context import Context
from sage.economy.demand import Demand
from sage.economy.filters import Limits as Spending
from sage.economy.pool import Pool
from sage.economy.selector import FrontierPoint, Selector
from sage.errors import DeadlineExceeded, Interrupted, SageError
from sage.events import AtpSettled, EventBus, OutcomeRecorded, TurnEnded, TurnStarted
from sage.irp.engine import refine
from sage.irp.plugins.language import Drafts, LanguagePlugin
from sage.irp.protocol import Limits, Refined
from sage.kernel.candidates import USUAL, Found, Pricing, candidate
from sage.kernel.dearness import Dearness
from sage.kernel.drafting import Drafting, OnPiece, announce
from sage.kernel.judge import judge
from sage.kernel.learning import Stores, keep, learn
from sage.kernel.sense import Request, asked_for, count_tokens, labels, sense
from sage.kernel.teaching import teach
from sage.kernel.turn import Reply, Turn
from sage.kernel.weighing import Weighing, accept_at
from sage.memory.books import Ending
from sage.memory.locate import telling_text
from sage.memory.recall import recall_session
from sage.memory.verbatim import TurnStatus
from sage.types import Candidate, Message, Outcome, Situation, new_id
from sage.zoo.card import ModelCard
from sage.zoo.catalog import find_card
from sage.zoo.host import Host

__all__ = ["Kernel", "Surroundings"]

LEAST_GRANT = 1.0
"""ATP: below this a prediction is mostly noise."""

LEAST_FEEDBACK = 0.1
"""Share of recent turns that must have been judged before a model is tried in order to learn."""

_ACTIVE: set[str] = set()
"""The turns that kernels of this process are working on: a stored turn that runs and is not among them was
left behind by an error while its end was written."""

GRACE_S = 1.0
"""What a cancelled step gets to end, beyond the time after which its worker is killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the kernel asks of the machine, as functions, so that tests decide the answers."""

    look: Callable[[ModelCard], Found]
    free_bytes: Callable[[], int]
    disk_bytes_s: Callable[[], float]


class Kernel:
    """Answers requests. Build one with ``sage.kernel.session.open_kernel``."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Mapping[str, ModelCard],
        host: Host,
        stores: Stores,
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
        self.bus = bus
        self.clock = clock
        self._surroundings = surroundings
        self._random = np.random.default_rng()
        self._demand = Demand()
        self._dearness = Dearness(settings.selector)
        self._running: dict[str, Turn] = {}

    def tick(
        self,
        request: Request,
        *,
        on_piece: OnPiece = lambda _piece: None,
        cancelled: threading.Event | None = None,
    ) -> Reply:
        """Sense, recall, choose, refine, judge, settle.

        Setting ``cancelled`` stops the generation and returns what there is.

        Raises:
            SageError: typed; the turn is stored as failed and its ATP are settled.
            KeyboardInterrupt: passed on after the partial answer is stored and settled.
        """
        cancelled = cancelled or threading.Event()
        situation = sense(request, default_max_tokens=self.settings.models.max_tokens)
        turn = Turn(id=new_id("turn"), situation=situation, started=self.clock.monotonic())
        _ACTIVE.add(turn.id)
        self._running[turn.id] = turn
        try:
            self._begin(turn)
            context = self._recall(turn)
            self._choose(turn, self._locate(turn, context), request)
            weighing = self._weighing(turn)
            refined = self._refine(turn, context, weighing, on_piece, cancelled)
            drafts = refined.latest or ()
            outcomes = judge(turn, drafts, verify=request.verify, now=self.clock.time())
            return self._settle(turn, drafts, weighing, refined, outcomes)
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
            self.bus.emit(
                OutcomeRecorded(
                    turn_id=outcome.turn_id,
                    model=outcome.candidate,
                    kind=outcome.kind,
                    quality=outcome.quality,
                    source=outcome.source,
                )
            )
        return learned

    def frontier(self, request: Request) -> tuple[FrontierPoint, ...]:
        """Who would be chosen at each setting of the dial; nothing is asked, loaded or stored.

        Raises:
            SageError: typed; the request is wrong, or no candidate is left.
        """
        situation = sense(request, default_max_tokens=self.settings.models.max_tokens)
        context = self.trust.locator.locate(telling_text(situation.prompt, ()), labels(situation))
        pricing, limits = self._pricing(), self._limits(pinned=None)
        selector = self._selector(pricing)
        pool = Pool(self._candidates(situation, pinned=None, pricing=pricing))
        with self.trust.book() as book:
            return selector.frontier(
                situation,
                context,
                pool,
                book,
                limits=limits,
                now=self.clock.time(),
                demand=self._demand,
            )

    def anticipate(self) -> None:
        """Have the model loaded that would have served the last requests best, where they have paid for it
        and nothing else is going on. Returns at once."""
        unit, free = self.settings.selector.price_unit, self._surroundings.free_bytes()
        with self.trust.book():
            held = self._held()
            worth = self._demand.worth(held)
            wanted = self._demand.wanted(held, unit=unit, free_bytes=free)
        self.host.appraise(worth | dict([wanted] if wanted else []))
        if wanted and wanted[0] in self.catalog:
            self.host.prefetch(self.catalog[wanted[0]])

    def _held(self) -> set[str]:
        """Who is in memory, is being loaded, or was just chosen, which the host may not know yet: a model
        whose worth it is not told goes before all others."""
        chosen = {turn.decision.chosen for turn in list(self._running.values()) if turn.decision}
        return chosen.union(model.name for model in self.host.picture.models if not model.leaves)

    def _begin(self, turn: Turn) -> None:
        """Store the question; give back what turns hold whose end could not be written."""
        self.store.abandon_dead(active=_ACTIVE)
        self.books.release_ended()
        self.store.begin(turn.id, turn.situation)
        self.bus.emit(
            TurnStarted(
                turn_id=turn.id,
                kind=turn.situation.kind,
                session=turn.situation.session,
                prompt_tokens=turn.situation.prompt_tokens,
            )
        )

    def _recall(self, turn: Turn) -> tuple[Message, ...]:
        """Past turns of the session, in the room that the prompt and the answer leave. Before choosing,
        because reading them is part of the price."""
        situation = turn.situation
        budget = self.settings.models.context - situation.prompt_tokens - situation.max_tokens
        context = recall_session(self.store, situation.session, budget=budget, count_tokens=count_tokens)
        tokens = sum(count_tokens(message.content) for message in context)
        turn.situation = replace(situation, context_tokens=tokens)
        return context

    def _locate(self, turn: Turn, before: tuple[Message, ...]) -> Context:
        """Where this piece of work lies among all others."""
        text = telling_text(turn.situation.prompt, [m.content for m in before if m.role == "user"])
        signs = labels(turn.situation)
        context = self.trust.locator.locate(text, signs)
        self.trust.note(turn.id, context, signs)
        return context

    def _choose(self, turn: Turn, context: Context, request: Request) -> None:
        """The decision, and the ATP set aside for it."""
        pinned, dial = asked_for(request, default_dial=self.settings.selector.dial)
        if pinned is not None:
            pinned = find_card(self.catalog, pinned).name
        pricing, limits = self._pricing(), self._limits(pinned=pinned)
        selector = self._selector(pricing)
        pool = Pool(self._candidates(turn.situation, pinned=pinned, pricing=pricing))
        # To try a model teaches something only where somebody will say how good the answer was.
        told = request.verify is not None or self.trust.feedback() >= LEAST_FEEDBACK
        explores = told and self.settings.selector.explore_share > 0.0
        with self.trust.book() as book:
            turn.decision = selector.choose(
                turn.situation,
                context,
                pool,
                book,
                limits=limits,
                now=self.clock.time(),
                dial=dial,
                pinned=pinned,
                random=self._random if explores else None,
                demand=self._demand,
            )
            worth = self._demand.worth(self._held())
        self.host.appraise(worth)
        # Twice what the drafts should cost, so that many turns can run side by side; what a turn takes
        # beyond its grant is charged too.
        prices = [score.est_atp for score in turn.decided.candidates[: self.settings.irp.max_steps]]
        want = min(self.settings.atp.grant, max(LEAST_GRANT, 2.0 * sum(prices)))
        if turn.situation.max_atp is not None:
            want = min(want, turn.situation.max_atp)
        turn.granted = self.books.grant(turn.id, want=want, need=min(prices[0], want, LEAST_GRANT))
        announce(turn, turn.decided, self.store, self.bus)

    def _limits(self, *, pinned: str | None) -> Spending:
        """What may be spent now."""
        # Idle models can make room; for a model that was asked for by name the busy ones are waited for.
        room = self.host.reclaimable() if pinned is None else sum(self.host.resident().values())
        balance, free = self.books.balance(), self._surroundings.free_bytes()
        picture = self.host.picture
        coming = sum(
            max(0, model.bytes - picture.occupied.get(model.name, 0))
            for model in picture.models
            if model.phase == "loading"
        )
        return Spending(
            atp=balance,
            capacity=self.settings.atp.capacity,
            memory_bytes=free + room,
            free_bytes=free - coming,
            explore_atp=self.settings.selector.explore_share * balance,
        )

    def _selector(self, pricing: Pricing) -> Selector:
        """What is dear depends on the models that are here, and on how fast they turned out to be."""
        return self._dearness.selector(
            pricing.rates, lambda: Pool(self._candidates(USUAL, pinned=None, pricing=pricing))
        )

    def _pricing(self) -> Pricing:
        now, picture = self.clock.monotonic(), self.host.picture
        return Pricing(
            rates=self.books.rates(),
            resident=self.host.resident(),
            disk_bytes_s=self._surroundings.disk_bytes_s(),
            context=self.settings.models.context,
            resting=self.host.resting(),
            loading={
                model.name: max(0.0, now - model.since)
                for model in picture.models
                if model.phase == "loading" and not model.leaves
            },
        )

    def _candidates(
        self, situation: Situation, *, pinned: str | None, pricing: Pricing | None = None
    ) -> list[Candidate]:
        """Everybody who is here, the default models and who was asked for: of others that are known it would
        only be said that they are not here."""
        around, pricing = self._surroundings, pricing or self._pricing()
        resident = self.host.resident()

        found = []
        for card in self.catalog.values():
            if card.name in resident:  # it goes on answering, whatever became of its files
                seen = Found(present=True, obstacle=None, memory_bytes=resident[card.name])
            else:
                seen = around.look(card)
            if seen.present or card.default or card.name == pinned:
                found.append(_as_seen(card, situation, pricing, seen))
        return found

    def _weighing(self, turn: Turn) -> Weighing:
        """What is known of the candidates' answers before any of them is asked."""
        names = [score.name for score in turn.decided.candidates]
        evidence = self.opinions.evidence(names)
        return Weighing(turn.decided, evidence, schema=turn.situation.schema is not None)

    def _refine(
        self,
        turn: Turn,
        context: tuple[Message, ...],
        weighing: Weighing,
        on_piece: OnPiece,
        cancelled: threading.Event,
    ) -> Refined[Drafts]:
        """Draft until the answer is good enough, no opinion is worth its price, or the ATP are spent."""
        drafting = Drafting(
            turn=turn,
            weighing=weighing,
            context=context,
            context_tokens=self.settings.models.context,
            catalog=self.catalog,
            host=self.host,
            books=self.books,
            store=self.store,
            bus=self.bus,
            clock=self.clock,
            on_piece=on_piece,
            cancelled=cancelled,
        )
        situation, irp = turn.situation, self.settings.irp
        plugin = LanguagePlugin(
            ask=drafting.ask,
            next_model=drafting.next_model,
            weigh=weighing.weigh,
            temperature=situation.temperature,
        )
        asked = turn.decided.rule
        left = turn.seconds_left(self.clock.monotonic())
        grace = self.settings.models.stop_timeout_s + GRACE_S
        limits = Limits(
            max_steps=irp.max_steps,
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
        most = self.settings.atp.grant
        if turn.situation.max_atp is not None:
            most = min(most, turn.situation.max_atp)
        return min(most, turn.granted + self.books.balance())

    def _settle(
        self,
        turn: Turn,
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
            announce(turn, decision, self.store, self.bus)
        finish = best.completion.finish_reason
        stopped = finish == "cancelled"
        irp = {
            "steps": refined.steps,
            "energy": [round(energy, 4) for energy in refined.energies],
            "halt_reason": finish if finish in ("cancelled", "deadline") else refined.halt_reason,
            "opinions": weighing.explain(drafts),
        }
        text = best.completion.text
        atp = self._close(turn, "interrupted" if stopped else "done", text, best.model, irp=irp)
        for outcome in outcomes:
            try:
                self.learn(outcome)
            except (SageError, ValueError):
                with suppress(SageError, ValueError):
                    keep(outcome, self.catalog.get(outcome.candidate), self.stores)
        with suppress(SageError, ValueError):
            self.opinions.learn(
                list(dict.fromkeys(draft.model for draft in drafts)),
                partial(teach, drafts=drafts, outcomes=outcomes, schema=turn.situation.schema is not None),
            )
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
        self._close(turn, status, turn.partial_text(), model, error=f"{type(error).__name__}: {error}")

    def _close(
        self,
        turn: Turn,
        status: TurnStatus,
        answer: str,
        model: str,
        *,
        irp: Mapping[str, Any] | None = None,
        error: str = "",
    ) -> dict[str, float]:
        """End the turn; whatever happened to it before, it is settled and stored once."""
        turn.wall_s = self.clock.monotonic() - turn.started
        ending = Ending(status=status, answer=answer, model=model, usage=turn.usage(), irp=irp, error=error)
        atp = self.books.close(turn.id, granted=turn.granted, spent=turn.spent, ending=ending)
        if atp is None:
            return {}
        self.bus.emit(AtpSettled(turn_id=turn.id, **atp))
        self.bus.emit(TurnEnded(turn_id=turn.id, status=status, model=model, seconds=turn.wall_s))
        return atp


def _as_seen(card: ModelCard, situation: Situation, pricing: Pricing, seen: Found) -> Candidate:
    return candidate(
        card, situation, pricing, obstacle=seen.obstacle, memory_bytes=lambda _card: seen.memory_bytes
    )


def _no_draft(halt_reason: str, seconds: float) -> SageError:
    """The error for a refinement that ended without an error and without a draft."""
    if halt_reason == "hung":
        return DeadlineExceeded(f"No answer came within {seconds:.1f} s.", mend="Allow more time")
    if halt_reason == "cancelled":
        return Interrupted("It was stopped before anything was answered.")
    return SageError(f"No draft was made ({halt_reason}).")
