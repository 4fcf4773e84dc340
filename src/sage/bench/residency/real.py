"""The same on real models: does the simulator tell the truth?

Owns: the run beside the simulation. Must not know: how a policy chooses.

Each model is loaded a few times; the simulator is told what that took. Then the same requests go through the
simulator and through a real host whose budget holds one model at a time. A policy makes the same choices in
both, for it sees the same prices; compared are the loads that happened and the seconds they took. What the
workers occupy is held against the budget whenever the host has looked and after each answer. Answers are cut
short: quality is the recorded one, and not compared.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sage.bench.residency.contender import Sage
from sage.bench.residency.learned import Trained, train
from sage.bench.residency.peers import Lru
from sage.bench.residency.simulate import Held, Memory, Policy, simulate
from sage.bench.residency.streams import Stream, StreamKind
from sage.bench.residency.suite import draw_stream, sage_settings
from sage.bench.residency.world import ROOM, World, shipped_world
from sage.bench.route_views import embed_texts, open_named_embedder
from sage.config import ModelSettings, Settings
from sage.errors import NotFound, UsageError, WeightsMissing
from sage.kernel.session import memory_need
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.catalog import find_card, load_catalog
from sage.zoo.host import Host, Taken
from sage.zoo.sources import state

__all__ = ["run_real"]

STREAMS: tuple[StreamKind, ...] = ("bursty", "alternating")

CALIBRATED = 3
"""Loads of each model before the run."""

MAX_TOKENS = 4

NEAR = 0.15
"""Share by which the simulated cold seconds may differ from the real ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Real:
    """Loads, seconds of loading and of everything; ``violations``: looks that found more than the budget, of
    so many ``looks``."""

    swaps: int
    cold_s: float
    wall_s: float
    violations: int
    looks: int


