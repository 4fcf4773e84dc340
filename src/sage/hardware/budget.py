"""How much memory models may take. Pure: bytes in, bytes out.

Owns: the floor that is left to everything else. Must not know: which models there are.

Only the machine's memory is budgeted, and where a GPU shares it, each byte is counted once. A model that is
to be loaded needs room in it, wherever it will lie. What a loaded model holds in the memory of a GPU's own
takes none of it away: it is part of ``loaded``, of what is set aside for the model and of what the limit
counts, but ``available`` is no less for it. What such a GPU has left is not asked: a model that does not fit
there fails to load.
"""

from __future__ import annotations

from sage.hardware.probe import Memory

__all__ = ["budget_bytes", "memory_floor"]

MIN_FLOOR = 1024**3
FLOOR_SHARE = 0.1
"""1 GiB is what a desktop session or a Jetson's system services need to stay out of swap; on larger
machines other programs grow with the memory, so a tenth is left."""

GB = 1_000_000_000
"""Settings count as ``render.human_bytes`` and package indexes do, in decimal units."""


def memory_floor(total: int) -> int:
    """Bytes that models never take: the larger of 1 GiB and a tenth of the memory."""
    return max(MIN_FLOOR, int(total * FLOOR_SHARE))


def budget_bytes(memory: Memory, limit_gb: float, *, loaded: int = 0, mapped: int = 0) -> int:
    """Bytes further models may take now: what is available less the floor, and what the limit (0: none)
    leaves beside the ``loaded`` bytes.

    ``mapped`` is the part of ``loaded`` that belongs to files. The system counts it as available, but loaded
    models need it: another model in its place would make them read their weights from the disk for every
    token. So it is taken off. The result is below 0 where models have outgrown what there is, so that whoever
    unloads some of them knows what is left.
    """
    unlimited = max(-loaded, memory.available - memory_floor(memory.total) - mapped)
    return min(unlimited, int(limit_gb * GB) - loaded) if limit_gb > 0 else unlimited
