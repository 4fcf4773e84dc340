"""Puts a kernel together from the settings and the machine, and takes it apart again.

Owns: which real parts a kernel is made of. Must not know: what they do for a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from sage.clock import Clock, SystemClock
from sage.config import Settings, load_settings, sage_home
from sage.events import EventBus, HomeAwaited, JsonlLog
from sage.hardware.budget import budget_bytes
from sage.hardware.disk import cached_disk_read
from sage.hardware.probe import memory
from sage.kernel.learning import Stores
from sage.kernel.sharing import SharedHome, ask_for_home
from sage.kernel.tick import Kernel, Surroundings
from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.locate import open_locator
from sage.memory.opinion_store import OpinionStore
from sage.memory.trust_store import TrustStore
from sage.memory.verbatim import VerbatimStore
from sage.zoo.card import ModelCard
from sage.zoo.catalog import load_catalog
from sage.zoo.estimate import MemoryEstimate, estimate
from sage.zoo.host import Host
from sage.zoo.lease import Lease
from sage.zoo.notes import others_bytes
from sage.zoo.remote import WORKER_BYTES, check_reach
from sage.zoo.sources import check_size, model_path, vetted

__all__ = ["memory_need", "memory_parts", "open_kernel", "open_stores"]

_estimates: dict[tuple[Path, int, int, int], MemoryEstimate] = {}
"""Vetting reads the whole header (10 to 100 ms): once for each state of a file is enough."""


@contextmanager
def open_kernel(
    *,
    home: Path | None = None,
    settings: Settings | None = None,
    catalog: Mapping[str, ModelCard] | None = None,
    bus: EventBus | None = None,
    clock: Clock | None = None,
) -> Iterator[Kernel]:
    """A kernel on ``SAGE_HOME``; its workers end and its database closes on leaving.

    Raises:
        ConfigError: the settings or a user's card are wrong. StoreError: the database cannot be used.
    """
    home = home or sage_home()
    settings = settings or load_settings()
    clock = clock or SystemClock()
    bus = bus or EventBus()
    if settings.events.log:
        bus.subscribe(JsonlLog(home / "events.jsonl", max_bytes=settings.events.max_bytes, clock=clock))
    with open_stores(home, settings, clock) as stores:
        stores.turns.abandon_dead()
        stores.books.release_ended()
        rates = stores.books.rates()

        known = load_catalog(home) if catalog is None else catalog

        def need(card: ModelCard) -> int:
            if card.remote:
                check_reach(card, settings.models)
            measured = rates.get(card.name, {}).get("rss_bytes", 0.0)
            return max(int(measured), memory_need(home, card, settings.models.context))

        def free() -> int:
            loaded = sum(host.resident().values())
            now, limit = memory(), settings.models.memory_limit_gb
            if not lease.held:  # another process gives its models' memory back before any is loaded here
                now = now._replace(available=now.available + others_bytes(home))
            return budget_bytes(now, limit, loaded=loaded, mapped=host.mapped_bytes())

        lease = Lease(
            home,
            wait_s=settings.models.home_wait_s,
            ask_for_it=partial(ask_for_home, home),
            on_wait=lambda holder: bus.emit(HomeAwaited(holder=str(holder), home=str(home))),
            on_taken=lambda: shared.open(),
        )
        host = Host(home, settings.models, free_bytes=free, estimate=need, bus=bus, clock=clock, lease=lease)
        shared = SharedHome(
            home=home,
            host=host,
            lease=lease,
            books=stores.books,
            catalog=known,
            free=free,
            clock=clock,
            stop_s=settings.models.stop_timeout_s,
        )
        try:
            yield Kernel(
                settings=settings,
                catalog=known,
                host=host,
                stores=stores,
                surroundings=Surroundings(
                    is_present=lambda card: (
                        card.backend == "fake" or card.remote or model_path(card, home).is_file()
                    ),
                    memory_bytes=need,
                    free_bytes=free,
                    disk_bytes_s=lru_cache(lambda: cached_disk_read(home, clock=clock)),
                ),
                bus=bus,
                clock=clock,
            )
        finally:
            try:
                host.close()
            finally:
                lease.close()


@contextmanager
def open_stores(home: Path, settings: Settings, clock: Clock) -> Iterator[Stores]:
    """What was said, spent and learned on this ``SAGE_HOME``, without any model."""
    with Database(home / "sage.db") as database:
        turns = VerbatimStore(database, clock)
        yield Stores(
            turns=turns,
            books=Books(database, turns, clock, settings.atp),
            trust=TrustStore(database, turns, clock, settings.selector, lambda: open_locator(home)),
            opinions=OpinionStore(database, clock, half_life_days=settings.selector.half_life_days),
        )


def memory_need(home: Path, card: ModelCard, context: int) -> int:
    """Bytes a model will take with this context, from its header.

    Raises:
        UnsafeFile: the file is not a sound GGUF. WeightsMissing: there is no file.
    """
    if card.backend == "fake":
        return int(card.script.get("resident_mb", 20)) * 1_000_000
    if card.remote:
        return WORKER_BYTES
    return memory_parts(home, card, context).total


def memory_parts(home: Path, card: ModelCard, context: int) -> MemoryEstimate:
    """What a model with weights will take with this context, of at most what it can hold.

    Raises:
        UnsafeFile: the file is damaged. WeightsMissing: there is no file.
    """
    check_size(card, home)
    stat = model_path(card, home).stat()
    context = min(context, card.context_length)
    key = (model_path(card, home), stat.st_size, stat.st_mtime_ns, context)
    if key not in _estimates:
        _estimates[key] = estimate(vetted(card, home), context=context)
    return _estimates[key]
