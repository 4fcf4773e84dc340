"""Variety: how far a candidate's quality in one context lies from what its overall quality says.

Owns: the estimate of that spread, from evidence. Must not know: how beliefs are read, or who explores.

Where candidates are alike everywhere, trying each of them in each context is a waste; where they are
specialists, not trying is. Evidence tells which: the residual of a cell, r = sum - weight x (g + d), is

  E[r^2] = weight^2 x variety^2 + weight x noise

so that (r^2 - weight x noise), summed over cells with shares 1 / (weight + FEW), estimates variety^2 times
the sum of weight^2 (method of moments, as in empirical Bayes: DerSimonian & Laird 1986). Each candidate's
estimate is shrunk to ``USUAL`` and the pool's is their mean, so that one candidate with all the work does
not decide for those that were hardly tried.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Variety"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

USUAL = 0.1
"""Standard deviation that is assumed of a candidate of which nothing is known."""

STRENGTH = 20.0
"""Outcomes of a candidate that the assumption counts for."""

FEW = 10.0
"""Outcomes in a cell from which on it counts by its outcomes, not by their square."""

NOISE = 0.16
"""Variance of one outcome, for each unit of weight: 0.2, less what outcomes that lie between cells, with a
part of their weight in each, add less."""

LEAST = 1e-3
"""Variety that is never fallen below: the estimate may come out negative."""


class Variety:
    """Per line of evidence: the square of its variety, less that of ``USUAL``."""

    def __init__(self) -> None:
        self._beyond = np.zeros(0)

    def resize(self, candidates: int) -> None:
        """Make room for more candidates."""
        self._beyond = np.concatenate([self._beyond, np.zeros(candidates - len(self._beyond))])

    def look(self, lines: slice | int, residuals: Floats, weights: Floats, read: Floats) -> None:
        """Tell it anew for one line, or some: ``residuals`` and ``weights`` (cells,) or (cells, lines).

        ``read`` (cells,) is how much each cell counts.
        """
        counts = weights + FEW
        share = weights / counts
        squares = read @ (share * weights)
        beyond = read @ (residuals * residuals / counts - NOISE * share) - squares * USUAL**2
        self._beyond[lines] = beyond / (squares + STRENGTH)

    def among(self, lines: slice | Ints, kept: Floats) -> float:
        """The standard deviation among these lines, of whose evidence the share ``kept`` (lines,) counts."""
        beyond = float(self._beyond[lines] @ kept) / max(1, len(kept))
        return math.sqrt(max(USUAL**2 + beyond, LEAST**2))
