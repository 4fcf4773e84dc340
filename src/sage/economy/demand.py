"""Demand: what the last requests would have made of each candidate, had it been loaded.

Owns: what a load counts for when candidates are compared, what each loaded one is worth, who is wanted next.
Must not know: clocks, processes, or how anything is loaded.

Rent or buy (Karlin et al. 1988). A request that goes to what is loaded, though a cold candidate would have
had more permission, loses something: that much, as a price, has been saved for the load. The request whose
savings reach the price of the load has it done. Per request s, faded by half every ``HALF_LIFE`` requests:

  top_s      best permission among what is loaded now
  saved(c)   sum of max(0, w_sc - top_s), as a price: how much dearer c could have been there and still won
  lost(c)    sum of what s would lose, as a price, without those that c pushes out, though c were there
  load price load(c) + min(DISPLACED x loads of those pushed out, lost(c)) - max(0, saved(c) - lost(c)),
             at least 0

where w_sc is the permission that c would have had if loaded. So a single request loads what it needs badly,
and pays for the load; a series loads what is a little better; nothing is pushed out that is wanted more.
Constants: development data, docs/adr/0011.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from sage.economy.leaving import leaving_order, who_leaves
from sage.economy.pool import Pool
from sage.types import PriceUnit

__all__ = ["Demand", "Loads"]

Floats = npt.NDArray[np.float64]

HALF_LIFE = 20.0
"""Requests after which one counts half: enough to tell a series from chance, few enough for a burst."""

MEMORY = 64
"""Requests remembered: older ones would count for less than a ninth."""

DISPLACED = 10.0
"""Loads that pushing somebody out counts for at most: it is loaded again, those who ask for it meanwhile get
less or wait, and who comes back pushes out another."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Loads:
    """For each candidate of a pool: ``price``, what loading it counts for now (of who is being loaded, the
    rest of the wait; 0 where it is loaded), in what loads count in for the unit asked for (``LOADS_IN``);
    ``saved``, what earlier requests have paid of it; ``displaces`` (candidates, loaded), whom of ``order``
    (who leaves first) it would push out."""

    price: Floats
    saved: Floats
    displaces: npt.NDArray[np.bool_]
    order: tuple[str, ...]

    def pushed_out(self, line: int) -> tuple[str, ...]:
        """The names of those whom loading this candidate would push out."""
        return tuple(compress(self.order, self.displaces[line]))


