"""Of what somebody said about one thing, the newest comes first.

Owns: when a later message corrects an earlier one, and its place in the ranking. Must not know: how messages
are scored, or what their words mean; it is told how alike two are.

Asked how things are, people want what was said last; asked what happened, each event counts for itself. So
this is for questions about how things are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sage.memory.index import CHANGE, Index

__all__ = ["Alike", "newer_first"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

Alike = Callable[[Sequence[int], Sequence[int]], Floats]
"""(ids, ids) -> how alike each of these messages is to each of those, about -1..1; NaN where not known."""

POOL = 40
"""Of so many of the best messages."""

CORRECTS, ABOUT_IT = 8.0, 0.55
"""A message that says that something changed corrects an earlier one of the same speaker that fits better by
this much at most, where the two are at least so alike."""

UNSEEN = 3.0
"""``CORRECTS`` where it is not known how alike they are."""

TIE = 0.01
"""One from another session that says nothing of a change does where it fits just as well."""


def newer_first(index: Index, rows: Ints, scores: Floats, alike: Alike | None) -> Floats:
    """The scores of the candidates (``rows`` of the index), with that of a message that corrects an older one
    lifted just above it."""
    best = np.argsort(-scores, kind="stable")[:POOL]
    records = index.records[rows[best]]
    was, ids = scores[best], records["id"]
    gap = was[None, :] - was[:, None]  # [later, earlier]
    older = (ids[None, :] < ids[:, None]) & (records["speaker"][None, :] == records["speaker"][:, None])
    changes = older & (records["traits"] & CHANGE > 0)[:, None] & (gap >= 0) & (gap < CORRECTS)
    restates = older & (records["session"][None, :] != records["session"][:, None])
    restates &= (gap >= 0) & (gap < TIE)
    likeness = np.full(gap.shape, np.nan, np.float32)
    later = np.flatnonzero(changes.any(1))
    if alike is not None and len(later):
        likeness[later] = alike(ids[later].tolist(), ids.tolist())
    corrects = restates | changes & np.where(np.isnan(likeness), gap < UNSEEN, likeness >= ABOUT_IT)
    beaten = np.where(corrects, was[None, :], -np.inf).max(1, initial=-np.inf)
    lifted = beaten > -np.inf
    result = scores.copy()
    ages = np.argsort(np.argsort(ids))
    result[best[lifted]] = beaten[lifted] + np.float32(1e-3) * (1 + ages[lifted])
    return result
