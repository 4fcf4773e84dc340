"""The verbatim store: everything asked and answered, why, and what came of it.

Owns: turns, their decisions and outcomes, and the way values become JSON columns.
Must not know: how a decision is made or an outcome judged; how SQLite is spoken to.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import psutil

from sage.clock import Clock
from sage.errors import TurnNotFound, UsageError, did_you_mean
from sage.memory.db import Database
from sage.memory.passages import DEFAULT_NAMESPACE, PassageStore, Said
from sage.types import Decision, Message, Outcome, Situation

__all__ = ["Turn", "TurnStatus", "VerbatimStore", "plain", "to_json"]

TurnStatus = Literal["running", "done", "failed", "interrupted", "abandoned"]
"""``abandoned``: the process that ran the turn ended before it could say how the turn ended."""

_COLUMNS = (
    "t.id, t.session, t.created, t.ended, t.kind, t.prompt, t.messages, t.answer, t.model, t.status, "
    "t.error, t.usage, t.irp, t.atp, json_extract(d.record, '$.mode')"
)
_TURNS = f"SELECT {_COLUMNS} FROM turns t LEFT JOIN decisions d ON d.turn_id = t.id"  # noqa: S608

RUNNING = "SELECT rowid, id, pid, pid_started FROM turns INDEXED BY turns_running WHERE status = 'running'"
"""Without ORDER BY: sorted by row id, SQLite would read all turns instead of the index of those that run."""

SAME_START_S = 1.0
"""psutil computes a start time from whole clock ticks and a boot time in whole seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One request as it is stored. Times are seconds since the epoch; ``mode`` is the decision's."""

    id: str
    session: str
    created: float
    ended: float | None = None
    kind: str
    prompt: str
    messages: tuple[Message, ...]
    answer: str = ""
    model: str = ""
    mode: str = ""
    status: TurnStatus
    error: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    irp: Mapping[str, Any] = field(default_factory=dict)
    atp: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs. Never negative, though the wall clock may jump."""
        return None if self.ended is None else max(0.0, self.ended - self.created)


def plain(value: Any) -> Any:
    """A value made of dataclasses, mappings and sequences as JSON would have it; sets are sorted, and what is
    not finite becomes None: JSON has no NaN, and SQLite's JSON functions refuse one."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(value: Any) -> str:
    """A value as :func:`plain` JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain_here)
    except (ValueError, TypeError):  # numbers that are none, or keys that are no text
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def _plain_here(value: Any) -> Any:
    """One level of :func:`plain`, for what JSON does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _load(text: str | None) -> dict[str, Any]:
    value = json.loads(text) if text else None
    return value if isinstance(value, dict) else {}


def _to_turn(row: tuple[Any, ...]) -> Turn:
    (ident, session, created, ended, kind, prompt, messages, answer, model, status, error) = row[:11]
    return Turn(
        id=ident,
        session=session,
        created=created,
        ended=ended,
        kind=kind,
        prompt=prompt,
        messages=tuple(Message(**message) for message in json.loads(messages)),
        answer=answer,
        model=model,
        mode=row[14] or "",
        status=status,
        error=error,
        usage=_load(row[11]),
        irp=_load(row[12]),
        atp=_load(row[13]),
    )


@lru_cache(maxsize=1)
def _started(pid: int) -> float:
    """When a process began; asked of this one only, which may have been forked from another."""
    return psutil.Process(pid).create_time()