class Demand:
    """The last ``MEMORY`` requests, each as a row of permissions. Size and time grow with candidates only."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._index: Mapping[str, int] = {}
        self._warm = np.zeros((MEMORY, 0))
        """Permission of each candidate had it been loaded; 0 for rows not yet filled."""
        self._rate = np.zeros((MEMORY, 0))
        """What a unit of permission was worth there, as a price."""
        self._weight = 0.5 ** (np.arange(MEMORY) / HALF_LIFE)
        self._last = 0
        self._requests = 0
        self._used: dict[str, int] = {}
        """The number of the last request that each was chosen for."""
        self._pool = Pool(())
        """The last that was shown, in the order of the columns."""

    def see(self, pool: Pool, warm: Floats, rate: Floats, *, chosen: str = "") -> None:
        """Remember a request: ``warm`` (candidates,) the permission each would have had if loaded, 0 for who
        may not do it; ``rate`` (candidates,) the price that a unit of permission is worth; who does it."""
        self._align(pool)
        self._requests += 1
        self._used[chosen] = self._requests
        self._last = (self._last + 1) % MEMORY
        self._warm[self._last], self._rate[self._last] = warm, rate

    def loads(self, pool: Pool, *, unit: PriceUnit, free_bytes: int) -> Loads:
        """What loading each candidate counts for, where ``free_bytes`` are free without unloading anybody."""
        self._align(pool)
        return self._loads(pool.resident, unit, free_bytes)

    def worth(self, resident: Collection[str]) -> dict[str, float]:
        """By name: the permission that the last requests would have lost without this one, with the others
        still loaded. Names never seen are worth nothing."""
        worth = self._worths([self._index[name] for name in resident if name in self._index])
        found = {self._names[line]: value for line, value in worth.items()}
        return {name: found.get(name, 0.0) for name in resident}

    def wanted(
        self, resident: Collection[str], *, unit: PriceUnit, free_bytes: int
    ) -> tuple[str, float] | None:
        """Who, of those not loaded, would have served the last requests best, and the permission they lost
        without it. Only whose load those requests have paid: else two that are close would take turns."""
        if not self._names:
            return None
        loaded = np.isin(self._names, list(resident))
        missed = self._faded() @ np.maximum(self._warm - self._top(loaded), 0.0)
        missed[loaded | (self._loads(loaded, unit, free_bytes).price > 0.0)] = 0.0
        best = int(missed.argmax())
        return (self._names[best], float(missed[best])) if missed[best] > 0.0 else None

    def _loads(self, loaded: npt.NDArray[np.bool_], unit: PriceUnit, free_bytes: int) -> Loads:
        """What loading each counts for while those ``loaded`` (candidates,) are, whatever the pool says."""
        pool, warm = self._pool, self._warm
        held = np.flatnonzero(loaded)
        used = [self._used.get(pool.names[line], 0) for line in held]
        worths = list(self._worths(held).values())
        order = held[leaving_order(worths, pool.memory_bytes[held].tolist(), used)]
        displaces = who_leaves(pool.memory_bytes - free_bytes, pool.memory_bytes[order])
        displaces[loaded] = False
        # For each group that somebody pushes out: the best permission that is left without it.
        groups: dict[bytes, int] = {}
        group = [groups.setdefault(row.tobytes(), len(groups)) for row in displaces]
        stays = [order[~np.frombuffer(gone, np.bool_)] for gone in groups]
        left = np.stack([warm[:, lines].max(1, initial=self._floor()) for lines in stays], axis=1)
        top = self._top(loaded)
        # A loss is priced by who answers there, a gain by who would: neither is more than price and scale.
        serving = order[warm[:, order].argmax(1)] if len(order) else np.zeros(MEMORY, np.intp)
        at_stake = np.take_along_axis(self._rate, serving[:, None], 1)
        weight = self._faded()
        saved = weight @ (np.maximum(warm - top, 0.0) * self._rate)
        lost = weight @ (np.maximum(top - np.maximum(left[:, group], warm), 0.0) * at_stake)
        due = pool.loads[unit] + np.minimum(DISPLACED * (displaces @ pool.loads[unit][order]), lost)
        paid = np.minimum(np.maximum(saved - lost, 0.0), due)
        return Loads(
            price=np.where(loaded, pool.waits[unit], due - paid),
            saved=np.where(loaded, 0.0, paid),
            displaces=displaces,
            order=tuple(pool.names[line] for line in order),
        )

    def _top(self, loaded: npt.NDArray[np.bool_]) -> Floats:
        """The best permission of each row among those loaded: (rows, 1)."""
        return np.asarray(self._warm[:, loaded].max(1, initial=self._floor()))[:, None]

    def _worths(self, lines: Collection[int] | npt.NDArray[np.intp]) -> dict[int, float]:
        """By line, of these lines only: only the best one of a row loses anything there."""
        columns = [int(line) for line in lines]
        warm = self._warm[:, columns]
        padded = np.hstack([warm, np.full((MEMORY, 2), self._floor())])
        second, first = np.partition(padded, -2, axis=1)[:, -2:].T
        lead = (first - second)[:, None] * (warm == first[:, None])
        return dict(zip(columns, (self._faded() @ lead).tolist(), strict=True))

    def _faded(self) -> Floats:
        """The weight of each row: 1 for the last request."""
        return self._weight[(self._last - np.arange(MEMORY)) % MEMORY]

    def _floor(self) -> float:
        """The permission of nobody: in the additive form that of somebody may be below 0."""
        return float(self._warm.min(initial=0.0))

    def _align(self, pool: Pool) -> None:
        """Columns in the order of the pool; who is new has not been wanted yet."""
        self._pool = pool
        if pool.names == self._names:
            return
        kept = [(new, self._index[name]) for new, name in enumerate(pool.names) if name in self._index]
        tables = []
        for old in (self._warm, self._rate):
            table = np.zeros((MEMORY, len(pool)))
            if kept:
                places, lines = (list(side) for side in zip(*kept, strict=True))
                table[:, places] = old[:, lines]
            tables.append(table)
        self._warm, self._rate = tables
        self._names, self._index = pool.names, pool.index
