"""Notes in ``SAGE_HOME/run`` that tell other processes which models are loaded, and the workers' log.

Owns: the form of the notes, and that one which a killed process left deceives nobody.
Must not know: how models are loaded, or who reads.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from sage.zoo.gauge import occupied

__all__ = [
    "Noted",
    "clear_notes",
    "erase_note",
    "noted",
    "others_bytes",
    "resident_models",
    "worker_log",
    "write_note",
]

LOG_BYTES = 10_000_000
"""Native libraries are chatty: weeks of their lines would fill a small disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """A model that is in memory: ``pid`` is its worker, ``holder`` the process that loaded it.

    ``bytes`` is what the worker occupies now, ``mapped`` the part of them that belongs to files.
    """

    model: str
    pid: int
    holder: int
    bytes: int
    mapped: int


def noted(home: Path) -> tuple[Noted, ...]:
    """The models that any SAGE process on this ``SAGE_HOME`` has loaded now."""
    return tuple(found for path in sorted((home / "run").glob("*.json")) if (found := _noted(path)))


def resident_models(home: Path) -> set[str]:
    """Their names."""
    return {found.model for found in noted(home)}


def others_bytes(home: Path) -> int:
    """Memory that the models of other processes on this home would give back. Files are not counted: the
    system calls their memory available already."""
    return sum(found.bytes - found.mapped for found in noted(home) if found.holder != os.getpid())


def write_note(home: Path, model: str, worker_pid: int) -> None:
    """Tell that this process has the model loaded; nothing where the disk does not allow it."""
    path = _path(home, model)
    with contextlib.suppress(OSError):
        written = path.with_suffix(".new")
        written.write_text(json.dumps({"model": model, "pid": worker_pid}))
        os.replace(written, path)  # whole at once: others read it


def erase_note(home: Path, model: str) -> None:
    """The model is not loaded here any more."""
    with contextlib.suppress(OSError):
        _path(home, model).unlink()


def clear_notes(home: Path) -> None:
    """Remove what killed processes left."""
    for path in (home / "run").glob("*.json"):
        if not _noted(path):
            with contextlib.suppress(OSError):
                path.unlink()


def worker_log(home: Path) -> Path | None:
    """Where workers write what their libraries say; begun anew when it has grown long.

    None where nothing can be written: models run without a log.
    """
    log = home / "run" / "worker.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            if file.tell() > LOG_BYTES:
                file.truncate(0)  # those that write to it append
    except OSError:
        return None
    return log


def _path(home: Path, model: str) -> Path:
    return home / "run" / f"{os.getpid()}-{model}.json"


def _noted(path: Path) -> Noted | None:
    """What a note says; None where its worker lives no more."""
    import psutil

    try:
        note = json.loads(path.read_text())
        worker = psutil.Process(note["pid"])
        # A process id is used again by others in time.
        if "sage.zoo.worker" not in worker.cmdline():
            return None
        memory = occupied(worker.pid)
        return Noted(
            model=str(note["model"]),
            pid=worker.pid,
            holder=int(path.name.partition("-")[0]),
            bytes=memory.bytes,
            mapped=memory.mapped,
        )
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
