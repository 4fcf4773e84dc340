"""Who leaves memory: for those who say what pushing somebody out would cost, and for those who push.

Owns: the order, and how many must go. Must not know: what worth is measured in, processes, clocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["leaving_order", "who_leaves"]


def leaving_order(worths: Sequence[float], sizes: Sequence[int], last_used: Sequence[float]) -> list[int]:
    """The places of these lists, first who leaves first: what is worth least a byte, then what was used
    longest ago. ``last_used`` is any number that rises; who ties in that too keeps the order given."""
    return sorted(range(len(worths)), key=lambda i: (worths[i] / max(1, sizes[i]), last_used[i]))


def who_leaves(needs: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """For each need (n,) of bytes, who of those with ``sizes`` (m,), in the order of leaving, goes: (n, m).

    From the front until the need is met, all where they are not enough. Whom a larger one makes needless
    stays, the last in the order first.
    """
    before = np.cumsum(sizes) - sizes
    gone = before < needs[:, None]
    spare = gone @ sizes - needs
    for place in reversed(range(len(sizes))):
        stays = gone[:, place] & (sizes[place] <= spare)
        gone[stays, place] = False
        spare[stays] -= sizes[place]
    return gone
