"""One simulated life through the whole kernel, on a clock of its own.

Owns: putting a kernel on simulated models together, letting time pass between requests, what is written down.
Must not know: which part of the kernel is left out, or what is made of the figures.
"""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from sage.bench.kernel.host import DISK_BYTES_S, SimulatedHost
from sage.bench.kernel.models import ZOO, is_right
from sage.bench.kernel.person import Ask, Type
from sage.bench.kernel.variants import Variant
from sage.clock import FakeClock
from sage.config import Settings
from sage.economy.metabolism import Thresholds
from sage.errors import SageError
from sage.events import EventBus
from sage.hardware.pressure import PressureGauge
from sage.hardware.probe import Memory
from sage.kernel.alive import Alive
from sage.kernel.candidates import Found
from sage.kernel.choosing import Surroundings
from sage.kernel.drafting import ATTENTION_S
from sage.kernel.sense import Request
from sage.kernel.session import open_stores
from sage.kernel.tick import Kernel
from sage.kernel.turn import Reply
from sage.kernel.vitals import Vitals
from sage.memory.state_store import StateStore
from sage.types import Message, MetabolicState, Outcome
from sage.zoo.host import Host

__all__ = ["Done", "Life", "play"]

NEVER = threading.Event()
"""Nobody stops these lives."""

START = 1_767_571_200.0
"""A Monday, in seconds since the epoch."""

ROOM_BYTES = 7_000_000_000
"""For models: the large one and a specialist, or everybody else."""

CAPACITY, RECOVERY = 100.0, 0.25
"""ATP: the owner lets models keep the machine busy for a quarter of the time, beyond short bursts."""

STORED = 0.4
"""Share of the messages that salient memory may keep."""

RATED = 0.3
"""Share of the answers that the person rates."""

READS_S = 2.0
"""From an answer to the next request of the session, at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What became of a request: ``wait_s`` from when it came to its answer; ``given`` tokens of context over
    all drafts."""

    type: Type
    right: bool
    refused: bool
    atp: float
    wait_s: float
    given: int
    drafts: int
    state: MetabolicState


@dataclass(slots=True)
class Life:
    """Everything that became of one stream of requests. ``kept``: messages that may be brought back at its
    end, of ``messages``."""

    done: list[Done] = field(default_factory=list)
    messages: int = 0
    kept: int = 0


def play(asks: Sequence[Ask], variant: Variant, *, seed: int) -> Life:
    """One life under one variant of the kernel. Within a session the person waits for an answer before the
    next request; of several that wait, the kernel's attention takes one up."""
    clock = FakeClock(START)
    life = Life()
    waiting: dict[str, list[Ask]] = {}
    for ask in asks:
        waiting.setdefault(ask.session, []).append(ask)
    comes = {session: START + mine[0].at for session, mine in waiting.items()}
    with tempfile.TemporaryDirectory() as folder, _kernel(Path(folder), asks, variant, clock, seed) as made:
        kernel, host = made
        alive = Alive(kernel)
        while comes:
            _wait(kernel, alive, clock, min(comes.values()) - clock.monotonic())
            session = _next(kernel, clock.monotonic(), waiting, comes)
            ask, came = waiting[session].pop(0), comes.pop(session)
            life.done.append(_asked(kernel, host, clock, ask, came=came, seed=seed))
            if waiting[session]:
                comes[session] = max(START + waiting[session][0].at, clock.monotonic() + READS_S)
        life.messages = kernel.stores.passages.count()
        ids = [row[0] for row in kernel.stores.db.execute("SELECT id FROM passages")]
        life.kept = len(kernel.stores.salient.kept(ids))
    return life


def _next(kernel: Kernel, now: float, waiting: dict[str, list[Ask]], comes: dict[str, float]) -> str:
    """The session whose request is taken up, of those that have one: as the host orders those who wait."""
    here = [session for session, at in comes.items() if at <= now]
    if len(here) == 1:
        return here[0]

    def attention(session: str) -> float:
        look = kernel.stores.salient.look(waiting[session][0].text, now=now)
        return now - comes[session] + ATTENTION_S * look.salience.total

    return max(here, key=attention)


