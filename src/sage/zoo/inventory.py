"""The map of the zoo: what each model is, what is in its way, what was measured of it, who is best at what.

Owns: which figure counts where several are known, and the selection tables made from measurements.
Must not know: where measurements are kept or how a table is shown. Nothing here is typed in: what nobody
measured is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sage.zoo.card import EMBEDDING, ModelCard
from sage.zoo.card_status import as_one, obstacles, status, stored_bits

__all__ = [
    "LEAST_N",
    "Choice",
    "Entry",
    "Inventory",
    "Learned",
    "Measured",
    "Share",
    "Speed",
    "take_inventory",
]

SPEED_RATES = ("load_s", "prompt_tok_s", "generate_tok_s", "rss_bytes")

LEAST_N = 4
"""Questions that a task needs before anybody is called best at it: what the quick suite asks of each kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Quality at one task in [0, 1], over ``n`` questions (or outcomes), each of which took ``cpu_s``."""

    quality: float
    n: float
    cpu_s: float | None = None

    @property
    def error(self) -> float:
        """Standard error of the quality, with two right and two wrong answers added (Agresti and Coull 1998):
        without them it would be nil where all answers were alike."""
        smoothed = (self.quality * self.n + 2) / (self.n + 4)
        return math.sqrt(smoothed * (1 - smoothed) / (self.n + 4))


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One set of measurements: of one machine, by model. ``rates`` as on a card; ``tasks`` by their names,
    each the same questions for every model that was asked as many of them as any.

    ``platform`` is the system and the processor's kind, as ``linux x86_64``; empty where nobody noted it.
    """

    source: str
    machine: str
    platform: str = ""
    date: str = ""
    rates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Share]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What outcomes on this machine have taught of one model at one kind of work: the expected quality in
    [0, 1], and how many outcomes it rests on. Each model had other questions, so nobody is chosen by it.
    """

    kind: str
    model: str
    quality: float
    n: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Rates of one model on one machine; ``who`` is ``measured here``, ``measured`` or ``published``."""

    who: str
    machine: str
    rates: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One model. ``bits_kept`` tells whether no more bits are stored than claimed; None where unknown.

    ``bytes_are`` is ``counted``, ``published`` or ``unknown``; ``ran_on`` names the platforms it was measured
    on, or the machine where only that is known. ``warning`` is the first sentence of the card's ``notice``.
    """

    name: str
    status: str
    notice: str
    warning: str
    obstacle: str
    mend: str
    bytes: int
    bytes_are: str
    parameters: int
    bits_claimed: float
    bits_stored: float | None
    bits_kept: bool | None
    context_length: int
    capabilities: tuple[str, ...]
    license: str
    backend: str
    base: str
    ran_on: tuple[str, ...]
    speed: tuple[Speed, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One line of a selection table, over ``n`` questions that every model compared was asked.

    ``best`` has the highest quality; ``cheapest`` is the model with the least CPU time among those that are
    not worse by more than one standard error of the difference (the best itself where times are unknown).
    Both are empty where nobody was right once.
    """

    where: str
    best: str
    quality: float
    n: float
    cheapest: str
    cheapest_quality: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """The map. ``by_memory``, ``by_speed``: the best within a bound, wherever the bound changes who it is.
    ``learned`` comes by kind of work, the best first.
    """

    entries: tuple[Entry, ...]
    by_task: tuple[Choice, ...]
    by_memory: tuple[Choice, ...]
    by_speed: tuple[Choice, ...]
    learned: tuple[Learned, ...] = ()


def take_inventory(
    catalog: Mapping[str, ModelCard],
    home: Path,
    measurements: Sequence[Measured],
    learned: Iterable[Learned] = (),
) -> Inventory:
    """The map of ``catalog``; ``measurements`` come in the order in which their figures are shown."""
    entries = tuple(_entry(card, home, catalog, measurements) for card in catalog.values())
    tables = [m for m in measurements if m.tasks]
    return Inventory(
        entries=entries,
        by_task=tuple(choice for m in tables for choice in _by_task(m)),
        by_memory=tuple(choice for m in tables for choice in _within(m, "rss_bytes", least=True)),
        by_speed=tuple(choice for m in tables for choice in _within(m, "generate_tok_s", least=False)),
        learned=tuple(sorted(learned, key=lambda one: (one.kind, -one.quality, one.model))),
    )


