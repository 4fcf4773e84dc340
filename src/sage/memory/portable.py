"""Memory as a file: one JSON object a line, to keep elsewhere or to bring back.

Owns: the format, and what a line must have to be taken in. Must not know: where the file lies.

A line is ``{"type": "turn", ...}`` with the turn's decision and outcomes, or ``{"type": "passage", ...}``.
Taking a file in again changes nothing, so an import that was cut off is simply repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sage.errors import UsageError
from sage.memory.db import Database
from sage.memory.passages import PassageStore, Said

__all__ = ["Imported", "check", "export", "take_in"]

BATCH = 500

TURN = {
    "id": str,
    "namespace": str,
    "session": str,
    "created": float,
    "kind": str,
    "prompt": str,
    "messages": list,
    "answer": str,
    "model": str,
    "status": str,
    "error": str,
}
PASSAGE = {"namespace": str, "session": str, "speaker": str, "at": float, "text": str}
OUTCOME = {
    "event_id": str,
    "candidate": str,
    "kind": str,
    "quality": float,
    "source": str,
    "at": float,
    "shift": float,
}
FORMS: Mapping[str, Mapping[str, type]] = {"turn": TURN, "passage": PASSAGE}
LOOSE = ("ended", "usage", "irp", "atp")
ENDED = ("done", "failed", "interrupted", "abandoned")


@dataclass(kw_only=True, slots=True)
class Imported:
    """How many of each kind were taken in, and how many were here already."""

    new: dict[str, int] = field(default_factory=lambda: {"turn": 0, "passage": 0})
    known: dict[str, int] = field(default_factory=lambda: {"turn": 0, "passage": 0})


def export(db: Database, namespace: str | None) -> Iterator[str]:
    """The lines of one namespace, or of all: turns, oldest first, then passages."""
    yield from _turns(db, namespace)
    columns = ["id", "turn_id", *PASSAGE]
    for row in _pages(db, "passages", columns, namespace):
        values = dict(zip(columns, row, strict=True))
        del values["id"]
        yield _line("passage", values)


def check(lines: Iterable[str], namespace: str | None) -> int:
    """Count the lines, after each was looked at. ``namespace``: the only one that is allowed.

    Raises:
        UsageError: a line is none of ours, or of another namespace; its number is said.
    """
    count = 0
    for count, line in enumerate(lines, start=1):
        value = _parsed(line, count)
        if namespace is not None and value["namespace"] != namespace:
            raise UsageError(
                f"Line {count} is of namespace {value['namespace']!r}, not {namespace!r}.",
                mend=f"Say whose it shall be: --into {namespace}, or keep what the file says: --all",
            )
    return count


def take_in(
    db: Database,
    lines: Iterable[str],
    *,
    into: str | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Imported:
    """Take in lines that were checked; what is here already is passed over. ``into``: the namespace that all
    of it gets. Durable after each batch; ``progress`` is told how many lines are done."""
    result, batch, done = Imported(), list[dict[str, Any]](), 0
    for number, line in enumerate(lines, start=1):
        batch.append(_parsed(line, number))
        if len(batch) == BATCH:
            done += _store(db, batch, into, result)
            progress(done)
            batch = []
    done += _store(db, batch, into, result)
    progress(done)
    return result


def _turns(db: Database, namespace: str | None) -> Iterator[str]:
    columns = [*TURN, *LOOSE]
    for row in _pages(db, "turns", columns, namespace):
        values = dict(zip(columns, row, strict=True))
        for name in ("messages", "usage", "irp", "atp"):
            values[name] = json.loads(values[name]) if values[name] else None
        values["decision"] = None
        for (record,) in db.execute("SELECT record FROM decisions WHERE turn_id = ?", (values["id"],)):
            values["decision"] = json.loads(record)
        rows = db.execute(
            f"SELECT {', '.join(OUTCOME)} FROM outcomes WHERE turn_id = ? ORDER BY id",  # noqa: S608
            (values["id"],),
        )
        values["outcomes"] = [dict(zip(OUTCOME, row, strict=True)) for row in rows]
        yield _line("turn", values)


def _pages(db: Database, table: str, columns: list[str], namespace: str | None) -> Iterator[tuple[Any, ...]]:
    last = -1
    where = "" if namespace is None else " AND namespace = ?"
    if table == "turns":
        where += " AND status <> 'running'"
    sql = (
        f"SELECT rowid, {', '.join(columns)} FROM {table} WHERE rowid > ?{where}"  # noqa: S608  names of ours
        " ORDER BY rowid LIMIT ?"
    )
    while rows := db.execute(sql, (last, *([] if namespace is None else [namespace]), BATCH)):
        yield from (row[1:] for row in rows)
        last = rows[-1][0]


def _line(kind: str, values: Mapping[str, Any]) -> str:
    return json.dumps({"type": kind, **values}, ensure_ascii=False) + "\n"


def _parsed(line: str, number: int) -> dict[str, Any]:
    def wrong(what: str) -> UsageError:
        return UsageError(f"Line {number} {what}.", mend="Make the file with: sage memory export FILE")

    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise wrong("is not JSON") from error
    if not isinstance(value, dict) or value.get("type") not in FORMS:
        raise wrong("is neither a turn nor a passage")
    _typed(value, FORMS[value["type"]], wrong)
    if value["type"] == "passage":
        if not isinstance(value.get("turn_id"), str | None):
            raise wrong("has a turn_id that is no text")
        return value
    if value["status"] not in ENDED:
        raise wrong(f"has status {value['status']!r}")
    for message in value["messages"]:
        if not isinstance(message, dict) or {"role", "content"} != set(message):
            raise wrong("has messages that are none")
    if not isinstance(value.get("outcomes", []), list):
        raise wrong("has outcomes that are no list")
    for outcome in value.get("outcomes", []):
        _typed(outcome, OUTCOME, wrong)
        if not 0.0 <= outcome["quality"] <= 1.0:
            raise wrong("has an outcome whose quality is not in 0..1")
    return value


def _typed(value: Any, form: Mapping[str, type], wrong: Callable[[str], UsageError]) -> None:
    for name, kind in form.items():
        found = value.get(name) if isinstance(value, dict) else None
        if kind is float and isinstance(found, int) and not isinstance(found, bool):
            found = float(found)
        if not isinstance(found, kind) or (isinstance(found, float) and not math.isfinite(found)):
            raise wrong(f"has no {name!r}, or one that is no {kind.__name__}")


def _store(db: Database, batch: list[dict[str, Any]], into: str | None, result: Imported) -> int:
    with db.transaction():
        for value in batch:
            if into is not None:
                value["namespace"] = into
            new = _store_turn(db, value) if value["type"] == "turn" else _store_passage(db, value)
            (result.new if new else result.known)[value["type"]] += 1
    return len(batch)


def _store_turn(db: Database, value: dict[str, Any]) -> bool:
    if db.execute("SELECT 1 FROM turns WHERE id = ?", (value["id"],)):
        return False
    value["messages"] = json.dumps(value["messages"], ensure_ascii=False)
    for name in ("usage", "irp", "atp"):
        part = value.get(name)
        value[name] = json.dumps(part, ensure_ascii=False) if isinstance(part, dict) else None
    ended = value.get("ended")
    value["ended"] = float(ended) if isinstance(ended, int | float) else None
    columns = [*TURN, *LOOSE]
    db.execute(
        f"INSERT INTO turns ({', '.join(columns)}, pid, pid_started)"  # noqa: S608  names of ours
        f" VALUES ({', '.join('?' * len(columns))}, 0, 0)",
        [value[name] for name in columns],
    )
    if isinstance(value.get("decision"), dict):
        record = json.dumps(value["decision"], ensure_ascii=False)
        db.execute("INSERT INTO decisions (turn_id, record) VALUES (?, ?)", (value["id"], record))
    for outcome in value.get("outcomes", []):
        db.execute(
            f"INSERT OR IGNORE INTO outcomes (turn_id, {', '.join(OUTCOME)})"  # noqa: S608  names of ours
            f" VALUES ({', '.join('?' * (len(OUTCOME) + 1))})",
            (value["id"], *(outcome[name] for name in OUTCOME)),
        )
    return True


def _store_passage(db: Database, value: dict[str, Any]) -> bool:
    namespace, turn = value["namespace"], value.get("turn_id")
    if turn and not db.execute("SELECT 1 FROM turns WHERE id = ? AND namespace = ?", (turn, namespace)):
        turn = None
    said = Said(
        namespace=namespace,
        session=value["session"],
        speaker=value["speaker"],
        at=float(value["at"]),
        text=value["text"],
        turn_id=turn,
    )
    if db.execute(
        "SELECT 1 FROM passages WHERE session = ? AND namespace = ? AND at = ? AND speaker = ? AND text = ?"
        " AND turn_id IS ?",
        (said.session, namespace, said.at, said.speaker, said.text, turn),
    ):
        return False
    PassageStore(db).add(said)
    return True
