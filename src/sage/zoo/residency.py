"""Who is in memory, who waits for it, and who goes: a state machine that keeps a byte budget.

Owns: every model's phase, the line of requests, and the order of loading and leaving.
Pure: signals and times in, effects out. Must not know: processes, threads, files, clocks or prices.

What holds after every signal:

* The bytes of all processes, those that load or leave included, stay within the budget. The estimate is set
  aside before a load begins; bytes are free only when their process is gone. Where a measurement, or pressure
  from outside, breaks the budget, whatever is not in use leaves at once.
* One line, first come first served. A request whose model is absent claims what must leave for it, and what
  it claims nobody behind it can have. While its victims are busy they go on serving for as long as the change
  costs (their load and its own), so that models which alternate do not spend their time on loading; then they
  serve only those who came before the claim, and leave. The oldest request therefore always gets its turn.
* A model that was loaded for somebody serves at least one of them before it can be claimed.
* Every request is granted or refused by its deadline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from sage.errors import DeadlineExceeded, Interrupted, QueueFull, SageError
from sage.zoo.breaker import Breaker
from sage.zoo.eviction import Occupant, does_not_fit, victims
from sage.zoo.footprint import Footprints
from sage.zoo.signals import (
    Appraised,
    Effect,
    Failed,
    Gone,
    Grant,
    LetGo,
    Load,
    Loaded,
    Phase,
    PrefetchAsked,
    Pressed,
    Refuse,
    Requested,
    Served,
    ShutDown,
    Signal,
    Standing,
    Ticked,
    Unload,
    UnloadAsked,
    Wait,
    Withdrawn,
)

__all__ = ["Residency"]

QUEUE = 512
"""Who comes later than so many would wait for minutes, and each signal looks at everybody who waits."""


@dataclass(slots=True)
class _Model:
    name: str
    phase: Phase
    bytes: int
    since: float
    last_used: float
    serving: str = ""
    prefetched: bool = False
    fresh: bool = False
    condemned: str = ""


@dataclass(frozen=True, slots=True)
class _Waiter:
    request: Requested
    asked: float


class _Pass:
    """What one walk along the line has given away so far.

    ``room`` is what will be free once everybody who leaves is gone, ``free`` what is free now.
    """

    def __init__(self, room: int, free: int, wanted: set[str]) -> None:
        self.room = room
        self.free = free
        self.wanted = wanted
        self.claimed: set[str] = set()
        self.held: set[str] = set()
        self.in_line: set[str] = set()
        self.seen: set[str] = set()
        self.stuck = False


class Residency:
    """See the module. Use it from one thread; ``now`` must never go back."""

    def __init__(self, budget: int = 0, *, queue: int = QUEUE) -> None:
        """``budget`` is what all models together may take, in bytes, until the first ``Pressed``; so many
        requests as ``queue`` may wait."""
        self.breaker = Breaker()
        self.footprints = Footprints()
        self._budget = budget
        self._queue = queue
        self._models: dict[str, _Model] = {}
        self._line: dict[str, _Waiter] = {}
        self._granted: dict[str, str] = {}
        self._worth: Mapping[str, float] = {}
        self._load_s: dict[str, float] = {}
        self._claims: dict[str, tuple[str, ...]] = {}
        self._told: set[str] = set()
        self._wish = ""
        self._holds = False
        self._wake = math.inf
        self._closed = False
        self._out: list[Effect] = []

    @property
    def budget(self) -> int:
        """Bytes that all models together may take."""
        return self._budget

    @property
    def used(self) -> int:
        """Bytes of every model that loads, is loaded or leaves."""
        return sum(model.bytes for model in self._models.values())

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing is in use."""
        return not self._line and not any(model.serving for model in self._models.values())

    @property
    def wake_at(self) -> float:
        """When ``Ticked`` is due at the latest; infinity where only signals can change anything."""
        return self._wake

    def standing(self) -> tuple[Standing, ...]:
        """Every model that takes memory."""
        waiting: dict[str, int] = {}
        for waiter in self._line.values():
            waiting[waiter.request.model] = waiting.get(waiter.request.model, 0) + 1
        return tuple(
            Standing(
                name=model.name,
                phase=model.phase,
                bytes=model.bytes,
                since=model.since,
                last_used=max(model.last_used, model.since),
                busy=bool(model.serving),
                waiting=waiting.get(model.name, 0),
                leaves=model.phase == "leaving" or bool(model.condemned),
            )
            for model in self._models.values()
        )

    def handle(self, signal: Signal, now: float) -> tuple[Effect, ...]:
        """Take in what happened; returns what to do, in this order."""
        self._out = []
        self._take_in(signal, now)
        self._expire(now)
        self._stop_needless_loads(now)
        self._part_with_condemned()
        self._relieve()
        self._walk(now)
        self._prefetch(now)
        return tuple(self._out)

    def _take_in(self, signal: Signal, now: float) -> None:
        match signal:
            case Requested():
                self._requested(signal, now)
            case Withdrawn():
                self._line.pop(signal.id, None)
                self._over(signal.id, now)
            case Served():
                self._served(signal, now)
            case Loaded():
                self._loaded(signal, now)
            case Failed():
                model = self._models.pop(signal.model, None)
                self._failed(signal.model, signal.error, now)
                if model and model.phase == "loading":
                    self._refuse_all(signal.model, signal.error)
            case Gone():
                self._models.pop(signal.model, None)
            case Pressed():
                self._budget = signal.budget
            case Appraised():
                self._worth = signal.worth
            case UnloadAsked():
                self._condemn(signal.model, signal.reason)
            case LetGo():
                self._wish, self._holds = "", False
                for name in self._models:
                    self._condemn(name, signal.reason)
            case PrefetchAsked():
                self.footprints.estimated(signal.model, signal.bytes)
                self._wish = signal.model if self.idle and self._holds and not self._closed else ""
            case ShutDown():
                self._closed, self._wish = True, ""
                for waiter in list(self._line.values()):
                    self._refuse(waiter.request.id, _ending(waiter.request.model))
                for model in self._models.values():
                    self._send_away(model, "shutdown")
            case Ticked():
                pass
            case _:
                assert_never(signal)

    def _condemn(self, name: str, reason: str) -> None:
        """Nobody is given this model any more, nor will it be loaded unless somebody asks anew."""
        if self._wish == name:
            self._wish = ""
        model = self._models.get(name)
        if model is None or model.phase == "leaving":
            return
        model.condemned = model.condemned or reason
        if model.phase == "loading":
            self._refuse_all(name, Interrupted(f"{name} was told to leave while it was loading."))

    def _requested(self, request: Requested, now: float) -> None:
        self._holds = True
        if request.unfit is None:
            self.footprints.estimated(request.model, request.bytes)
        self._line[request.id] = _Waiter(request, now)
        self._line = dict(sorted(self._line.items(), key=lambda i: i[1].asked - i[1].request.head_start_s))
        if self._closed:
            self._refuse(request.id, _ending(request.model))
        elif len(self._line) > self._queue:
            text = f"{self._queue} requests wait for models already."
            self._refuse(request.id, QueueFull(text, mend="Ask again later, or raise models.queue"))
        elif request.uses and (refusal := self.breaker.refusal(request.model, now)):
            self._refuse(request.id, refusal)

    def _served(self, served: Served, now: float) -> None:
        name, model = self._over(served.id, now)
        if not name:
            return
        if model:
            self.footprints.measured(name, served.bytes, settles=served.long and served.failure is None)
            model.bytes = max(self.footprints.size(name), served.bytes)
        if served.failure is None:
            self.breaker.answered(name)
        else:
            self._failed(name, served.failure, now)

    def _over(self, request: str, now: float) -> tuple[str, _Model | None]:
        """The name of the model that served this request, and the model, if it is still there."""
        name = self._granted.pop(request, "")
        model = self._models.get(name)
        if model is None or model.serving != request:
            return name, None
        model.serving = ""
        model.last_used = now
        return name, model

    def _loaded(self, loaded: Loaded, now: float) -> None:
        model = self._models.get(loaded.model)
        if model is None or model.phase != "loading":
            return  # it was told to leave meanwhile, and will
        self.footprints.measured(model.name, loaded.bytes)
        self._load_s[model.name] = now - model.since
        model.phase, model.since = "loaded", now
        model.bytes = max(model.bytes, self.footprints.size(model.name))
        model.fresh = True
        # What nobody has used yet is the first to go where all else is equal.
        model.last_used = -math.inf if model.prefetched else now

    def _failed(self, name: str, error: SageError, now: float) -> None:
        self.breaker.failed(name, error, now)
        if refusal := self.breaker.refusal(name, now):
            self._refuse_all(name, refusal)

    def _refuse(self, request: str, error: SageError) -> None:
        del self._line[request]
        self._out.append(Refuse(id=request, error=error))

    def _refuse_all(self, name: str, error: SageError) -> None:
        for waiter in list(self._line.values()):
            if waiter.request.model == name:
                self._refuse(waiter.request.id, error)

    def _send_away(self, model: _Model, reason: str) -> None:
        if model.phase != "leaving":
            model.phase = "leaving"
            self._out.append(Unload(model=model.name, reason=reason))

    def _expire(self, now: float) -> None:
        for waiter in list(self._line.values()):
            if waiter.request.deadline <= now:
                name = waiter.request.model
                model = self._models.get(name)
                busy = model is not None and model.phase == "loaded"
                what = "was busy with other requests" if busy else "was not loaded in time"
                error = DeadlineExceeded(f"{name} {what}.", mend="Allow more time, or ask for less at once")
                self._refuse(waiter.request.id, error)

    def _stop_needless_loads(self, now: float) -> None:
        """A load that nobody waits for any more ends, or what is more than half done would be done again."""
        wanted = self._wanted()
        for model in self._models.values():
            if model.phase == "loading" and model.name in wanted:
                model.prefetched = False
            elif model.phase == "loading" and not model.prefetched:
                if now - model.since >= self._load_s.get(model.name, math.inf) / 2:
                    model.prefetched = True
                else:
                    self._send_away(model, "no longer wanted")

    def _wanted(self) -> set[str]:
        return {waiter.request.model for waiter in self._line.values()}

    def _staying(self) -> list[_Model]:
        """Those whose bytes nobody will get without sending them away."""
        return [m for m in self._models.values() if m.phase != "leaving" and not m.condemned]

    def _relieve(self) -> None:
        """Where the budget is broken, send away what is not in use: the least wanted first."""
        staying = [model for model in self._models.values() if model.phase != "leaving"]
        room = self._budget - sum(model.bytes for model in staying)
        if room >= 0:
            return
        wanted = self._wanted()
        unused = [model for model in staying if not model.serving]
        for group in (
            [m for m in unused if m.prefetched and m.phase == "loading"],
            [m for m in unused if m.phase == "loaded" and m.name not in wanted],
            [m for m in unused if m.phase == "loaded" and m.name in wanted],
            [m for m in unused if m.phase == "loading" and not m.prefetched],
        ):
            leave = self._cheapest(0, room, group)
            for model in group if leave is None else leave:
                room += model.bytes
                self._send_away(model, "memory is short")

    def _cheapest(self, need: int, room: int, models: Iterable[_Model]) -> list[_Model] | None:
        """Who of these should leave for ``need`` bytes where ``room`` are free; None: all are not enough."""
        names = victims(
            need,
            room,
            [
                Occupant(
                    name=model.name,
                    bytes=model.bytes,
                    last_used=model.last_used,
                    worth=self._worth.get(model.name, 0.0),
                )
                for model in models
            ],
        )
        return None if names is None else [self._models[name] for name in names]

    def _walk(self, now: float) -> None:
        """Along the line once, oldest first: grant, claim, load."""
        staying = sum(model.bytes for model in self._staying())
        walk = _Pass(self._budget - staying, self._budget - self.used, self._wanted())
        self._wake = math.inf
        for waiter in list(self._line.values()):
            request = waiter.request
            model = self._models.get(request.model)
            behind: Iterable[str] = (request.model,)
            if model and model.phase == "loaded":
                if model.condemned or model.name in walk.held:
                    pass
                elif model.serving and request.uses:
                    walk.in_line.add(model.name)
                else:
                    self._grant(model, request)
                    continue
            elif model is None or model.phase == "leaving":
                behind = self._claim(waiter, walk, now)
                if request.id not in self._line:
                    continue
            self._wake = min(self._wake, request.deadline)
            if request.id not in self._told:
                self._told.add(request.id)
                self._out.append(Wait(id=request.id, behind=tuple(behind)))
        self._told &= self._line.keys()
        self._claims = {name: names for name, names in self._claims.items() if name in walk.seen}

    def _grant(self, model: _Model, request: Requested) -> None:
        del self._line[request.id]
        if request.uses:
            model.serving = request.id
            self._granted[request.id] = model.name
        elif model.fresh:  # where it was there already, nothing was tried
            self.breaker.loaded(model.name)
        model.fresh = False
        model.prefetched = False
        self._out.append(Grant(id=request.id))

    def _claim(self, waiter: _Waiter, walk: _Pass, now: float) -> Iterable[str]:
        """Plan the load of an absent model, and begin it once there is room; returns who is in its way."""
        request = waiter.request
        name, need = request.model, self.footprints.size(request.model)
        if request.unfit is not None:
            self._refuse(request.id, request.unfit)
            return ()
        if need > self._budget:
            self._refuse(request.id, does_not_fit(name, need, self._budget))
            return ()
        if name in walk.seen:
            return self._claims.get(name, ())
        load_s = self._load_s.get(name, 0.0)
        if need > walk.room and now + load_s > request.deadline:
            error = f"{name} takes {load_s:.0f} s to load, and others would have to leave for it."
            self._refuse(request.id, DeadlineExceeded(error, mend="Allow more time, or unload what is idle"))
            return ()
        walk.seen.add(name)
        for other in self._models.values():
            if other.phase == "loading" and other.prefetched:  # it would slow this one down
                walk.room += other.bytes
                self._send_away(other, f"made room for {name}")
        if walk.stuck:
            return ()
        leaving = self._victims(name, need, walk)
        if leaving is None:  # only what is loading now is in the way; nobody overtakes
            walk.stuck = True
            return tuple(model.name for model in self._models.values() if model.phase == "loading")
        self._claims[name] = tuple(model.name for model in leaving)
        walk.claimed.update(self._claims[name])
        walk.room += sum(model.bytes for model in leaving) - need
        ready_at = max((self._may_go_at(model, waiter, walk, now) for model in leaving), default=now)
        if ready_at <= now:
            for model in leaving:
                if model.serving or model.name in walk.in_line:
                    walk.held.add(model.name)
                else:
                    self._send_away(model, f"made room for {name}")
        else:
            self._wake = min(self._wake, ready_at)
        if not leaving and name not in self._models and need <= walk.free:
            walk.free -= need
            self._models[name] = _Model(name, "loading", need, now, now)
            self._out.append(Load(model=name, bytes=need))
            return (name,)
        return self._claims[name]

    def _victims(self, name: str, need: int, walk: _Pass) -> list[_Model] | None:
        """Who leaves for ``need`` bytes; None where not even everybody who may be claimed is enough.

        What is idle goes first. Otherwise a claim that was made stands, or two busy models would take
        turns at being spared for the other.
        """
        if need <= walk.room:
            return []
        able = [m for m in self._staying() if m.phase == "loaded" and m.name not in walk.claimed]
        idle = [m for m in able if not m.serving and m.name not in walk.wanted]
        if (chosen := self._cheapest(need, walk.room, idle)) is not None:
            return chosen
        before = [m for m in able if m.name in self._claims.get(name, ())]
        if need <= walk.room + sum(model.bytes for model in before):
            return before
        return self._cheapest(need, walk.room, able)

    def _may_go_at(self, model: _Model, waiter: _Waiter, walk: _Pass, now: float) -> float:
        """From when on a claimed model serves only those who came before the claim."""
        if model.name not in walk.wanted:
            if not model.serving:
                return now
        elif model.fresh:
            return math.inf  # it has yet to serve somebody, which is a signal of its own
        request = waiter.request
        cost = self._load_s.get(model.name, 0.0) + self._load_s.get(request.model, 0.0)
        patience = (request.deadline - waiter.asked) / 2  # the rest is for the load and the answer
        return min(model.since + cost, waiter.asked + patience)

    def _part_with_condemned(self) -> None:
        for model in self._models.values():
            if model.condemned and not model.serving:
                self._send_away(model, model.condemned)

    def _prefetch(self, now: float) -> None:
        """Load what may be wanted soon: into free room, or in place of what is worth less."""
        name, phases = self._wish, {model.phase for model in self._models.values()}
        if not name or "leaving" in phases:
            return
        need = self.footprints.size(name)
        refused = self.breaker.state(name, now) != "closed" or need > self._budget
        if not self.idle or refused or name in self._models or "loading" in phases:
            self._wish = ""
            return
        leaving = self._cheapest(need, self._budget - self.used, self._models.values())
        if leaving and sum(self._worth.get(m.name, 0.0) for m in leaving) < self._worth.get(name, 0.0):
            for model in leaving:
                self._send_away(model, f"made room for {name}")
            return
        self._wish = ""
        if leaving == []:
            self._models[name] = _Model(name, "loading", need, now, now, prefetched=True)
            self._out.append(Load(model=name, bytes=need))


def _ending(name: str) -> Interrupted:
    return Interrupted(f"{name} is not loaded any more: SAGE is ending.")