def _entry(
    card: ModelCard, home: Path, catalog: Mapping[str, ModelCard], measurements: Iterable[Measured]
) -> Entry:
    found, stored = obstacles(card, home, catalog), stored_bits(card)
    hindrance = as_one(found)
    speed = [
        Speed(who=m.source, machine=m.machine, rates=rates)
        for m in measurements
        if (rates := _speed_rates(m.rates.get(card.name, {})))
    ]
    measuring = [m for m in measurements if m.rates.get(card.name) or m.tasks.get(card.name)]
    said = {key: figure for key, figure in card.rates.items() if key in SPEED_RATES}
    for who in ("measured", "published"):
        if rates := {key: figure.value for key, figure in said.items() if figure.provenance == who}:
            speed.append(Speed(who=who, machine="", rates=rates))
    return Entry(
        name=card.name,
        status=status(card, found[0] if found else None),
        notice=card.notice,
        warning=card.warning,
        obstacle=hindrance.message if hindrance else "",
        mend=hindrance.mend if hindrance else "",
        bytes=card.expected_bytes,
        bytes_are="counted" if card.bytes else "published" if card.expected_bytes else "unknown",
        parameters=card.parameters,
        bits_claimed=card.bits,
        bits_stored=stored[0] if stored else None,
        bits_kept=stored[1] if stored else None,
        context_length=card.context_length,
        capabilities=tuple(sorted(card.capabilities)),
        license=card.license,
        backend=card.backend,
        base=card.base,
        ran_on=tuple(dict.fromkeys(m.platform or m.machine for m in measuring)),
        speed=tuple(speed) if card.backend != EMBEDDING else (),
    )


def _speed_rates(rates: Mapping[str, float]) -> dict[str, float]:
    return {key: rates[key] for key in SPEED_RATES if rates.get(key)}


def _fair(measured: Measured) -> dict[str, dict[str, Share]]:
    """By task, the models that were asked all of its questions; tasks with too few of them are left out."""
    fair = dict[str, dict[str, Share]]()
    for task in dict.fromkeys(task for shares in measured.tasks.values() for task in shares):
        asked = {name: shares[task] for name, shares in measured.tasks.items() if task in shares}
        most = max(share.n for share in asked.values())
        if most >= LEAST_N:
            fair[task] = {name: share for name, share in asked.items() if share.n == most}
    return fair


def _by_task(measured: Measured) -> list[Choice]:
    return [_choice(task, shares, measured) for task, shares in _fair(measured).items()]


def _within(measured: Measured, rate: str, *, least: bool) -> list[Choice]:
    """The best over all tasks within each bound that changes who it is, from the tightest bound on."""
    sign, tasks = (1.0 if least else -1.0), _fair(measured).values()
    known = sorted(
        (sign * measured.rates[name][rate], name)
        for name in measured.tasks
        if measured.rates.get(name, {}).get(rate) and tasks and all(name in shares for shares in tasks)
    )
    found, allowed = list[Choice](), dict[str, Share]()
    for bound, name in known:
        allowed[name] = _overall(shares[name] for shares in tasks)
        choice = _choice(str(round(sign * bound)), allowed, measured)
        if not found or choice.best != found[-1].best:
            found.append(choice)
    return found


def _overall(shares: Iterable[Share]) -> Share:
    """All questions as one task; a task counts by its questions."""
    every = list(shares)
    n = sum(share.n for share in every)
    costs = [share.cpu_s * share.n for share in every if share.cpu_s is not None]
    return Share(
        quality=sum(share.quality * share.n for share in every) / n if n else 0.0,
        n=n,
        cpu_s=sum(costs) / n if n and len(costs) == len(every) else None,
    )


def _choice(where: str, shares: Mapping[str, Share], measured: Measured) -> Choice:
    best = max(shares, key=lambda name: shares[name].quality)
    top = shares[best]
    if not top.quality > 0.0:
        return Choice(
            where=where,
            best="",
            quality=0.0,
            n=top.n,
            cheapest="",
            cheapest_quality=0.0,
            source=measured.source,
        )
    as_good = [
        name
        for name, share in shares.items()
        if share.cpu_s is not None
        and share.quality > 0.0
        and top.quality - share.quality <= math.hypot(top.error, share.error)
    ]
    cheapest = min(as_good, key=lambda name: shares[name].cpu_s or 0.0) if top.cpu_s is not None else best
    return Choice(
        where=where,
        best=best,
        quality=round(top.quality, 4),
        n=top.n,
        cheapest=cheapest,
        cheapest_quality=round(shares[cheapest].quality, 4),
        source=measured.source,
    )