def _asked(
    kernel: Kernel, host: SimulatedHost, clock: FakeClock, ask: Ask, *, came: float, seed: int
) -> Done:
    host.now, host.given = ask, 0
    request = Request(
        messages=(Message(role="user", content=ask.text),),
        session=ask.session,
        verify=(lambda text: float(is_right(ask, text))) if ask.tested else None,
    )
    rates = random.Random(f"{seed}/{ask.session}/{ask.text}").random() < RATED  # noqa: S311  a simulation
    reply: Reply | None = None
    with suppress(SageError):
        reply = kernel.tick(request)
    wait_s = clock.monotonic() - came
    right = reply is not None and is_right(ask, reply.answer)
    if reply is not None and rates and ask.values and not ask.tested:
        kernel.learn(_rated(reply, right, clock))
    kernel.anticipate()
    return Done(
        type=ask.type,
        right=right,
        refused=reply is None,
        atp=reply.atp["spent"] if reply else 0.0,
        wait_s=wait_s,
        given=host.given,
        drafts=int(reply.irp["steps"]) if reply else 0,
        state=kernel.vitals.look().standing.state,
    )


def _rated(reply: Reply, right: bool, clock: FakeClock) -> Outcome:
    return Outcome(
        event_id=f"{reply.turn_id}/user",
        turn_id=reply.turn_id,
        candidate=reply.model,
        kind=reply.decision.kind,
        quality=float(right),
        source="user",
        at=clock.time(),
    )


def _wait(kernel: Kernel, alive: Alive, clock: FakeClock, seconds: float) -> None:
    """Time passes; the states follow, and idle time becomes sleep, as in a kernel that is kept alive."""
    chosen = kernel.settings.metabolism
    for mark in (chosen.rest_after_s + 1.0, chosen.dream_after_s + 1.0, float("inf")):
        if seconds <= 0.0:
            return
        step = min(seconds, mark)
        clock.advance(step)
        seconds -= step
        alive.look(NEVER)


@contextmanager
def _kernel(
    home: Path, asks: Sequence[Ask], variant: Variant, clock: FakeClock, seed: int
) -> Iterator[tuple[Kernel, SimulatedHost]]:
    defaults = Settings.model_construct()
    settings = variant.settings(
        defaults.model_copy(
            update={
                "atp": defaults.atp.model_copy(update={"capacity": CAPACITY, "recovery_per_s": RECOVERY}),
                "memory": defaults.memory.model_copy(
                    update={"salient_max": max(1, round(STORED * 2 * len(asks)))}
                ),
            }
        )
    )
    catalog = {model.name: model.card for model in ZOO}
    host = SimulatedHost(ZOO, clock, room_bytes=ROOM_BYTES, seed=seed)
    with open_stores(home, settings, clock) as whole:
        whole.db.execute("PRAGMA synchronous = OFF")  # nothing here must survive a power cut
        stores = variant.stores(whole, settings, clock, seed)
        chosen = settings.metabolism
        thresholds = Thresholds(
            focus_salience=chosen.focus_salience,
            rest_after_s=chosen.rest_after_s,
            dream_after_s=chosen.dream_after_s,
        )
        calm = PressureGauge(
            clock=clock,
            read_memory=lambda: Memory(total=2 * ROOM_BYTES, available=ROOM_BYTES),
            read_stalled=lambda: 0.0,
            read_heat=dict,
            read_battery=lambda: None,
        )
        kernel = Kernel(
            settings=settings,
            catalog=catalog,
            host=cast(Host, host),
            stores=stores,
            vitals=Vitals(
                books=stores.books,
                states=StateStore(stores.db, clock, thresholds=thresholds, hold=chosen.state),
                gauge=calm,
                clock=clock,
                capacity=settings.atp.capacity,
            ),
            surroundings=Surroundings(
                look=lambda card: Found(present=True, obstacle=None, memory_bytes=card.bytes),
                free_bytes=lambda: host.free_bytes,
                disk_bytes_s=lambda: DISK_BYTES_S,
            ),
            bus=EventBus(),
            clock=clock,
        )
        # Who is tried by chance is the same in every run.
        kernel.choosing._random = np.random.default_rng(seed)
        yield kernel, host
