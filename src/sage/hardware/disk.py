"""How fast this disk reads: what a load is predicted from before one has been seen.

Owns: the measurement and its record in SAGE_HOME/hardware.json. Must not know: models.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sage.clock import Clock, SystemClock

__all__ = ["FALLBACK_READ", "cached_disk_read", "measure_disk_read"]

SAMPLE_BYTES = 64 * 1024 * 1024
"""Long enough to pass any read-ahead, short enough for a slow card: 0.7 s at 100 MB/s."""

BLOCK = 1024 * 1024

FALLBACK_READ = 100_000_000.0
"""Bytes/s assumed where nothing can be measured: a hard disk's, and the bus limit of a UHS-I memory
card (104 MB/s). On the low side for an SSD, so a load is promised too late rather than too early."""

FRESH_S = 7 * 24 * 3600.0
"""A week: disks change seldom, but a home folder may be moved to another one."""

F_NOCACHE = 48
"""fcntl on macOS: read past the page cache (sys/fcntl.h). Python has no name for it."""


def measure_disk_read(folder: Path, *, file: Path | None = None) -> float:
    """Bytes/s of a sequential read of up to 64 MiB that is not in the page cache.

    Reads ``file`` if given, else a temporary file in ``folder``, removed afterwards. A host's own cache
    below a virtual machine cannot be emptied from here, so there the figure may be too high.

    Raises:
        OSError: the folder cannot be written, or has no room.
    """
    if file is not None:
        return _read_speed(file)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".disk-", suffix=".tmp")
    try:
        with open(handle, "wb", buffering=0) as sample:
            block = os.urandom(BLOCK)  # zeros would be compressed by some file systems
            for _ in range(SAMPLE_BYTES // BLOCK):
                sample.write(block)
            os.fsync(sample.fileno())  # only what is on the disk can be dropped from the cache
        return _read_speed(Path(name))
    finally:
        Path(name).unlink(missing_ok=True)


def _read_speed(file: Path) -> float:
    with file.open("rb", buffering=0) as sample:
        _drop_from_cache(sample.fileno())
        start, done = time.perf_counter(), 0
        while done < SAMPLE_BYTES and (block := sample.read(BLOCK)):
            done += len(block)
        return done / max(time.perf_counter() - start, 1e-9)


def _drop_from_cache(descriptor: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    else:
        import fcntl

        fcntl.fcntl(descriptor, F_NOCACHE, 1)


def cached_disk_read(
    home: Path, *, clock: Clock | None = None, measure: Callable[[Path], float] = measure_disk_read
) -> float:
    """Bytes/s at which ``home`` reads: the record if it is under a week old, else measured now.

    Where nothing can be written, the old record stands; without one, ``FALLBACK_READ``.
    """
    now = (clock or SystemClock()).time()
    record = home / "hardware.json"
    speed, measured_at = _recorded(record)
    if speed is not None and 0 <= now - measured_at < FRESH_S:
        return speed
    try:
        home.mkdir(parents=True, exist_ok=True)
        fresh = measure(home)
    except OSError:
        return FALLBACK_READ if speed is None else speed
    with contextlib.suppress(OSError):  # not kept is measured again, no more
        _write_atomically(record, {"disk_read_bytes_per_s": round(fresh), "measured_at": round(now)})
    return fresh


def _recorded(record: Path) -> tuple[float | None, float]:
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
        speed, measured_at = float(kept["disk_read_bytes_per_s"]), float(kept["measured_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0.0
    return (speed, measured_at) if 0 < speed < float("inf") else (None, 0.0)


def _write_atomically(path: Path, value: dict[str, float]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".hardware-", suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
