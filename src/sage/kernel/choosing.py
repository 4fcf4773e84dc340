"""Who may do a piece of work now, and who shall: the selector, given what this machine and its books say.

Owns: candidates as they are now, what may be spent on them, the demand that earns a model its place.
Must not know: what a turn goes through before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from sage.clock import Clock
from sage.config import Settings
from sage.economy.context import Context
from sage.economy.demand import Demand
from sage.economy.filters import Limits
from sage.economy.pool import Pool
from sage.economy.regime import Regime
from sage.economy.selector import FrontierPoint, Selector
from sage.kernel.candidates import USUAL, Found, Pricing, candidate
from sage.kernel.dearness import Dearness
from sage.memory.books import Books
from sage.memory.trust_store import TrustStore
from sage.types import Candidate, Decision, MetabolicState, Situation
from sage.zoo.card import ModelCard
from sage.zoo.host import Host

__all__ = ["Choosing", "Surroundings"]

LEAST_FEEDBACK = 0.1
"""Share of recent turns that must have been judged before a model is tried in order to learn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the kernel asks of the machine, as functions, so that tests decide the answers."""

    look: Callable[[ModelCard], Found]
    free_bytes: Callable[[], int]
    disk_bytes_s: Callable[[], float]


class Choosing:
    """Chooses among the models of one kernel. ``busy`` are names that running turns have chosen: the host may
    not know of them yet."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Mapping[str, ModelCard],
        host: Host,
        books: Books,
        trust: TrustStore,
        surroundings: Surroundings,
        clock: Clock,
    ) -> None:
        self.surroundings = surroundings
        self.host = host
        self._settings = settings
        self._catalog = catalog
        self._books = books
        self._trust = trust
        self._clock = clock
        self._random = np.random.default_rng()
        self._demand = Demand()
        self._dearness = Dearness(settings.selector)

    def choose(
        self,
        situation: Situation,
        context: Context,
        *,
        pinned: str | None,
        dial: float,
        judged: bool,
        state: MetabolicState,
        regime: Regime,
        busy: Collection[str],
    ) -> Decision:
        """The decision. ``judged``: somebody will say at once how good the answer was.

        Raises: as :meth:`Selector.choose`.
        """
        pricing, limits = self._pricing(), self.limits(pinned=pinned, regime=regime)
        selector = self._selector(pricing)
        pool = Pool(self.candidates(situation, pinned=pinned, pricing=pricing))
        # To try a model teaches something only where somebody will say how good the answer was.
        told = judged or self._trust.feedback() >= LEAST_FEEDBACK
        explores = told and regime.explore and self._settings.selector.explore_share > 0.0
        with self._trust.book() as book:
            decision = selector.choose(
                situation,
                context,
                pool,
                book,
                limits=limits,
                now=self._clock.time(),
                dial=dial,
                state=state,
                pinned=pinned,
                random=self._random if explores else None,
                demand=self._demand,
            )
            worth = self._demand.worth(self._held({*busy, decision.chosen}))
        self.host.appraise(worth)
        return decision

    def frontier(self, situation: Situation, context: Context) -> tuple[FrontierPoint, ...]:
        """Who would be chosen at each setting of the dial; nothing is asked, loaded or stored.

        Raises:
            SageError: typed; no candidate is left.
        """
        pricing = self._pricing()
        selector = self._selector(pricing)
        pool = Pool(self.candidates(situation, pinned=None, pricing=pricing))
        with self._trust.book() as book:
            return selector.frontier(
                situation,
                context,
                pool,
                book,
                limits=self.limits(pinned=None),
                now=self._clock.time(),
                demand=self._demand,
            )

    def anticipate(self, busy: Collection[str]) -> None:
        """Have the model loaded that would have served the last requests best, where they have paid for it
        and nothing else is going on. Returns at once."""
        unit, free = self._settings.selector.price_unit, self.surroundings.free_bytes()
        with self._trust.book():
            held = self._held(busy)
            worth = self._demand.worth(held)
            wanted = self._demand.wanted(held, unit=unit, free_bytes=free)
        self.host.appraise(worth | dict([wanted] if wanted else []))
        if wanted and wanted[0] in self._catalog:
            self.host.prefetch(self._catalog[wanted[0]])

    def limits(self, *, pinned: str | None, regime: Regime | None = None) -> Limits:
        """What may be spent now; who is asked for by name is not held to the cheapest."""
        # Idle models can make room; for a model that was asked for by name the busy ones are waited for.
        room = self.host.reclaimable() if pinned is None else sum(self.host.resident().values())
        balance, free = self._books.balance(), self.surroundings.free_bytes()
        picture = self.host.picture
        coming = sum(
            max(0, model.bytes - picture.occupied.get(model.name, 0))
            for model in picture.models
            if model.phase == "loading"
        )
        return Limits(
            atp=balance,
            capacity=self._settings.atp.capacity,
            memory_bytes=free + room,
            free_bytes=free - coming,
            explore_atp=self._settings.selector.explore_share * balance,
            candidates=None if regime is None or pinned is not None else regime.candidates,
        )

    def candidates(
        self, situation: Situation, *, pinned: str | None, pricing: Pricing | None = None
    ) -> list[Candidate]:
        """Everybody who is here, the default models and who was asked for: of others that are known it would
        only be said that they are not here."""
        pricing = pricing or self._pricing()
        resident = self.host.resident()

        found = []
        for card in self._catalog.values():
            if card.name in resident:  # it goes on answering, whatever became of its files
                seen = Found(present=True, obstacle=None, memory_bytes=resident[card.name])
            else:
                seen = self.surroundings.look(card)
            if seen.present or card.default or card.name == pinned:
                found.append(_as_seen(card, situation, pricing, seen))
        return found

    def _held(self, busy: Collection[str]) -> set[str]:
        """Who is in memory, is being loaded, or was just chosen: a model whose worth the host is not told
        goes before all others."""
        return set(busy).union(model.name for model in self.host.picture.models if not model.leaves)

    def _selector(self, pricing: Pricing) -> Selector:
        """What is dear depends on the models that are here, and on how fast they turned out to be."""
        return self._dearness.selector(
            pricing.rates, lambda: Pool(self.candidates(USUAL, pinned=None, pricing=pricing))
        )

    def _pricing(self) -> Pricing:
        now, picture = self._clock.monotonic(), self.host.picture
        return Pricing(
            rates=self._books.rates(),
            resident=self.host.resident(),
            disk_bytes_s=self.surroundings.disk_bytes_s(),
            context=self._settings.models.context,
            resting=self.host.resting(),
            loading={
                model.name: max(0.0, now - model.since)
                for model in picture.models
                if model.phase == "loading" and not model.leaves
            },
        )


def _as_seen(card: ModelCard, situation: Situation, pricing: Pricing, seen: Found) -> Candidate:
    return candidate(
        card, situation, pricing, obstacle=seen.obstacle, memory_bytes=lambda _card: seen.memory_bytes
    )
