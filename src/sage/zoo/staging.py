"""Where a model's files are while they arrive: one place for each model, under a lock.

Owns: these places, and whether there is room for what comes. Must not know: where files come from.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from sage.errors import NoDiskSpace
from sage.zoo.card import ModelCard

__all__ = ["Staging", "need_space", "sha256_of", "tree_bytes"]

SPARE_BYTES = 64 << 20
"""Left free beside the files themselves, for the database and everyone else."""


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below; 0 where there is no folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Staging:
    """The places in ``models/.staging`` that belong to one model."""

    def __init__(self, card: ModelCard, home: Path) -> None:
        self.folder = home / "models" / ".staging"
        self.part = self.folder / f"{card.name}.part"
        self.wheel = self.folder / f"{card.name}.wheel"
        self.hub = self.folder / f"{card.name}.hub"
        self._lock = self.folder / f"{card.name}.lock"

    @contextlib.contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the model's lock. It ends with the process, so a crash leaves nothing to clear."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    def held(self) -> int:
        """Bytes of the part file."""
        return self.part.stat().st_size if self.part.exists() else 0

    def clear(self) -> int:
        """Remove what is staged; returns its bytes."""
        freed = self.held()
        self.part.unlink(missing_ok=True)
        for folder in (self.wheel, self.hub):
            freed += tree_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
        return freed


def need_space(card: ModelCard, staging: Staging, bytes_: int, why: str = "") -> None:
    """Raise NoDiskSpace unless so many bytes can still be written; ``why`` is said of them."""
    need, free = bytes_ + SPARE_BYTES, shutil.disk_usage(staging.folder).free
    if free < need:
        raise NoDiskSpace(
            f"{card.name} needs {need / 1e6:.0f} MB of disk{why}; {free / 1e6:.0f} MB are free",
            mend="Free some space (sage models rm NAME), or set SAGE_HOME to a larger disk.",
        )


def sha256_of(path: Path) -> str:
    """The file's hash, in hexadecimal (about a second for 500 MB)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
