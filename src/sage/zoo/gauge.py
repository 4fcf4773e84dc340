"""What a process occupies, in bytes.

Owns: how the system is asked. Must not know: what the process is for.

The memory of a model, wherever it is shown or kept, is ``occupied(pid).bytes`` of its worker: all that lies
in memory for it, the pages of its file included, when memory was last looked at. To that ``Worker`` adds what
the worker says it holds on a GPU, which the system does not count to the process. What is set aside for it in
the budget is another figure: what it occupied at most (``peak_bytes``), or what it is estimated to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Occupied", "occupied", "peak_bytes"]


@dataclass(frozen=True, slots=True)
class Occupied:
    """``bytes`` in memory now, the page cache of mapped files included; ``mapped`` is that part of them, 0
    where the system does not tell (it does on Linux)."""

    bytes: int = 0
    mapped: int = 0


def occupied(pid: int) -> Occupied:
    """What the process occupies now; nothing when it is gone, or the system does not tell."""
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except (psutil.Error, OSError):  # OSError: no descriptors are left, say
        return Occupied()
    return Occupied(int(memory.rss), int(getattr(memory, "shared", 0)))


def peak_bytes(pid: int) -> int:
    """The most that the process ever occupied; what it occupies now where the system does not tell."""
    try:
        with Path(f"/proc/{pid}/status").open() as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return occupied(pid).bytes
