"""The candidates of a decision as columns, so that a thousand cost hardly more than ten.

Owns: turning candidates into arrays, and refusing figures that are none. Must not know: how a choice is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sage.economy.ledger import BYTES_PER_ATP, SECONDS_PER_ATP
from sage.errors import NoCandidate, SageError
from sage.types import ANY_KIND, Candidate, PriceUnit

__all__ = ["LOADS_IN", "Pool", "card_overall", "card_shift"]

Floats = npt.NDArray[np.float64]

MOST_CERTAIN = 0.98
"""No figure on a card is certain: 16 right answers of 16 are worth 0.94 (Laplace), 200 of 200 are 0.995."""

UNKNOWN = 0.5
"""The quality of a candidate whose card says nothing."""


LOADS_IN: Mapping[PriceUnit, PriceUnit] = {"atp": "atp", "seconds": "seconds", "tokens": "atp", "usd": "atp"}
"""What loads count in where answers are priced in this unit. No load costs tokens or money; were it free for
that, any hair of quality would swap models."""


class Pool:
    """Candidates, columns of their figures, and what was found wrong with a figure.

    Raises:
        ValueError: two candidates have the same name.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)
        self.names = tuple(c.name for c in candidates)
        self.index: Mapping[str, int] = {name: i for i, name in enumerate(self.names)}
        if len(self.index) < len(self.names):
            raise ValueError("candidates need names of their own")
        self.context_length = np.array([c.context_length for c in candidates], np.int64)
        self.memory_bytes = np.array([c.memory_bytes for c in candidates], np.int64)
        self.resident = np.array([c.resident for c in candidates], bool)
        load_s = np.array([c.est_load_s for c in candidates], float)
        run_s = np.array([c.est_run_s for c in candidates], float)
        load_bytes = np.array([c.load_bytes for c in candidates], float)
        again_s = np.array([c.reload_s for c in candidates], float)
        again_bytes = np.array([c.reload_bytes for c in candidates], float)
        self.nothing = np.zeros(len(candidates))
        """A column of zeros."""
        self.runs: Mapping[PriceUnit, Floats] = {
            "atp": run_s,
            "seconds": run_s,
            "tokens": np.array([c.est_tokens for c in candidates], float),
            "usd": np.array([c.est_usd for c in candidates], float),
        }
        """The work alone."""
        self.waits = self._loading(load_s, load_bytes)
        """Loading first, of what is not loaded, in ``LOADS_IN`` of the unit."""
        self.loads = self._loading(again_s, again_bytes)
        """Loading alone, also of what is loaded: what it would take again."""
        self.prices: Mapping[PriceUnit, Floats] = {
            unit: run + self.waits[unit] if LOADS_IN[unit] == unit else run for unit, run in self.runs.items()
        }
        """Both, where loads count in the same unit; else the work alone."""
        self.atp = self.prices["atp"]
        self.unavailable: dict[int, SageError] = {
            i: c.unavailable for i, c in enumerate(candidates) if c.unavailable is not None
        }
        figures = np.vstack([load_s, run_s, load_bytes, again_s, again_bytes, *self.prices.values()])
        for i in np.flatnonzero(~(np.isfinite(figures) & (figures >= 0.0)).all(0)):
            self.unavailable.setdefault(int(i), NoCandidate("its estimated price is not a number"))
        self.every = np.arange(len(self.names))
        self.open = np.ones(len(self.names), bool)
        self.open[list(self.unavailable)] = False
        families = {name: i for i, name in enumerate(dict.fromkeys(c.family for c in candidates if c.family))}
        self.families: npt.NDArray[np.intp] | None = None
        """Numbers of families, each candidate without one alone in its own; None where nobody is related."""
        if len(families) < sum(bool(c.family) for c in candidates):
            alone = iter(range(len(families), len(families) + len(candidates)))
            numbers = [families[c.family] if c.family else next(alone) for c in candidates]
            self.families = np.array(numbers, np.intp)
        self._able: dict[frozenset[str], npt.NDArray[np.bool_]] = {}
        self._priors: dict[str, tuple[Floats, Floats]] = {}

    def __len__(self) -> int:
        return len(self.names)

    def _loading(self, seconds: Floats, bytes_moved: Floats) -> Mapping[PriceUnit, Floats]:
        """A load for each unit; :func:`sage.economy.ledger.price` of each line."""
        atp = np.maximum(seconds / SECONDS_PER_ATP, bytes_moved / BYTES_PER_ATP)
        return {unit: {"atp": atp, "seconds": seconds}[other] for unit, other in LOADS_IN.items()}

    def able(self, needs: frozenset[str]) -> npt.NDArray[np.bool_]:
        """Who has these capabilities."""
        if needs not in self._able:
            self._able[needs] = np.array([needs <= c.capabilities for c in self.candidates], bool)
        return self._able[needs]

    def priors(self, kind: str) -> tuple[Floats, Floats]:
        """What the cards say: of any work, and how far their figure for this kind lies from that."""
        if kind not in self._priors:
            overall = np.array([card_overall(c.prior) for c in self.candidates], float)
            shifts = np.array([card_shift(c.prior, kind) for c in self.candidates], float)
            self._priors[kind] = overall, shifts
        return self._priors[kind]


def card_overall(prior: Mapping[str, float]) -> float:
    """A card's figure for any work."""
    return _quality(prior.get(ANY_KIND, UNKNOWN))


def card_shift(prior: Mapping[str, float], kind: str) -> float:
    """How far a card's figure for a kind of work lies from its overall figure."""
    overall = card_overall(prior)
    return _quality(prior.get(kind, overall)) - overall


def _quality(value: float) -> float:
    if not math.isfinite(value):
        return UNKNOWN
    return min(MOST_CERTAIN, max(1.0 - MOST_CERTAIN, value))
