"""Puts a kernel together from the settings and the machine, and takes it apart again.

Owns: which real parts a kernel is made of. Must not know: what they do for a request.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from sage.clock import Clock, SystemClock
from sage.config import Settings, load_settings, sage_home
from sage.errors import SageError, StoreDamaged, StoreReadOnly, WeightsMissing
from sage.events import EventBus, HomeAwaited, JsonlLog
from sage.hardware.budget import budget_bytes
from sage.hardware.disk import cached_disk_read
from sage.hardware.probe import memory
from sage.kernel.candidates import Found
from sage.kernel.choosing import Surroundings
from sage.kernel.glance import Glance
from sage.kernel.sharing import SharedHome, ask_for_home
from sage.kernel.stores import Stores
from sage.kernel.tick import Kernel
from sage.kernel.vitals import open_vitals
from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.locate import open_locator
from sage.memory.minilm import MiniLM
from sage.memory.opinion_store import OpinionStore
from sage.memory.passages import PassageStore
from sage.memory.patterns import PatternMemory
from sage.memory.recall import Recall
from sage.memory.salient import SalientMemory
from sage.memory.salvage import repair
from sage.memory.trust_store import TrustStore
from sage.memory.verbatim import VerbatimStore
from sage.zoo.card import ModelCard
from sage.zoo.card_status import obstacle
from sage.zoo.catalog import load_catalog
from sage.zoo.estimate import MemoryEstimate, estimate
from sage.zoo.estimate_torch import estimate_torch
from sage.zoo.folder import Folder
from sage.zoo.host import Host
from sage.zoo.lease import Lease
from sage.zoo.notes import others_bytes
from sage.zoo.remote import WORKER_BYTES, check_reach
from sage.zoo.sources import Stamp, check_size, stamp, state, vetted

__all__ = ["memory_need", "memory_parts", "open_kernel", "open_stores"]

LEAST_ROOM = 1_000_000
"""Free bytes without which a turn is not begun in the database: a long one takes a tenth of it."""

_estimates: dict[tuple[str, Stamp, int], MemoryEstimate] = {}
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
        ConfigError: the settings or a user's card are wrong. StoreError: the database cannot be used. Where
            it can only not be written, the kernel works without memory and says so in the log.
    """
    home = home or sage_home()
    settings = settings or load_settings()
    clock = clock or SystemClock()
    bus = bus or EventBus()
    if settings.events.log:
        bus.subscribe(JsonlLog(home / "events.jsonl", max_bytes=settings.events.max_bytes, clock=clock))
    with open_stores(home, settings, clock, forgetful=True) as stores:
        stores.turns.abandon_dead()
        stores.books.release_ended()
        known = load_catalog(home) if catalog is None else catalog

        def need(card: ModelCard) -> int:
            if card.remote:
                check_reach(card, settings.models)
            return memory_need(home, card, settings.models.context)

        def free() -> int:
            loaded = host.occupied_bytes()
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
        host = Host(
            home,
            settings.models,
            free_bytes=free,
            estimate=need,
            bus=bus,
            clock=clock,
            lease=lease if stores.kept else None,  # where nothing can be written, no lock can
        )
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

        def look(card: ModelCard) -> Found:
            found, size = obstacle(card, home, known), card.bytes
            if found is None:
                try:
                    size = host.memory_need(card)
                except SageError as error:
                    found = error
            return Found(present=state(card, home) != "absent", obstacle=found, memory_bytes=size)

        try:
            yield Kernel(
                settings=settings,
                catalog=known,
                host=host,
                stores=stores,
                vitals=open_vitals(stores.db, stores.books, settings, clock),
                surroundings=Surroundings(
                    look=Glance(home, known, clock).at(look),
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
def open_stores(home: Path, settings: Settings, clock: Clock, *, forgetful: bool = False) -> Iterator[Stores]:
    """What was said, spent and learned on this ``SAGE_HOME``, without any model. A damaged database is set
    aside and made again."""
    with _opened(home / "sage.db", forgetful=forgetful) as database:
        turns = VerbatimStore(database, clock)
        salient = SalientMemory(database, bound=settings.memory.salient_max)
        minilm = MiniLM(home)  # shared: it takes 215 MB, at its first text
        yield Stores(
            kept=database.kept,
            db=database,
            turns=turns,
            passages=PassageStore(database),
            recall=Recall(database, minilm, kept=salient.kept),
            salient=salient,
            patterns=PatternMemory(database, clock, half_life_days=settings.selector.half_life_days),
            books=Books(database, turns, clock, settings.atp),
            trust=TrustStore(database, turns, clock, settings.selector, lambda: open_locator(home, minilm)),
            opinions=OpinionStore(database, clock, half_life_days=settings.selector.half_life_days),
        )


@contextmanager
def _opened(path: Path, *, forgetful: bool) -> Iterator[Database]:
    """The database, made again where it is damaged. ``forgetful``: where nothing can be written, one that
    ends with this process; an answer without memory is better than none."""
    try:
        if forgetful:
            _check_room(path)
        try:
            database = Database(path)
        except StoreDamaged:
            _repaired(path)
            database = Database(path)
    except StoreReadOnly as error:
        if not forgetful:
            raise
        logging.getLogger(__name__).warning("Going on without memory, nothing is kept: %s", error.message)
        database = Database(path, kept=False)
    try:
        with database:
            yield database
    except StoreDamaged as error:
        if not _repaired(path):
            raise
        raise StoreDamaged(error.message, mend="It has been made again: ask once more") from error
    finally:
        if database.damaged:
            _repaired(path)


def _repaired(path: Path) -> bool:
    if saved := repair(path):
        logging.getLogger(__name__).warning("%s", saved)
    return saved is not None


def _check_room(path: Path) -> None:
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return
    if free < LEAST_ROOM:
        raise StoreReadOnly(f"The disk of {path} is full.")


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
        UnsafeFile: the weights are damaged. WeightsMissing: there are none. BackendMissing: nothing here can
        compute with them.
    """
    check_size(card, home)
    context = card.room(context)
    if not card.base:
        return _parts(home, card, context)
    base = load_catalog(home).get(card.base)
    if base is None:
        raise WeightsMissing(f"its base {card.base} has no card", mend=f"sage models show {card.name}")
    check_size(base, home)
    return _parts(home, base, context, adapter=card)


def _parts(home: Path, card: ModelCard, context: int, adapter: ModelCard | None = None) -> MemoryEstimate:
    on_top = stamp(adapter, home) if adapter else ()
    key = (card.backend, stamp(card, home) + on_top, context)
    if key not in _estimates:
        found = vetted(card, home)
        if card.backend == "transformers" or isinstance(found, Folder):
            folder = vetted(adapter, home) if adapter else None
            lora = folder if isinstance(folder, Folder) else None
            _estimates[key] = estimate_torch(found, context=context, adapter=lora)
        else:
            _estimates[key] = estimate(found, context=context)
    return _estimates[key]
