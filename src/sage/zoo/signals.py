"""What the residency is told, and what it wants done.

Owns: the values that pass between ``residency.py`` and whoever drives it. Must not know: how either works.
Times are seconds of one rising clock, sizes are bytes.

Who drives it owes: one ``Loaded`` or ``Failed`` for every ``Load``; one ``Gone`` for every process that was
loaded, whether it was told to end or not; for a load that it is told to stop, ``Failed`` or ``Gone``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sage.errors import SageError

__all__ = [
    "Appraised",
    "Effect",
    "Failed",
    "Gone",
    "Grant",
    "LetGo",
    "Load",
    "Loaded",
    "Phase",
    "PrefetchAsked",
    "Pressed",
    "Refuse",
    "Requested",
    "Served",
    "ShutDown",
    "Signal",
    "Standing",
    "Ticked",
    "Unload",
    "UnloadAsked",
    "Wait",
    "Withdrawn",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Requested:
    """Somebody wants a model, and waits for it until ``deadline``. ``bytes`` is the estimate.

    ``unfit`` is why it cannot be loaded; where it is in memory already, that does not matter. Without
    ``uses`` it is only to be there: nothing is served, and no place in it is taken. That is also how somebody
    who mended a model that rests has it tried before its rest is over. The line is in order of who has waited
    longest, as if each had begun to wait ``head_start_s`` before it came.
    """

    id: str
    model: str
    bytes: int
    deadline: float
    uses: bool = True
    unfit: SageError | None = None
    head_start_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawn:
    """Nobody wants the answer to this request any more, whether it waits or is being served."""

    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A request that was granted is over. ``bytes`` is the most that the model occupied (0: unknown).

    ``long`` says that it filled so much of the context that the model will hardly occupy more. ``failure`` is
    what it ended in; None is an answer.
    """

    id: str
    bytes: int = 0
    long: bool = False
    failure: SageError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A load is done; ``bytes`` is the most that the model occupied."""

    model: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A load came to nothing, and its process is gone."""

    model: str
    error: SageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """The process of a loaded model has ended: only now are its bytes free."""

    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pressed:
    """All models together may take ``budget`` bytes from now on."""

    budget: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Appraised:
    """What permission would be lost without each model; those that are not named are worth nothing."""

    worth: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnloadAsked:
    """A model is to leave once it has finished its answer. Who waits for its load is refused."""

    model: str
    reason: str = "asked"


@dataclass(frozen=True, kw_only=True, slots=True)
class LetGo:
    """The memory is to be another's: every model leaves, and none is loaded ahead until the next request."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefetchAsked:
    """A model may be wanted soon. Heeded only while nothing is asked for, and after a first request."""

    model: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShutDown:
    """Everything ends, also what is being served."""


Signal = (
    Requested
    | Withdrawn
    | Served
    | Loaded
    | Failed
    | Gone
    | Ticked
    | Pressed
    | Appraised
    | UnloadAsked
    | LetGo
    | PrefetchAsked
    | ShutDown
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Begin to load; ``bytes`` are set aside for it."""

    model: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unload:
    """End the model's process, or its load."""

    model: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """The model is there, and this request has it until it is ``Served`` or ``Withdrawn``."""

    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refuse:
    """This request ends here."""

    id: str
    error: SageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """This request has to wait; ``behind`` are the models that are in its way. Told once."""

    id: str
    behind: tuple[str, ...]


Effect = Load | Unload | Grant | Refuse | Wait

Phase = Literal["loading", "loaded", "leaving"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How one model stands. ``since`` is when its phase began, ``waiting`` counts who waits for it;
    ``leaves`` is true from when it was decided, which may be before it has finished an answer."""

    name: str
    phase: Phase
    bytes: int
    since: float
    last_used: float
    busy: bool
    waiting: int
    leaves: bool
