"""What answers have shown of their authors, kept in the database for every process of this ``SAGE_HOME``.

Owns: loading and learning :class:`sage.economy.evidence.Evidence`, each change in one transaction; fading
with time; how many candidates are kept. Must not know: how evidence is used, or what an answer was.

A row that is damaged or of another layout counts as none: its candidate starts anew. Resetting trust in a
candidate deletes these rows too (``TrustStore.reset``): no clock is asked which came first.

A clock may be wrong by decades, in both directions. So the time of a row never goes back, and learning keeps
at least a share of what was known, however long ago that seems to be.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sage.clock import Clock
from sage.economy.evidence import MARKS, Evidence
from sage.memory.db import Database

__all__ = ["KEPT", "OpinionStore"]

Floats = npt.NDArray[np.float64]

KEPT = 64
"""Candidates kept, those heard last: 64 KiB, and 2080 pairs at most."""

SINGLE = 6 + 2 * MARKS
"""Numbers of one candidate: asked, right, silent, three of its doubt, and its marks twice."""

LEAST_KEPT = 0.25
"""What learning leaves of older evidence, however old: two half-lives pass at most between two outcomes."""

DAY_S = 86_400.0


class OpinionStore:
    """The evidence of one home. Nothing is held in memory: what other processes learn is seen."""

    def __init__(self, db: Database, clock: Clock, *, half_life_days: float) -> None:
        self._db = db
        self._clock = clock
        self._half_life = half_life_days * DAY_S

    def evidence(self, names: Sequence[str]) -> Evidence:
        """What is known now of these candidates, in their order; nothing of those that never answered."""
        with self._db.transaction(write=False):
            return self._load(names, self._clock.time())

    def learn(self, names: Sequence[str], teach: Callable[[Evidence], bool]) -> None:
        """Let ``teach`` change the evidence of these candidates, and keep it; nothing is written where it
        answers that it did not."""
        now = self._clock.time()
        with self._db.transaction():
            evidence = self._load(names, now, least=LEAST_KEPT)
            if not teach(evidence):
                return
            for line, name in enumerate(names):
                self._db.execute(
                    "INSERT INTO opinions (candidate, at, counters) VALUES (?, ?, ?)"
                    " ON CONFLICT (candidate) DO UPDATE"
                    " SET at = max(at, excluded.at), counters = excluded.counters",
                    (name, now, _packed(evidence, line)),
                )
            for one, other in itertools.combinations_with_replacement(range(len(names)), 2):
                if evidence.wrong[one, other] > 0.0:
                    self._db.execute(
                        "INSERT INTO opinion_pairs (one, other, at, wrong, same) VALUES (?, ?, ?, ?, ?)"
                        " ON CONFLICT (one, other) DO UPDATE SET at = max(at, excluded.at),"
                        " wrong = excluded.wrong, same = excluded.same",
                        (
                            *sorted((names[one], names[other])),
                            now,
                            float(evidence.wrong[one, other]),
                            float(evidence.same[one, other]),
                        ),
                    )
            # Those of now stay, whatever the clock said when the others were heard.
            self._db.execute(
                "DELETE FROM opinions WHERE candidate NOT IN"
                " (SELECT candidate FROM opinions"
                " ORDER BY candidate IN (SELECT value FROM json_each(?)) DESC, at DESC, candidate LIMIT ?)",
                (json.dumps(list(names)), KEPT),
            )

    def _load(self, names: Sequence[str], now: float, *, least: float = 0.0) -> Evidence:
        """What is known of these candidates, of which at least the share ``least`` has not faded."""
        evidence = Evidence(names)
        line = {name: number for number, name in enumerate(names)}
        wanted = json.dumps(list(names))
        rows = self._db.execute(
            "SELECT candidate, at, counters FROM opinions"
            " WHERE candidate IN (SELECT value FROM json_each(?))",
            (wanted,),
        )
        for name, at, counters in rows:
            numbers = _unpacked(counters)
            if numbers is not None:
                _put(evidence, line[name], numbers * max(least, self._kept(at, now)))
        pairs = self._db.execute(
            "SELECT one, other, at, wrong, same FROM opinion_pairs"
            " WHERE one IN (SELECT value FROM json_each(?1)) AND other IN (SELECT value FROM json_each(?1))",
            (wanted,),
        )
        for one, other, at, wrong, same in pairs:
            if 0.0 <= same <= wrong < math.inf:
                first, second, kept = line[one], line[other], max(least, self._kept(at, now))
                evidence.wrong[first, second] = evidence.wrong[second, first] = wrong * kept
                evidence.same[first, second] = evidence.same[second, first] = same * kept
        return evidence

    def _kept(self, at: float, now: float) -> float:
        # A clock that has been set back makes nothing count for more.
        return math.exp2(min(0.0, at - now) / self._half_life)


def _packed(evidence: Evidence, line: int) -> bytes:
    parts = (
        [evidence.asked[line], evidence.right[line], evidence.silent[line]],
        evidence.doubt[:, line],
        evidence.marked[:, line],
        evidence.marked_right[:, line],
    )
    return bytes(np.concatenate(parts).astype("<f8").tobytes())


def _unpacked(counters: bytes) -> Floats | None:
    """The numbers of a row, or None where they cannot be."""
    if not isinstance(counters, bytes) or len(counters) != 8 * SINGLE:
        return None
    numbers = np.frombuffer(counters, "<f8").astype(np.float64)
    asked, right, silent = numbers[:3]
    marked, good = numbers[6 : 6 + MARKS], numbers[6 + MARKS :]
    sound = np.isfinite(numbers).all() and (numbers >= 0.0).all() and max(right, silent) <= asked + 1e-6
    return numbers if sound and (good <= marked + 1e-6).all() else None


def _put(evidence: Evidence, line: int, numbers: Floats) -> None:
    evidence.asked[line], evidence.right[line], evidence.silent[line] = numbers[:3]
    evidence.doubt[:, line] = numbers[3:6]
    evidence.marked[:, line] = numbers[6 : 6 + MARKS]
    evidence.marked_right[:, line] = numbers[6 + MARKS :]
