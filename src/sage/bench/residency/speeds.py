"""How fast a model of some size would be, from models that were measured.

Owns: two straight lines. Must not know: which models are simulated.

A token is written when every weight has been read once, so it takes a start and bytes / bandwidth; a prompt
is read at a rate that falls with size. Both are fitted to measured models by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sage.bench.zoo.matrix import MeasuredModel

__all__ = ["USUAL", "Speeds", "fit_speeds"]

LEAST_BANDWIDTH, MOST_BANDWIDTH = 1e9, 1e13
"""Bytes a second of any memory from a board's to an accelerator's: what a fit may say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speeds:
    """``start_s`` seconds of a token whatever the size; bytes of weights a second in writing and reading."""

    start_s: float
    write_bytes_s: float
    read_bytes_s: float

    def generate_tok_s(self, weights: float) -> float:
        """Tokens written a second by a model of so many bytes."""
        return 1.0 / (self.start_s + weights / self.write_bytes_s)

    def prompt_tok_s(self, weights: float) -> float:
        """Tokens read a second."""
        return self.read_bytes_s / max(1.0, weights)


USUAL = Speeds(start_s=0.0037, write_bytes_s=31.7e9, read_bytes_s=107e9)
"""Two cores of a desktop processor: fitted to three models of 98 to 491 MB (147, 85 and 52 tokens a second
written; 470, 592 and 213 read)."""


def fit_speeds(models: Sequence[MeasuredModel]) -> Speeds:
    """The lines through these models; ``USUAL`` where fewer than three sizes were measured, or where a line
    says what no memory does."""
    known = [m for m in models if m.generate_tok_s and m.prompt_tok_s and m.bytes]
    if len({m.bytes for m in known}) < 3:
        return USUAL
    size = np.array([m.bytes for m in known], float)
    write = np.array([1.0 / m.generate_tok_s for m in known if m.generate_tok_s])
    read = np.array([1.0 / m.prompt_tok_s for m in known if m.prompt_tok_s])
    slope, start = np.polyfit(size, write, 1)
    reading = float(size @ read / (size @ size))
    sound = all(1.0 / MOST_BANDWIDTH < s < 1.0 / LEAST_BANDWIDTH for s in (slope, reading))
    if not sound or start < 0.0:
        return USUAL
    return Speeds(start_s=float(start), write_bytes_s=1.0 / float(slope), read_bytes_s=1.0 / reading)
