"""What gathers while one turn runs, and what is returned at its end.

Owns: the running turn and the reply. Must not know: the steps that fill them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sage.kernel.remembering import NOTHING, UNKNOWN_SALIENCE, Brought
from sage.memory.patterns import Judged
from sage.types import Decision, MetabolicState, Outcome, Piece, Situation

__all__ = ["Reply", "Turn"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came of a turn. ``usage``, ``irp`` and ``atp`` are as `sage ask --json` prints them (``atp`` is
    empty where the end of the turn could not be stored); ``draft`` is the number of the attempt whose text
    was kept (see ``Piece``)."""

    turn_id: str
    answer: str
    model: str
    draft: int
    decision: Decision
    irp: Mapping[str, Any]
    usage: Mapping[str, Any]
    atp: Mapping[str, float]
    outcomes: tuple[Outcome, ...]
    finish_reason: str


@dataclass(slots=True)
class Turn:
    """The only mutable state of a tick. ``brought`` is what memory gave; ``question`` a digest of exactly
    what is asked, ``judged`` earlier answers to it, ``again`` the one that is given again; ``answered`` names
    who gave each draft; ``granted``, ``spent`` and ``ceiling`` (of what drafts may take) are ATP;
    ``measured`` are rates by model; times are seconds."""

    id: str
    situation: Situation
    started: float
    salience: float = UNKNOWN_SALIENCE
    state: MetabolicState = "WAKE"
    brought: Brought = NOTHING
    question: str | None = None
    judged: tuple[Judged, ...] = ()
    again: Judged | None = None
    decision: Decision | None = None
    partial: list[Piece] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    attempts: int = 0
    load_s: float = 0.0
    run_s: float = 0.0
    wall_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ceiling: float = 0.0
    granted: float = 0.0
    measured: list[tuple[str, list[tuple[str, float | None]]]] = field(default_factory=list)
    spent: float = 0.0

    @property
    def decided(self) -> Decision:
        """The decision of a turn that has one."""
        if self.decision is None:
            raise RuntimeError(f"{self.id} was used before a decision was made")
        return self.decision

    def seconds_left(self, now: float) -> float | None:
        """Until the deadline, counted from the question; None where there is none, never negative."""
        deadline = self.situation.deadline_s
        return None if deadline is None else max(0.0, self.started + deadline - now)

    def partial_text(self) -> str:
        """The text of the latest attempt."""
        latest = self.partial[-1].draft if self.partial else 0
        return "".join(piece.text for piece in self.partial if piece.draft == latest)

    def usage(self) -> dict[str, Any]:
        """Tokens and seconds over all attempts. ``wall_s`` runs from the question to the end and counts
        failed attempts too."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "load_s": round(self.load_s, 4),
            "run_s": round(self.run_s, 4),
            "wall_s": round(self.wall_s, 4),
        }
