"""Pattern memory: what refining paid in situations like this, and how answers to the very same question did.

Owns: how each turn was refined, what is expected of refining another like it, and which step limit follows.
Must not know: what a step is, how drafts are weighed, or prices.

Nothing is summed up: the newest turns of a situation are read, few enough for any history, so that what is
forgotten with its turn is gone here too. A limit lifts itself: turns that keep to it push those that went
further out of sight, until going further is tried again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sage.clock import Clock
from sage.economy.context import Context
from sage.memory.db import Database

__all__ = ["GIVEN_AGAIN", "UNKNOWN", "Expectation", "Judged", "PatternMemory", "Refinement", "Taken"]

History = list[tuple[float, str, float, float]]
"""Steps as they are stored: see :class:`Taken`."""

Floats = npt.NDArray[np.float64]

NEWEST = 64
"""Turns of a situation that are looked at."""

NEEDED = 8.0
"""Turns that went further than a limit, before there is one."""

JUDGEMENTS = 16
"""Judgements of answers to one question that are looked at, the newest; of answers that were given again as
many besides."""

BELIEVED_DAYS = 30.0
"""Days after which a judgement counts no more."""

GIVEN_AGAIN = "given again"
"""In the place of a plugin: nothing was refined."""

DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """One step of a refinement: the energy after it; who wrote the answer that was the best then; by how much
    likelier it was to be right than the best before, as seen then (0 where that stayed the best); and what
    the step cost, in quality, as selection prices it. The first step has neither gain nor price."""

    energy: float
    best: str
    gain: float = 0.0
    price: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Refinement:
    """How one turn was refined: by which plugin, where its text lies, a digest of exactly what was asked
    (None where the same words may be answered otherwise the next time), and its steps."""

    plugin: str
    context: Context
    question: str | None
    steps: tuple[Taken, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What refining did in situations like this.

    ``turns`` (faded) are the evidence; ``steps`` how many a turn took on average. Per step: ``energies``, the
    mean energy after it; ``reached``, the turns that took it. ``paid`` (steps, steps): what going from one
    step to a later one brought beyond its price at best, a standard error above the mean of those that did.
    """

    turns: float
    steps: float
    energies: tuple[float, ...]
    reached: tuple[float, ...]
    paid: Floats

    def limit(self, most: int) -> int:
        """Steps after which no further ones have paid here; ``most`` while too few were tried."""
        for step in range(1, min(most, len(self.reached))):
            if self.reached[step] >= NEEDED and (self.paid[step - 1, step:most] <= 0.0).all():
                return step
        return most


