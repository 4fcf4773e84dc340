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

import numpy as np
import numpy.typing as npt

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
    """For each candidate of a pool: ``price``, what loading it counts for now (0 where it is loaded), in the
    unit asked for; ``saved``, what earlier requests have paid of it; ``displaces``, how many of ``order`` it
    would push out, from the front."""

    price: Floats
    saved: Floats
    displaces: npt.NDArray[np.intp]
    order: tuple[str, ...]


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

    def see(self, pool: Pool, warm: Floats, rate: Floats) -> None:
        """Remember a request: ``warm`` (candidates,) the permission each would have had if loaded, 0 for who
        may not do it; ``rate`` (candidates,) the price that a unit of permission is worth."""
        self._align(pool)
        self._last = (self._last + 1) % MEMORY
        self._warm[self._last], self._rate[self._last] = warm, rate

    def loads(self, pool: Pool, *, unit: PriceUnit, free_bytes: int) -> Loads:
        """What loading each candidate counts for, where ``free_bytes`` are free without unloading anybody."""
        self._align(pool)
        weight, warm = self._faded(), self._warm
        worth = self._worths(np.flatnonzero(pool.resident))
        order = sorted(worth, key=lambda line: worth[line] / max(1, int(pool.memory_bytes[line])))
        # Column k: the best permission that is left when the first k of them have gone.
        left = np.full((MEMORY, len(order) + 1), self._floor())
        for k in range(len(order) - 1, -1, -1):
            left[:, k] = np.maximum(left[:, k + 1], warm[:, order[k]])
        top = left[:, :1]
        # A loss is priced by who answers there, a gain by who would: neither is more than price and scale.
        serving = np.array(order or [0])[warm[:, order].argmax(1) if order else np.zeros(MEMORY, np.intp)]
        at_stake = np.take_along_axis(self._rate, serving[:, None], 1) if len(pool) else top
        freed = np.cumsum([0, *pool.memory_bytes[order]])
        displaces = np.minimum(np.searchsorted(freed, pool.memory_bytes - free_bytes), len(order))
        saved = weight @ (np.maximum(warm - top, 0.0) * self._rate)
        lost = weight @ (np.maximum(top - np.maximum(left.take(displaces, 1), warm), 0.0) * at_stake)
        again = np.cumsum([0.0, *pool.loads[unit][order]])[displaces]
        due = pool.loads[unit] + np.minimum(DISPLACED * again, lost)
        paid = np.minimum(np.maximum(saved - lost, 0.0), due)
        return Loads(
            price=np.where(pool.resident, 0.0, due - paid),
            saved=np.where(pool.resident, 0.0, paid),
            displaces=np.where(pool.resident, 0, displaces),
            order=tuple(pool.names[line] for line in order),
        )

    def worth(self, resident: Collection[str]) -> dict[str, float]:
        """By name: the permission that the last requests would have lost without this one, with the others
        still loaded. Names never seen are worth nothing."""
        worth = self._worths([self._index[name] for name in resident if name in self._index])
        found = {self._names[line]: value for line, value in worth.items()}
        return {name: found.get(name, 0.0) for name in resident}

    def wanted(self, resident: Collection[str]) -> tuple[str, float] | None:
        """Who, of those not loaded, would have served the last requests best, and the permission they lost
        without it; None where nobody would have done better than what is loaded."""
        if not self._names:
            return None
        hot = [self._index[name] for name in resident if name in self._index]
        top = self._warm[:, hot].max(1, initial=self._floor())[:, None]
        missed = self._faded() @ np.maximum(self._warm - top, 0.0)
        best = int(missed.argmax())
        return (self._names[best], float(missed[best])) if missed[best] > 0.0 else None

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
