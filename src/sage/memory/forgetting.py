"""Forgetting: what was said goes with everything that was made of it, and the files are searched for it.

Owns: what a selection names, the order of deletion, and the proof. Must not know: who asked for it.

Rows that are made of a turn or a passage go with it (foreign keys and triggers in ``migrations``). SQLite
overwrites what it deletes with zeros; what a page still shows of rows that were moved goes by writing the
file anew, where the search finds any. Numbers stay: ATP in the ledger, and what outcomes taught of models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sage.errors import UsageError
from sage.memory.db import Database, Value
from sage.memory.passages import DEFAULT_NAMESPACE
from sage.memory.remains import Pieces, Proof
from sage.memory.verbatim import to_json

__all__ = ["Found", "Selection", "find", "forget"]

EVENT_FILES = ("events.jsonl", "events.old.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What to forget of one namespace: all that every given condition holds for. ``ids`` are turns or
    passages; ``text`` is found in any case; ``before`` is seconds since the epoch. None: no such condition;
    with none at all, everything."""

    namespace: str = DEFAULT_NAMESPACE
    ids: tuple[str, ...] | None = None
    session: str | None = None
    text: str | None = None
    before: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Turns, passages that belong to none of them, and how many selected turns still run (and so stay)."""

    turns: tuple[str, ...] = ()
    passages: tuple[int, ...] = ()
    running: int = 0
    pieces: Pieces = field(default_factory=Pieces)


def find(db: Database, selection: Selection) -> Found:
    """What a selection names. A passage of a turn names its turn; a turn all of its passages.

    Raises:
        UsageError: an id is neither the number of a passage nor the id of a turn, here.
    """
    namespace = selection.namespace
    turns, turn_params = _where(selection, "session", "created", ("prompt", "answer", "messages"))
    said, said_params = _where(selection, "session", "at", ("text",))
    with db.transaction(write=False):
        if selection.ids is not None:
            numbers = [int(name) for name in selection.ids if name.isdecimal()]
            names = [name if name.startswith("turn-") else f"turn-{name}" for name in selection.ids]
            _check_ids(db, namespace, selection.ids)
            turns, turn_params = f"{turns} AND id IN ({_marks(names)})", [*turn_params, *names]
            said, said_params = f"{said} AND id IN ({_marks(numbers)})", [*said_params, *numbers]
        rows = db.execute(
            f"SELECT id, status FROM turns WHERE {turns} OR id IN"  # noqa: S608  text of ours
            f" (SELECT turn_id FROM passages WHERE {said}) ORDER BY rowid",
            [*turn_params, *said_params],
        )
        loose = db.execute(
            f"SELECT id FROM passages WHERE {said} AND turn_id IS NULL",  # noqa: S608  text of ours
            said_params,
        )
        found = tuple(row[0] for row in rows if row[1] != "running")
        passages = tuple(row[0] for row in loose)
        return Found(
            turns=found,
            passages=passages,
            running=len(rows) - len(found),
            pieces=Pieces.of(_texts(db, found, passages)),
        )


def forget(db: Database, home: Path, found: Found) -> Proof:
    """Delete what was found with all that was made of it; then search every file of ``home`` for its pieces.

    Raises:
        StoreError: nothing was deleted.
    """
    with db.transaction():
        sql = "SELECT namespace, session, prompt, answer FROM turns WHERE id = ?"
        gone = [row for turn in found.turns for row in db.execute(sql, (turn,))]
        _delete(db, "passages", found.passages)
        _delete(db, "turns", found.turns)
        _strip(db, gone)
    _strip_events(home, frozenset(found.turns))
    db.checkpoint()
    used, free = db.bytes()
    if free > used:
        db.compact()
    proof = found.pieces.search(db, home)
    if proof.in_database:
        db.compact()
        proof = found.pieces.search(db, home)
    return proof


def _where(selection: Selection, session: str, at: str, texts: Sequence[str]) -> tuple[str, list[Value]]:
    parts, params = ["namespace = ?"], list[Value]([selection.namespace])
    if selection.session is not None:
        parts.append(f"{session} = ?")
        params.append(selection.session)
    if selection.before is not None:
        parts.append(f"{at} < ?")
        params.append(selection.before)
    if selection.text is not None:
        forms = {selection.text, json.dumps(selection.text, ensure_ascii=False)[1:-1]}
        tests = [f"instr(lower({column}), lower(?))" for column in texts for _ in forms]
        parts.append(f"({' OR '.join(tests)})")
        params += [form for _ in texts for form in forms]
    return " AND ".join(parts), params


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _check_ids(db: Database, namespace: str, ids: Sequence[str]) -> None:
    for name in ids:
        turn = name if name.startswith("turn-") else f"turn-{name}"
        number = int(name) if name.isdecimal() and len(name) < 19 else -1
        if not db.execute(
            "SELECT 1 FROM turns WHERE namespace = ?1 AND id = ?2"
            " UNION ALL SELECT 1 FROM passages WHERE namespace = ?1 AND id = ?3",
            (namespace, turn, number),
        ):
            raise UsageError(
                f"Nothing in namespace {namespace!r} has the id {name!r}.", mend="sage memory search TEXT"
            )


def _texts(db: Database, turns: Sequence[str], passages: Sequence[int]) -> list[str]:
    texts = list[str]()
    for turn in turns:
        rows = db.execute("SELECT prompt, answer, messages FROM turns WHERE id = ?", (turn,))
        for prompt, answer, messages in rows:
            texts += [prompt, answer, *(str(each.get("content", "")) for each in json.loads(messages))]
    for ident in passages:
        texts += [row[0] for row in db.execute("SELECT text FROM passages WHERE id = ?", (ident,))]
    return list(dict.fromkeys(texts))


def _delete(db: Database, table: str, ids: Sequence[Value]) -> None:
    for ident in ids:
        db.execute(f"DELETE FROM {table} WHERE id = ?", (ident,))  # noqa: S608  names of ours


def _strip(db: Database, gone: Sequence[tuple[str, ...]]) -> None:
    """Later turns of a session may have carried what was said before among their messages."""
    texts: dict[tuple[str, str], set[str]] = {}
    for namespace, session, *said in gone:
        texts.setdefault((namespace, session), set()).update(text for text in said if text)
    for (namespace, session), unwanted in texts.items():
        rows = db.execute(
            "SELECT id, messages FROM turns WHERE session = ? AND namespace = ? AND status <> 'running'",
            (session, namespace),
        )
        for turn, raw in rows:
            messages = json.loads(raw)
            kept = [m for m in messages[:-1] if m.get("content") not in unwanted] + messages[-1:]
            if len(kept) < len(messages):
                db.execute("UPDATE turns SET messages = ? WHERE id = ?", (to_json(kept), turn))


def _strip_events(home: Path, turns: frozenset[str]) -> None:
    """The event log without the lines of these turns."""
    for name in EVENT_FILES:
        path = home / name
        if not turns or not path.exists():
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _turn_of(line) not in turns]
        if len(kept) < len(lines):
            fresh = path.with_suffix(".fresh")
            with open(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                file.writelines(kept)
            os.replace(fresh, path)


def _turn_of(line: bytes) -> str:
    try:
        return str(json.loads(line).get("turn_id", ""))
    except (ValueError, AttributeError):
        return ""