UNKNOWN = Expectation(turns=0.0, steps=0.0, energies=(), reached=(), paid=np.zeros((0, 0)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """An answer to the very same question, and the quality that a user or a verifier found in it at last."""

    turn_id: str
    model: str
    text: str
    quality: float


class PatternMemory:
    """The refinements of one home."""

    def __init__(self, db: Database, clock: Clock, *, half_life_days: float) -> None:
        self._db = db
        self._clock = clock
        self._half_life = half_life_days * DAY_S

    def learn(self, turn_id: str, namespace: str, refinement: Refinement) -> None:
        """Keep how a turn was refined; a turn is kept once."""
        context = refinement.context
        steps = [[taken.energy, taken.best, taken.gain, taken.price] for taken in refinement.steps]
        self._db.execute(
            "INSERT OR IGNORE INTO refinements"
            " (turn_id, namespace, plugin, codebook, cell, question, at, steps)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(turn_id, namespace, refinement.plugin, context.codebook, _cell(context)),
                *(refinement.question, self._clock.time(), json.dumps(steps)),
            ),
        )

    def expect(self, context: Context, plugin: str, *, namespace: str) -> Expectation:
        """What the newest turns like this tell. Where outcomes are known, they say what a step gained."""
        rows = self._db.execute(
            "SELECT turn_id, at, steps FROM refinements"
            " WHERE namespace = ? AND plugin = ? AND codebook = ? AND cell = ? ORDER BY rowid DESC LIMIT ?",
            (namespace, plugin, context.codebook, _cell(context), NEWEST),
        )
        if not rows:
            return UNKNOWN
        now = self._clock.time()
        # A clock that has been set back makes nothing count for more.
        weight = np.array([math.exp2(min(0.0, at - now) / self._half_life) for _, at, _ in rows])
        histories: list[History] = json.loads(f"[{','.join(row[2] for row in rows)}]")
        changed = [
            row[0]
            for row, history in zip(rows, histories, strict=True)
            if len({best for _, best, _, _ in history}) > 1
        ]
        found = self._qualities(changed) if changed else {}
        return _summary(histories, weight, [found.get(row[0], {}) for row in rows])

    def judged(self, question: str, *, namespace: str, shown: Sequence[int] = ()) -> tuple[Judged, ...]:
        """Answers that were given to this very question and judged, the newest judgement first.

        Those judged within ``BELIEVED_DAYS``: the world changes, and nobody says so. ``shown`` are the
        passages that memory brings for it now: where one was said after an answer, in another turn than one
        that asked the same, the answer may be out of date and is left out.
        """
        newest = (
            "SELECT turn_id FROM (SELECT turn_id FROM refinements WHERE namespace = ?1 AND question = ?2"
            " AND plugin {} ?6 ORDER BY rowid DESC LIMIT ?4)"
        )
        rows = self._db.execute(
            "SELECT t.id, t.model, t.answer, o.quality FROM turns t"  # noqa: S608  text of ours
            " JOIN outcomes o ON o.turn_id = t.id AND o.candidate = t.model"
            f" WHERE t.id IN ({newest.format('=')} UNION ALL {newest.format('<>')})"
            " AND o.source IN ('user', 'verifier') AND abs(o.at - ?5) < ?7"
            " AND coalesce((SELECT max(id) FROM passages WHERE turn_id = t.id), 0) >="
            " coalesce((SELECT max(p.id) FROM passages p WHERE p.id IN (SELECT value FROM json_each(?3))"
            " AND NOT EXISTS (SELECT 1 FROM refinements r WHERE r.turn_id = p.turn_id"
            " AND r.namespace = ?1 AND r.question = ?2)), 0)"
            " ORDER BY o.id DESC LIMIT ?4",
            (
                *(namespace, question, json.dumps(list(shown)), JUDGEMENTS),
                *(self._clock.time(), GIVEN_AGAIN, BELIEVED_DAYS * DAY_S),
            ),
        )
        found: dict[str, Judged] = {}
        for turn_id, model, text, quality in rows:
            found.setdefault(text, Judged(turn_id=turn_id, model=model, text=text, quality=quality))
        return tuple(found.values())

    def repeated(self, *, namespace: str, most: int) -> list[tuple[str, int]]:
        """The questions asked most often, word by word, and how often: twice at least."""
        rows = self._db.execute(
            "SELECT t.prompt, r.times FROM (SELECT max(turn_id) AS turn_id, count(*) AS times"
            " FROM refinements WHERE namespace = ? AND question IS NOT NULL GROUP BY question"
            " HAVING count(*) > 1 ORDER BY count(*) DESC, max(rowid) DESC LIMIT ?) r"
            " JOIN turns t ON t.id = r.turn_id ORDER BY r.times DESC",
            (namespace, most),
        )
        return [(prompt, times) for prompt, times in rows]

    def _qualities(self, turn_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        """What was found in the answers of these turns, by turn and author."""
        rows = self._db.execute(
            "SELECT turn_id, candidate, avg(quality) FROM outcomes"
            " WHERE source IN ('user', 'verifier') AND turn_id IN (SELECT value FROM json_each(?))"
            " GROUP BY turn_id, candidate",
            (json.dumps(list(turn_ids)),),
        )
        found: dict[str, dict[str, float]] = {}
        for turn_id, candidate, quality in rows:
            found.setdefault(turn_id, {})[candidate] = quality
        return found


def _cell(context: Context) -> int:
    """The cell that counts most."""
    return int(context.cells[int(context.weight.argmax())])


def _summary(
    histories: Sequence[History], weight: Floats, qualities: Sequence[dict[str, float]]
) -> Expectation:
    """``weight`` (turns,); ``qualities`` of each turn's authors, where known."""
    longest = max(len(history) for history in histories)
    energy = np.zeros((len(histories), longest))
    paid = np.zeros((len(histories), longest))
    took = np.zeros((len(histories), longest), bool)
    for line, history in enumerate(histories):
        known = qualities[line]
        before = history[0][1]
        for step, (left, best, gain, price) in enumerate(history):
            took[line, step] = True
            energy[line, step] = left
            if best != before and best in known and before in known:
                gain = known[best] - known[before]
            paid[line, step] = gain - price
            before = best
    reached = (weight[:, None] * took).sum(0)
    total = paid.cumsum(1)
    at_best = np.zeros((longest, longest))
    for step in range(longest - 1):
        further = weight * took[:, step + 1]
        count = max(float(further.sum()), 1e-9)
        gained = total[:, step + 1 :] - total[:, step, None]
        mean = (further[:, None] * gained).sum(0) / count
        variance = (further[:, None] * (gained - mean) ** 2).sum(0) / count
        at_best[step, step + 1 :] = mean + np.sqrt(variance / count)
    return Expectation(
        turns=float(weight.sum()),
        steps=float(reached.sum() / weight.sum()),
        energies=tuple(((weight[:, None] * energy).sum(0) / reached).tolist()),
        reached=tuple(reached.tolist()),
        paid=at_best,
    )