def _is_running(pid: int, started: float) -> bool:
    """Whether the very process, not a later one with its number, still runs."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started) > SAME_START_S:
            return False
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # it exists; better to wait than to give up another user's turn


class VerbatimStore:
    """What was said, in the order it was said. Every method is durable when it returns."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def begin(self, turn_id: str, situation: Situation) -> None:
        """Store the request before any work is done, so that a crash leaves a trace of it."""
        self._db.execute(
            "INSERT INTO turns (id, namespace, session, created, kind, prompt, messages, status, pid,"
            " pid_started) VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?, ?)",
            (
                turn_id,
                situation.namespace,
                situation.session,
                self._clock.time(),
                situation.kind,
                situation.prompt,
                to_json(situation.messages),
                os.getpid(),
                _started(os.getpid()),
            ),
        )

    def record_decision(self, turn_id: str, decision: Decision) -> None:
        """Store why this candidate; a later decision of the same turn (after a failure) replaces it."""
        with self._db.transaction():
            self._must_exist(turn_id)
            self._db.execute(
                "INSERT INTO decisions (turn_id, record) VALUES (?, ?)"
                " ON CONFLICT (turn_id) DO UPDATE SET record = excluded.record",
                (turn_id, to_json(decision)),
            )

    def finish(
        self,
        turn_id: str,
        *,
        status: TurnStatus,
        answer: str,
        model: str,
        usage: Any,
        irp: Any,
        atp: Any,
        error: str = "",
    ) -> None:
        """Store how a turn ended. Who ran it knows best: a turn given up as abandoned is overruled. What was
        said in a turn that was done becomes passages.

        ``usage``, ``irp`` and ``atp`` are mappings or dataclasses, or None where there is nothing to say.
        """
        with self._db.transaction():
            self._must_exist(turn_id)
            self._db.execute(
                "UPDATE turns SET ended = ?, status = ?, answer = ?, model = ?, usage = ?, irp = ?, atp = ?,"
                " error = ? WHERE id = ?",
                (
                    self._clock.time(),
                    status,
                    answer,
                    model,
                    *(None if part is None else to_json(part) for part in (usage, irp, atp)),
                    error,
                    turn_id,
                ),
            )
            if status == "done":
                self._say(turn_id)

    def _say(self, turn_id: str) -> None:
        """The question and the answer of a turn as passages, once."""
        if self._db.execute("SELECT 1 FROM passages WHERE turn_id = ?", (turn_id,)):
            return
        columns = "namespace, session, created, ended, prompt, answer"
        row = self._db.execute(f"SELECT {columns} FROM turns WHERE id = ?", (turn_id,))[0]  # noqa: S608
        namespace, session, created, ended, prompt, answer = row
        said = [("user", created, prompt), ("assistant", ended, answer)]
        PassageStore(self._db).add_many(
            Said(namespace=namespace, session=session, speaker=speaker, at=at, text=text, turn_id=turn_id)
            for speaker, at, text in said
            if text
        )

    def is_running(self, turn_id: str) -> bool:
        """Whether the turn has no ending yet. One that was given up as abandoned still counts as running:
        who ran it knows better how it ended."""
        rows = self._db.execute("SELECT status FROM turns WHERE id = ?", (turn_id,))
        return bool(rows) and rows[0][0] in ("running", "abandoned")

    def record_outcome(self, outcome: Outcome) -> bool:
        """Store an outcome once; False, and no change, if its event is known already.

        Raises:
            TurnNotFound: the outcome belongs to no turn.
        """
        with self._db.transaction():
            if self._db.execute("SELECT 1 FROM outcomes WHERE event_id = ?", (outcome.event_id,)):
                return False
            self._must_exist(outcome.turn_id)
            self._db.execute(
                "INSERT INTO outcomes (event_id, turn_id, candidate, kind, quality, source, at, shift)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    outcome.event_id,
                    outcome.turn_id,
                    outcome.candidate,
                    outcome.kind,
                    outcome.quality,
                    outcome.source,
                    outcome.at,
                    outcome.shift,
                ),
            )
            return True

    def turn(self, turn_id: str) -> Turn:
        """One turn, by its id or by the start of it (with or without ``turn-``).

        Raises:
            TurnNotFound: no turn has this id. UsageError: it is the start of several ids.
        """
        return _to_turn(self._db.execute(f"{_TURNS} WHERE t.id = ?", (self._find(turn_id),))[0])

    def turns(self, *, session: str | None = None, limit: int = 50) -> list[Turn]:
        """The last turns, newest first."""
        where, params = ("WHERE t.session = ? ", (session,)) if session is not None else ("", ())
        rows = self._db.execute(f"{_TURNS} {where}ORDER BY t.rowid DESC LIMIT ?", (*params, limit))
        return [_to_turn(row) for row in rows]

    def decision(self, turn_id: str) -> dict[str, Any]:
        """The decision record of a turn; empty if the turn ended before one was made."""
        rows = self._db.execute("SELECT record FROM decisions WHERE turn_id = ?", (self._find(turn_id),))
        return _load(rows[0][0]) if rows else {}

    def outcomes(self, turn_id: str) -> list[Outcome]:
        """What became of a turn, in the order it was reported."""
        rows = self._db.execute(
            "SELECT event_id, turn_id, candidate, kind, quality, source, at, shift FROM outcomes"
            " WHERE turn_id = ? ORDER BY rowid",
            (self._find(turn_id),),
        )
        names = ("event_id", "turn_id", "candidate", "kind", "quality", "source", "at", "shift")
        return [Outcome(**dict(zip(names, row, strict=True))) for row in rows]

    def judged_below(self, quality: float, turn_ids: Sequence[str]) -> frozenset[str]:
        """Those of these turns whose outcomes are worse than this on average."""
        rows = self._db.execute(
            "SELECT turn_id FROM outcomes WHERE turn_id IN (SELECT value FROM json_each(?))"
            " GROUP BY turn_id HAVING avg(quality) < ?",
            (json.dumps(sorted(set(turn_ids))), quality),
        )
        return frozenset(row[0] for row in rows)

    def history(self, session: str, *, turns: int, namespace: str = DEFAULT_NAMESPACE) -> tuple[Message, ...]:
        """Question and answer of the session's last ``turns`` finished turns, oldest first."""
        rows = self._db.execute(
            "SELECT prompt, answer FROM turns WHERE session = ? AND namespace = ? AND status = 'done'"
            " ORDER BY rowid DESC LIMIT ?",
            (session, namespace, turns),
        )
        pairs = [
            (Message(role="user", content=prompt), Message(role="assistant", content=answer))
            for prompt, answer in reversed(rows)
        ]
        return tuple(message for pair in pairs for message in pair)

    def has_done(self, session: str, *, namespace: str = DEFAULT_NAMESPACE) -> bool:
        """Whether the session has a finished turn."""
        return bool(
            self._db.execute(
                "SELECT 1 FROM turns WHERE session = ? AND namespace = ? AND status = 'done' LIMIT 1",
                (session, namespace),
            )
        )

    def abandon_dead(self, *, active: Collection[str] | None = None) -> list[str]:
        """Mark turns that nobody runs any more as abandoned; returns their ids, oldest first.

        Those are the turns whose process is gone, and, where ``active`` is given, the turns of this process
        that are not in it: their end could not be written.
        """
        running = self._db.execute(RUNNING)
        dead: list[str] = []
        for _, ident, pid, started in sorted(running):
            if active is not None and pid == os.getpid():
                alive = ident in active
            else:
                alive = _is_running(pid, started)
            if alive:
                continue
            # Another process may have done the same since the read: only one may report the id.
            changed = self._db.execute(
                "UPDATE turns SET status = 'abandoned', ended = ? WHERE id = ? AND status = 'running'"
                " RETURNING id",
                (self._clock.time(), ident),
            )
            dead += [row[0] for row in changed]
        return dead

    def _must_exist(self, turn_id: str) -> None:
        if not self._db.execute("SELECT 1 FROM turns WHERE id = ?", (turn_id,)):
            raise self._not_found(turn_id)

    def _find(self, name: str) -> str:
        """The full id for an id or the unique start of one."""
        if self._db.execute("SELECT 1 FROM turns WHERE id = ?", (name,)):
            return name
        if name:
            for start in (name, f"turn-{name}"):
                # U+10FFFF sorts after every character of an id, so this is a range of the primary key.
                rows = self._db.execute(
                    "SELECT id FROM turns WHERE id >= ? AND id < ? ORDER BY id LIMIT 3",
                    (start, start + "\U0010ffff"),
                )
                if len(rows) == 1:
                    return str(rows[0][0])
                if rows:
                    several = ", ".join(row[0] for row in rows)
                    raise UsageError(
                        f"{name!r} is the start of several turns: {several}.", mend="Give more of the id"
                    )
        raise self._not_found(name)

    def _not_found(self, turn_id: str) -> TurnNotFound:
        recent = self._db.execute("SELECT id FROM turns ORDER BY rowid DESC LIMIT 1000")
        hint = did_you_mean(turn_id, (row[0] for row in recent))
        return TurnNotFound(f"No turn {turn_id!r}.{hint}", mend="See the turns: sage logs")
