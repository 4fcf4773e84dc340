"""What this machine is and has free, read once a call.

Owns: processors, memory and accelerators, as this process may use them: a container's limits count.
Must not know: models, or what is done with the figures.

Functions that read files take the root of the file system, so that tests can bring their own.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import psutil

from sage.hardware.disk import cached_disk_read, measure_disk_read

__all__ = [
    "Accelerator",
    "Machine",
    "Memory",
    "accelerators",
    "cached_disk_read",
    "cgroup_cpus",
    "cgroup_memory",
    "cpu_name",
    "is_unified",
    "measure_disk_read",
    "memory",
    "probe",
    "usable_cores",
]

ROOT = Path("/")

MIB = 1024 * 1024
"""nvidia-smi reports memory in MiB."""

NVIDIA_SMI_TIMEOUT_S = 5.0
"""A healthy driver answers in well under a second; one that is hung must not hang SAGE."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """A GPU. Sizes are bytes; where ``unified``, they are those of the machine's own memory."""

    name: str
    memory_total: int
    memory_free: int
    unified: bool


class Memory(NamedTuple):
    """Bytes that this process may use at all, and those it may still take without swapping."""

    total: int
    available: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The machine as this process may use it. Sizes are bytes.

    ``memory_available`` is what can be allocated without swapping: file cache counts as available.
    Both memory figures are capped by a container's limit. ``unified``: the GPU shares this memory.
    """

    platform: str
    arch: str
    cpu: str
    logical_cores: int
    usable_cores: int
    memory_total: int
    memory_available: int
    swap_total: int
    unified: bool
    accelerators: tuple[Accelerator, ...] = ()

    @property
    def memory(self) -> Memory:
        return Memory(self.memory_total, self.memory_available)


def probe(root: Path = ROOT) -> Machine:
    """Look at the machine. Takes milliseconds, plus nvidia-smi where there is one."""
    total, available = memory(root)
    unified = is_unified(root)
    gpus = accelerators(total, available, shared=unified, root=root)
    logical = os.cpu_count() or 1
    return Machine(
        platform=platform.system().lower(),
        arch=platform.machine(),
        cpu=cpu_name(root),
        logical_cores=logical,
        usable_cores=_usable_cores(root),
        memory_total=total,
        memory_available=available,
        swap_total=psutil.swap_memory().total,
        unified=unified or any(gpu.unified for gpu in gpus),
        accelerators=gpus,
    )


def memory(root: Path = ROOT) -> Memory:
    """What there is and what is available now, within a container's limit. Takes well under a millisecond."""
    # psutil's "available" is MemAvailable. MemFree leaves out the file cache, so on a machine whose
    # cache holds the weights it would say that nothing fits.
    machine = psutil.virtual_memory()
    limited = cgroup_memory(root)
    if limited is not None and limited[0] < machine.total:
        return Memory(limited[0], min(machine.available, limited[1]))
    return Memory(machine.total, machine.available)


@lru_cache(maxsize=1)
def usable_cores() -> int:
    """Cores that this process may keep busy: its affinity and the container's quota count. Read once."""
    return _usable_cores(ROOT)


def _usable_cores(root: Path) -> int:
    logical = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    return min(allowed, cgroup_cpus(root) or logical)


def _text(path: Path) -> str:
    """A file's text, or nothing: what the kernel shows differs by version, board and permission."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def cpu_name(root: Path = ROOT) -> str:
    """``model name`` of /proc/cpuinfo (x86), the board's model (ARM), or the architecture."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return _board(root) or platform.processor() or platform.machine()


def _board(root: Path) -> str:
    return _text(root / "proc/device-tree/model")


def is_unified(root: Path = ROOT, *, system: str | None = None, arch: str | None = None) -> bool:
    """Whether a GPU would share the machine's memory: Apple silicon, Jetson, other boards with a SoC."""
    if (system or platform.system()) == "Darwin":
        return (arch or platform.machine()) == "arm64"
    if (root / "etc/nv_tegra_release").exists():
        return True
    # Only boards described by a device tree have this file; servers use ACPI. Virtual machines are
    # "linux,dummy-virt" and have no GPU of their own.
    board = _board(root)
    return bool(board) and "dummy-virt" not in board


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of all above it, for a v2 or a v1 controller.

    A limit anywhere above holds too. In a container the path may name a folder that is mounted as the
    top; then only the top exists.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names == "":
            top = root / "sys/fs/cgroup"
        elif controller in names.split(","):
            mounts = (root / "sys/fs/cgroup" / name for name in (controller, names))
            top = next((mount for mount in mounts if mount.is_dir()), root / "sys/fs/cgroup" / controller)
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth])


def cgroup_memory(root: Path = ROOT) -> tuple[int, int] | None:
    """(limit, available) in bytes of the tightest memory limit, or None where none is set.

    Inactive file cache counts as available: the kernel drops it before it kills anything.
    """
    tightest: tuple[int, int] | None = None
    for folder in _cgroup_folders(root, "memory"):
        if _text(folder / "memory.max"):
            names = ("memory.max", "memory.current", "inactive_file")
        else:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit_name, used_name, cache_key = names
        limit = _number(folder / limit_name)
        # cgroup v1 writes "no limit" as the largest page-aligned 64-bit number.
        if limit is None or limit >= 2**62 or (used := _number(folder / used_name)) is None:
            continue
        stat = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
        cache = int(stat.get(cache_key, "0"))
        available = max(0, limit - max(0, used - cache))
        if tightest is None:
            tightest = (limit, available)
        else:
            tightest = (min(tightest[0], limit), min(tightest[1], available))
    return tightest


def cgroup_cpus(root: Path = ROOT) -> int | None:
    """Whole cores of the tightest CPU quota, at least one, or None where none is set."""
    cores: list[float] = []
    for folder in _cgroup_folders(root, "cpu"):
        fields = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us"),
            _text(folder / "cpu.cfs_period_us"),
        ]
        if len(fields) == 2 and all(field.isdigit() and int(field) > 0 for field in fields):
            cores.append(int(fields[0]) / int(fields[1]))
    # A thread more than the quota allows makes every thread wait for the next period.
    return max(1, int(min(cores))) if cores else None


def accelerators(
    memory_total: int, memory_available: int, *, shared: bool, root: Path = ROOT, command: str = "nvidia-smi"
) -> tuple[Accelerator, ...]:
    """NVIDIA GPUs, by nvidia-smi; on a Jetson without it, the board itself. None is fine.

    A board whose GPU shares memory reports ``[N/A]`` for its sizes; the machine's own are used then.
    """
    query = [command, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, errors="replace", timeout=NVIDIA_SMI_TIMEOUT_S, check=True
        )
        lines = done.stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        lines = []
    found: list[Accelerator] = []
    for line in lines:
        name, *sizes = (part.strip() for part in line.rsplit(",", 2))
        if not name or len(sizes) != 2:
            continue
        known = all(size.isdigit() for size in sizes)
        found.append(
            Accelerator(
                name=name,
                memory_total=int(sizes[0]) * MIB if known else memory_total,
                memory_free=int(sizes[1]) * MIB if known else memory_available,
                unified=shared or not known,
            )
        )
    if not found and (root / "etc/nv_tegra_release").exists():
        board = _board(root) or "NVIDIA Tegra"
        found.append(
            Accelerator(name=board, memory_total=memory_total, memory_free=memory_available, unified=True)
        )
    return tuple(found)