def run_real(
    home: Path,
    settings: Settings,
    disk_bytes_s: float,
    *,
    models: Sequence[str],
    requests: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """``settings`` and ``rows``: one for each policy and stream, simulated beside real.

    Raises:
        ModelNotFound, WeightsMissing, NotFound: a model that nobody knows, that is not here, or that the
            shipped measurement does not hold. UsageError: fewer than two models, or two that fit together.
        SageError: a model cannot be loaded.
    """
    if len(set(models)) < 2 or requests < 1:
        raise UsageError("Two models must compete for a request.", mend="Name two with --models A,B")
    catalog = load_catalog(home)
    cards = {name: find_card(catalog, name) for name in models}
    for card in cards.values():
        if state(card, home) == "absent":
            raise WeightsMissing(f"{card.name} is not here.", mend=f"sage models pull {card.name}")
    needs = {name: memory_need(home, card, settings.models.context) for name, card in cards.items()}
    world = _only(shipped_world(disk_bytes_s), list(cards))
    with tempfile.TemporaryDirectory(prefix="sage-residency-") as folder:
        alone = Path(folder)
        (alone / "models").symlink_to((home / "models").resolve(), target_is_directory=True)
        world, sizes = _calibrated(world, cards, needs, alone, settings.models, progress)
        budget = round(ROOM * max(sizes.values()))
        if sum(sorted(sizes.values())[:2]) <= budget:
            raise UsageError(
                "The two smallest fit together beside the largest: nobody would have to leave.",
                mend="Name models of more equal size",
            )
        views = embed_texts(world.texts, open_named_embedder(home, "auto"), home, progress=progress)
        trained = train(world, views, seed=0)
        rows = []
        for kind in STREAMS:
            stream = draw_stream(trained, kind, 0, budget=budget, requests=requests)
            for make in (_sage, _lru):
                progress(f"{kind}, {make(trained).name}: {requests} requests")
                told = simulate(world, stream, make(trained), budget=budget)
                real = _really(world, stream, make(trained), cards, sizes, budget, alone, settings.models)
                rows.append(
                    {
                        "policy": make(trained).name,
                        "stream": kind,
                        "requests": requests,
                        "swaps simulated": len(told.loads),
                        "swaps real": real.swaps,
                        "cold s simulated": round(told.cold_s, 2),
                        "cold s real": round(real.cold_s, 2),
                        "error": f"{(told.cold_s - real.cold_s) / real.cold_s:+.0%}" if real.cold_s else "-",
                        f"within {NEAR:.0%}": _verdict(told.cold_s, real.cold_s),
                        "over budget": real.violations,
                        "looks": real.looks,
                        "wall s real": round(real.wall_s, 1),
                    }
                )
    loads = {model.name: round(model.load_s, 3) for model in world.models}
    return {
        "settings": {
            "budget_mb": round(budget / 1e6),
            "load_s": loads,
            **sage_settings(),
            "calibration": f"median of {CALIBRATED} loads of each model, before the run",
        },
        "rows": rows,
    }


def _sage(trained: Trained) -> Policy:
    return trained.sage()


def _lru(trained: Trained) -> Policy:
    return Lru(trained.routed)


def _only(world: World, names: Sequence[str]) -> World:
    """The world with these models, in this order."""
    known = [model.name for model in world.models]
    if lacking := sorted(set(names) - set(known)):
        raise NotFound(
            f"The shipped measurement does not hold {', '.join(lacking)}.",
            mend=f"It holds {', '.join(known)}",
        )
    columns = [known.index(name) for name in names]
    return replace(
        world,
        models=tuple(world.models[column] for column in columns),
        scores=world.scores[:, columns],
        tokens=world.tokens[:, columns],
    )


def _calibrated(
    world: World,
    cards: Mapping[str, ModelCard],
    needs: Mapping[str, int],
    home: Path,
    settings: ModelSettings,
    progress: Callable[[str], None],
) -> tuple[World, dict[str, int]]:
    """The world with the load times and sizes of this machine, now; and the sizes by name."""
    # In turn, as they will be: who is loaded pushes out the one before, whose process ends meanwhile.
    two = sum(sorted(needs.values())[:2])
    host = _host(home, settings, needs, max(round(ROOM * max(needs.values())), two - 1))
    taken: dict[str, list[Taken]] = {model.name: [] for model in world.models}
    try:
        for number in range(1 + CALIBRATED):
            progress(f"loading each model, {number} of {CALIBRATED} times")
            for name, loads in taken.items():
                loads.append(host.load(cards[name]))
    finally:
        host.close()
    measured, sizes = [], {}
    for model in world.models:
        loads = taken[model.name]
        sizes[model.name] = max([needs[model.name], *(each.resident_bytes for each in loads)])
        # The first reads from the disk, the others what the system remembers of it, as the run does.
        load_s = statistics.median(each.load_s for each in loads[1:])
        measured.append(replace(model, load_s=load_s, bytes=sizes[model.name]))
    return replace(world, models=tuple(measured)), sizes


def _really(
    world: World,
    stream: Stream,
    policy: Policy,
    cards: Mapping[str, ModelCard],
    sizes: Mapping[str, int],
    budget: int,
    home: Path,
    settings: ModelSettings,
) -> _Real:
    """The stream with real workers; the host is told what models are worth as the kernel tells it."""
    watch = _Watch(budget)
    host = _host(home, settings, sizes, budget, watch)
    names = [model.name for model in world.models]
    memory = Memory(models=world.models, budget=budget)
    swaps, cold_s, began = 0, 0.0, time.monotonic()
    try:
        for row in stream.rows.tolist():
            resident, now = host.resident(), time.monotonic()
            memory.held = {names.index(name): Held(since=now, last_used=now) for name in resident}
            chosen = names[policy.choose(row, memory, now)]
            if isinstance(policy, Sage):
                host.appraise(policy.worth)
            messages = (Message(role="user", content=world.texts[row]),)
            request = GenerationRequest(messages=messages, max_tokens=MAX_TOKENS)
            answer = host.ask(cards[chosen], request, lambda _text: None)
            swaps += answer.load_s > 0.0
            cold_s += answer.load_s
            watch.free(host.occupied_bytes())
    finally:
        host.close()
    return _Real(
        swaps=swaps,
        cold_s=cold_s,
        wall_s=time.monotonic() - began,
        violations=watch.violations,
        looks=watch.looks,
    )


class _Watch:
    """Counts how often memory was looked at, and how often more was occupied than the budget."""

    def __init__(self, budget: int) -> None:
        self._budget, self.looks, self.violations = budget, 0, 0

    def free(self, occupied: int) -> int:
        """Bytes that are left, below 0 where it is too much."""
        self.looks += 1
        self.violations += occupied > self._budget
        return self._budget - occupied


def _host(
    home: Path, settings: ModelSettings, sizes: Mapping[str, int], budget: int, watch: _Watch | None = None
) -> Host:
    seen = watch or _Watch(budget)
    host = Host(
        home,
        settings,
        free_bytes=lambda: seen.free(host.occupied_bytes()),
        estimate=lambda card: sizes[card.name],
    )
    return host


def _verdict(simulated: float, real: float) -> str:
    """Of the claim that the simulator tells the cold seconds."""
    return "met" if abs(simulated - real) <= NEAR * real else "missed"
