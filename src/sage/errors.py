"""One exception tree. Each class carries its exit code and its HTTP status.

    SageError
    ├── UsageError            2  400   the request itself is wrong
    │   ├── ConfigError       2  400
    │   └── ContextTooLong    2  413
    ├── NotFound              3  404
    │   ├── ModelNotFound     3  404
    │   ├── WeightsMissing    3  404   known, but not on this machine
    │   └── TurnNotFound      3  404
    ├── ResourceError         4  503   not now, or not on this machine
    │   ├── DoesNotFit        4  503
    │   ├── NoDiskSpace       4  507
    │   ├── NoCandidate       4  503
    │   ├── BudgetSpent       4  429
    │   ├── LoadFailed        4  503
    │   ├── WorkerDied        4  503
    │   ├── DeadlineExceeded  4  504
    │   ├── DownloadFailed    4  502
    │   ├── RemoteFailed      4  502   a server of models failed, or spoke nonsense
    │   │   └── RateLimited   4  429   it asks for patience
    │   ├── QueueFull         4  503   too many wait for models already
    │   ├── HomeInUse         4  503   another process holds the models of this SAGE_HOME
    │   ├── BackendMissing    4  501
    │   └── StoreError        4  500
    │       ├── StoreDamaged  4  500   parts of the database cannot be read
    │       └── StoreReadOnly 4  500   nothing can be written where it lies
    ├── UnsafeFile            5  422   refused: it is not what it claims to be
    └── Interrupted         130  499

Owns: the failures a caller can tell apart. Must not know: how they are printed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "BackendMissing",
    "BudgetSpent",
    "ConfigError",
    "ContextTooLong",
    "DeadlineExceeded",
    "DoesNotFit",
    "DownloadFailed",
    "HomeInUse",
    "Interrupted",
    "LoadFailed",
    "ModelNotFound",
    "NoCandidate",
    "NoDiskSpace",
    "NotFound",
    "QueueFull",
    "RateLimited",
    "RemoteFailed",
    "ResourceError",
    "SageError",
    "StoreDamaged",
    "StoreError",
    "StoreReadOnly",
    "Terminated",
    "TurnNotFound",
    "UnsafeFile",
    "UsageError",
    "WeightsMissing",
    "WorkerDied",
    "did_you_mean",
]


class SageError(Exception):
    """Base of every expected failure. ``message`` says what, ``mend`` says what to do about it."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    @property
    def name(self) -> str:
        """Stable name for JSON and logs."""
        return type(self).__name__


class UsageError(SageError):
    """The request itself is wrong."""

    exit_code = 2
    http_status = 400


class ConfigError(UsageError):
    """A configuration file, variable or flag is wrong."""


class ContextTooLong(UsageError):
    """The prompt does not fit into the context of any candidate."""

    http_status = 413


class NotFound(SageError):
    """Something named does not exist."""

    exit_code = 3
    http_status = 404


class ModelNotFound(NotFound):
    """No card has this name."""


class WeightsMissing(NotFound):
    """The model is known, but its weights are not on this machine."""


class TurnNotFound(NotFound):
    """No turn has this id."""


class ResourceError(SageError):
    """Not now, or not on this machine."""

    exit_code = 4
    http_status = 503


class DoesNotFit(ResourceError):
    """More memory is needed than is free; raised before anything is allocated."""


class NoDiskSpace(ResourceError):
    """Too little room where the file should go."""

    http_status = 507


class NoCandidate(ResourceError):
    """Every candidate was filtered out or failed."""


class BudgetSpent(ResourceError):
    """The ATP balance does not cover the cheapest candidate."""

    http_status = 429


class LoadFailed(ResourceError):
    """The backend refused or failed to load the weights."""


class WorkerDied(ResourceError):
    """The worker process ended before it answered."""


class DeadlineExceeded(ResourceError):
    """The time given ran out."""

    http_status = 504


class DownloadFailed(ResourceError):
    """A source could not deliver the file."""

    http_status = 502


class RemoteFailed(ResourceError):
    """A server that runs a model failed, hung, cut its answer, or did not answer as such a server does.

    ``silent_s`` is for how many seconds it was waited for in vain; 0 where it said something.
    """

    http_status = 502

    def __init__(self, message: str, *, mend: str = "", silent_s: float = 0.0) -> None:
        super().__init__(message, mend=mend)
        self.silent_s = silent_s


class RateLimited(RemoteFailed):
    """The server asks not to be asked for ``retry_after_s`` seconds; 0 where it does not say how long."""

    http_status = 429

    def __init__(self, message: str, *, mend: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, mend=mend)
        self.retry_after_s = retry_after_s


class QueueFull(ResourceError):
    """So many requests wait for models that another would wait too long."""


class HomeInUse(ResourceError):
    """Another process holds the models of this ``SAGE_HOME``, and did not let go of them in time."""


class BackendMissing(ResourceError):
    """The library that runs this model is not installed."""

    http_status = 501


class StoreError(ResourceError):
    """The database cannot be read or written."""

    http_status = 500


class StoreDamaged(StoreError):
    """Parts of the database cannot be read: its bytes are not what was written."""


class StoreReadOnly(StoreError):
    """Nothing can be written where the database lies: no right to, or no room."""


class UnsafeFile(SageError):
    """Refused: a file is not what it claims to be (wrong hash, bad header)."""

    exit_code = 5
    http_status = 422


class Interrupted(SageError):
    """The user stopped the work."""

    exit_code = 130
    http_status = 499


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a turn as Ctrl-C does, and then the program too."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean X?`` with a leading space, or an empty string.

    A name also matches by its beginning, so that ``smolm`` finds ``smollm2-135m-instruct``.
    """

    def nearness(name: str) -> float:
        ends = (name, name[: len(word)], name[: len(word) + 1])
        return max(difflib.SequenceMatcher(None, word.lower(), end.lower()).ratio() for end in ends)

    best = max(known, key=nearness, default="")
    return f" Did you mean {best!r}?" if best and word and nearness(best) >= NEAR_ENOUGH else ""


NEAR_ENOUGH = 0.6
"""Share of matching characters below which a suggestion confuses more than it helps."""
