"""The kernel without one of its parts, each by what takes the part's place.

Owns: the variants. Must not know: requests, models, figures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sage.clock import Clock
from sage.config import Settings
from sage.kernel.stores import Stores
from sage.memory.locate import open_locator
from sage.memory.passages import DEFAULT_NAMESPACE
from sage.memory.recall import Recall
from sage.memory.salience import Context, Salience
from sage.memory.salient import NOTHING, Appraisal, SalientMemory
from sage.memory.trust_store import TrustStore
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Outcome

__all__ = ["FULL", "VARIANTS", "Variant"]

USUAL = 0.5
"""Salience of everything where none is told."""

BOUNDLESS = 1e9
"""ATP, of which a life spends some thousands."""

Swap = Callable[[Stores, Settings, Clock, int], Stores]


def _same(stores: Stores, settings: Settings, clock: Clock, seed: int) -> Stores:
    del settings, clock, seed
    return stores


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """``settings`` and ``stores`` say what is other than in the full kernel; ``meaning`` says it in words."""

    name: str
    meaning: str
    settings: Callable[[Settings], Settings] = lambda settings: settings
    stores: Swap = _same


def _with(section: str, **values: object) -> Callable[[Settings], Settings]:
    def change(settings: Settings) -> Settings:
        return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})

    return change


class _NoSession(VerbatimStore):
    """Keeps turns, and tells nobody of the last ones."""

    def history(self, session: str, *, turns: int, namespace: str = DEFAULT_NAMESPACE) -> tuple[Message, ...]:
        del session, turns, namespace
        return ()


class _EvenSalience(SalientMemory):
    """Everything is as salient as everything else, and may be brought back."""

    def look(
        self, text: str, *, namespace: str = DEFAULT_NAMESPACE, now: float, context: Context | None = None
    ) -> Appraisal:
        found = super().look(text, namespace=namespace, now=now, context=context)
        return replace(found, salience=replace(found.salience, total=USUAL))

    def hear(self, ids: Sequence[int], *, contexts: Mapping[int, Context] = NOTHING) -> list[Salience]:
        del ids, contexts
        return []

    def used(self, ids: Sequence[int], *, now: float) -> None:
        del ids, now

    def kept(self, ids: Sequence[int]) -> frozenset[int]:
        return frozenset(ids)


class _RandomSalience(_EvenSalience):
    """Chance decides what is salient, and which messages stay within the bound."""

    def __init__(self, stores: Stores, *, bound: int, seed: int) -> None:
        super().__init__(stores.db)
        self._draw = random.Random(seed)  # noqa: S311  a simulation
        self._most = bound
        self._lots: dict[int, float] = {}
        self._gone: set[int] = set()

    def look(
        self, text: str, *, namespace: str = DEFAULT_NAMESPACE, now: float, context: Context | None = None
    ) -> Appraisal:
        found = super().look(text, namespace=namespace, now=now, context=context)
        return replace(found, salience=replace(found.salience, total=self._draw.random()))

    def hear(self, ids: Sequence[int], *, contexts: Mapping[int, Context] = NOTHING) -> list[Salience]:
        del contexts
        for ident in set(ids).difference(self._lots, self._gone):
            self._lots[ident] = self._draw.random()
            if len(self._lots) > self._most:
                last = min(self._lots, key=self._lots.__getitem__)
                del self._lots[last]
                self._gone.add(last)
        return []

    def kept(self, ids: Sequence[int]) -> frozenset[int]:
        return frozenset(ids) - self._gone


class _FrozenTrust(TrustStore):
    """Keeps outcomes, and learns nothing from them."""

    def __init__(self, stores: Stores, settings: Settings, clock: Clock) -> None:
        super().__init__(
            stores.db, stores.turns, clock, settings.selector, lambda: open_locator(stores.db.path.parent)
        )

    def learn(self, outcome: Outcome) -> bool:
        return self._store.record_outcome(outcome)


def _salient(stores: Stores, salient: SalientMemory) -> Stores:
    """With another salient memory, which recall asks what may be brought back."""
    return replace(stores, salient=salient, recall=Recall(stores.db, kept=salient.kept))


FULL = Variant(name="full", meaning="the kernel as it is")

VARIANTS = (
    FULL,
    Variant(
        name="no recall",
        meaning="nothing is brought back from other sessions (memory.recall_tokens = 0)",
        settings=_with("memory", recall_tokens=0),
    ),
    Variant(
        name="no recent",
        meaning="a session's last turns are not shown to the model; recall may find them",
        stores=lambda stores, _settings, clock, _seed: replace(stores, turns=_NoSession(stores.db, clock)),
    ),
    Variant(
        name="no salience",
        meaning="every request is as salient as the next, and every message may be brought back",
        stores=lambda stores, _settings, _clock, _seed: _salient(stores, _EvenSalience(stores.db)),
    ),
    Variant(
        name="random salience",
        meaning="salience is drawn by chance: grants, focus, and what is kept under the same bound",
        stores=lambda stores, settings, _clock, seed: _salient(
            stores, _RandomSalience(stores, bound=settings.memory.salient_max, seed=seed)
        ),
    ),
    Variant(
        name="no patterns",
        meaning="earlier refinements limit nothing, and no answer is given again (memory.patterns = false)",
        settings=_with("memory", patterns=False),
    ),
    Variant(
        name="ATP unlimited",
        meaning="nothing is ever too dear: a balance and grants without end",
        settings=_with("atp", capacity=BOUNDLESS, grant=BOUNDLESS),
    ),
    Variant(
        name="always WAKE",
        meaning="the metabolic state is held at WAKE",
        settings=_with("metabolism", state="WAKE"),
    ),
    Variant(
        name="frozen trust",
        meaning="outcomes are stored, and trust learns nothing from them",
        stores=lambda stores, settings, clock, _seed: replace(
            stores, trust=_FrozenTrust(stores, settings, clock)
        ),
    ),
)
"""``full`` first."""
