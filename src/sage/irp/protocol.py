"""IRP, the Iterative Refinement Primitive: refine a state until its energy stops falling.

Owns: what a plugin must offer, and what a refinement returns. Must not know: any plugin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["Exhausted", "Limits", "Plugin", "Refined", "Step"]

S = TypeVar("S")


class Exhausted(Exception):  # noqa: N818  an answer to "what next?", not a failure
    """Raised by ``step`` when the plugin has nothing more to try within its allowance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When to stop: drafts, ATP, seconds; what energy is good enough, and what fall counts as one.

    ``grace`` is how many seconds a step that was cancelled gets to end.
    """

    max_steps: int
    atp: float
    seconds: float
    accept: float
    epsilon: float
    grace: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Generic[S]):
    """The state after one step, and the ATP the step cost."""

    state: S
    atp: float


class Plugin(Protocol[S]):
    """A way to refine. Lower energy is better; 0 is perfect, 1 is useless."""

    def init_state(self) -> S:
        """The state before any work."""
        ...

    def step(self, state: S, atp_left: float) -> Step[S]:
        """Try to improve. May raise; must not change the state it was given."""
        ...

    def energy(self, state: S) -> float:
        """How bad the state is, in [0, 1]."""
        ...

    def halt(self, energies: tuple[float, ...]) -> str:
        """The plugin's own reason to stop now, or an empty string."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Refined(Generic[S]):
    """What came of a refinement.

    ``state`` is the one of lowest energy and ``latest`` the newest that could be weighed; both None when no
    step succeeded. They differ where a step taught that the state before was worse than it looked: a plugin
    whose states gather evidence chooses from ``latest``.
    ``halt_reason`` is ``accepted``, ``converged``, ``rising``, ``oscillating``, ``max_steps``, ``budget``,
    ``deadline``, ``exhausted``, ``cancelled``, ``bad_energy``, ``hung``, ``error``, or the plugin's own.
    ``error`` is what the plugin raised, where it did.
    """

    state: S | None
    latest: S | None
    energies: tuple[float, ...]
    halt_reason: str
    steps: int
    atp: float
    error: Exception | None = None
