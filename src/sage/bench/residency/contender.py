"""SAGE in the simulator: the classes that serve users, fed with recorded outcomes.

Owns: the adapter. Must not know: rivals, figures.

Selector, trust book, demand, the pricing of candidates and the residency are those of the kernel. What a
price is predicted from (answer lengths, load times) was measured on the history, as the kernel measures it.
Trust stays as the history left it, as do the rivals' routers: memory alone is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from sage.bench.residency.simulate import Memory
from sage.bench.residency.world import Model, World
from sage.bench.route_data import Ints
from sage.economy.context import Context
from sage.economy.demand import Demand
from sage.economy.filters import Limits
from sage.economy.permission import LEAST_LOAD_SCALE
from sage.economy.pool import Pool
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook
from sage.kernel.candidates import Pricing, answer_tokens, candidate
from sage.types import ANY_KIND, Decision, Message, Situation
from sage.zoo.card import ModelCard
from sage.zoo.residency import Residency
from sage.zoo.signals import (
    Appraised,
    Effect,
    Gone,
    Grant,
    Load,
    Loaded,
    Pressed,
    Refuse,
    Requested,
    Served,
    Signal,
    Unload,
)

__all__ = ["Sage"]

LONGEST = 2**20
"""Tokens: no recorded question is refused for its length."""


class Sage:
    """Chooses by permission; the residency decides who leaves, told what each is worth."""

    def __init__(
        self,
        world: World,
        history: Ints,
        contexts: Sequence[Context],
        book: TrustBook,
        *,
        dial: float,
        price_scale: float,
        hot_bonus: float,
        name: str = "sage",
    ) -> None:
        """``contexts`` (questions,): where each text lies; ``history``: the rows that were learned from."""
        self.name = name
        self._world, self._contexts, self._book, self._dial = world, contexts, book, dial
        self._selector = Selector(
            hot_bonus=hot_bonus, price_scale=price_scale, load_scale=max(price_scale, LEAST_LOAD_SCALE)
        )
        self._demand = Demand()
        self._cards = [_card(model) for model in world.models]
        written = world.tokens[history].mean(0).tolist()
        self._rates = {
            model.name: {
                "load_s": model.load_s,
                "prompt_tok_s": model.prompt_tok_s,
                "generate_tok_s": model.generate_tok_s,
                answer_tokens(ANY_KIND): tokens,
            }
            for model, tokens in zip(world.models, written, strict=True)
        }
        self._sizes = {model.name: model.bytes for model in world.models}
        self._pools: dict[tuple[int, tuple[int, ...]], Pool] = {}
        self._residency = Residency()
        self._leaving: list[str] = []
        self.decision: Decision | None = None
        """The last one."""
        self.worth: Mapping[str, float] = {}
        """What would be lost without each loaded model, as of the last decision."""

    def choose(self, row: int, memory: Memory, now: float) -> int:
        """What the selector decides."""
        resident = {memory.models[number].name for number in memory.held}
        situation = _situation(int(self._world.prompt_tokens[row]))
        pool = self._pool(situation, memory)
        limits = Limits(atp=math.inf, capacity=math.inf, memory_bytes=memory.budget, free_bytes=memory.free)
        self.decision = self._selector.choose(
            situation,
            self._contexts[row],
            pool,
            self._book,
            limits=limits,
            now=now,
            dial=self._dial,
            demand=self._demand,
        )
        chosen = self.decision.chosen
        self.worth = self._demand.worth(resident)
        self._ask(chosen, self.worth, memory.budget, now)
        return pool.index[chosen]

    def make_room(self, _model: int, memory: Memory, _now: float) -> Sequence[int]:
        """Whom the residency has sent away for the model just chosen."""
        return [number for number in memory.held if memory.models[number].name in self._leaving]

    def expired(self, _memory: Memory, _now: float) -> Sequence[int]:
        """Models stay until there is need."""
        return ()

    def _pool(self, situation: Situation, memory: Memory) -> Pool:
        """As the kernel makes it; the same for questions of one length while the same models are loaded."""
        key = situation.prompt_tokens, tuple(sorted(memory.held))
        if key not in self._pools:
            pricing = Pricing(
                rates=self._rates,
                resident={memory.models[number].name for number in memory.held},
                disk_bytes_s=math.inf,
                context=LONGEST,
            )
            self._pools[key] = Pool(
                [
                    candidate(card, situation, pricing, obstacle=None, memory_bytes=self._size)
                    for card in self._cards
                ]
            )
        return self._pools[key]

    def _size(self, card: ModelCard) -> int:
        return self._sizes[card.name]

    def _ask(self, model: str, worth: Mapping[str, float], budget: int, now: float) -> None:
        """One request through the residency, to its end; every effect is done at once."""
        self._leaving = []
        request = Requested(id=f"at {now}", model=model, bytes=self._sizes[model], deadline=math.inf)
        signals: list[Signal] = [Pressed(budget=budget), Appraised(worth=worth), request]
        while signals:
            for effect in self._residency.handle(signals.pop(0), now):
                signals.extend(self._answers(effect))

    def _answers(self, effect: Effect) -> Iterator[Signal]:
        """What the world would say to an effect."""
        match effect:
            case Unload(model=name):
                self._leaving.append(name)
                yield Gone(model=name)
            case Load(model=name):
                yield Loaded(model=name, bytes=self._sizes[name])
            case Grant(id=request):
                yield Served(id=request)
            case Refuse(error=error):
                raise error
            case _:
                pass


def _card(model: Model) -> ModelCard:
    return ModelCard(
        name=model.name,
        source="fake",
        sha256="",
        bytes=model.file_bytes,
        license="",
        context_length=LONGEST,
        backend="fake",
    )


def _situation(prompt_tokens: int) -> Situation:
    return Situation(
        messages=(Message(role="user", content=""),),
        kind=ANY_KIND,
        prompt_tokens=prompt_tokens,
        max_tokens=LONGEST,
        session="bench",
    )
