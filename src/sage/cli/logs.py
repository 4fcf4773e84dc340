"""``sage logs``: what was asked, who answered, why, and what it cost.

Owns: how turns and events are shown. Must not know: how they are stored or made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.render import printable
from sage.cli.trust_view import left_out

if TYPE_CHECKING:
    from sage.memory.verbatim import Turn, VerbatimStore

__all__ = ["logs"]

WORDS_SHOWN = 48
"""Columns for the prompt in the list: with the others it fits a terminal of about 140."""

WORDS_LEAST = 10
"""Columns the prompt keeps, even where a line then wraps; half of it on a narrow terminal."""

NARROW = 120
"""Columns below which a terminal gets short ids and times, and no modes: a row then fits 80."""

TURNS_SHOWN = 20
"""Turns in the list, where no number is given."""

PIPED_WIDTH = 160
"""Columns of the table when stdout is no terminal and so has no width of its own."""


def logs(
    turns: Annotated[
        int | None,
        typer.Option(
            "--turns",
            "-n",
            min=1,
            metavar="N",
            help=f"How many: of turns {TURNS_SHOWN} unless given, newest first; of events all, oldest first.",
        ),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="NAME", help="Only turns of this session.")
    ] = None,
    turn: Annotated[
        str | None, typer.Option(metavar="ID", help="One turn in full, by its id or the start of it.")
    ] = None,
    events: Annotated[bool, typer.Option("--events", help="The last events instead.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the last turns, one turn in full, or the event log."""
    from sage.cli.render import emit_json
    from sage.config import sage_home
    from sage.errors import UsageError

    home = sage_home()
    if events:
        if session is not None:
            raise UsageError("Events are not kept by session.", mend="sage logs --events --turn ID")
        _show_events(home, turn, last=turns, as_json=json)
        return
    with _stored(home) as store:
        if turn is not None:
            full = _full(store, turn)
            if json:
                emit_json(full)
            else:
                _show_turn(full)
            return
        found = (
            [_row(item) for item in store.turns(session=session, limit=turns or TURNS_SHOWN)] if store else []
        )
    if json:
        emit_json(found)
    elif found:
        _show_table(found)
    elif session is not None:
        typer.echo(f"No turns in session {session!r}.")
    else:
        typer.echo("No turns yet. Ask something: sage ask 'What is 17 + 25?'")


@contextmanager
def _stored(home: Path) -> Iterator[VerbatimStore | None]:
    """The store, opened for reading only; None where nothing has been asked yet."""
    path = home / "sage.db"
    if not path.exists():
        yield None
        return
    from sage.clock import SystemClock
    from sage.memory.db import Database
    from sage.memory.verbatim import VerbatimStore

    with Database(path, read_only=True) as db:
        yield VerbatimStore(db, SystemClock())


def _row(turn: Turn) -> dict[str, Any]:
    """What the list says of a turn; ``atp`` is what it spent."""
    return {
        "id": turn.id,
        "session": turn.session,
        "created": turn.created,
        "kind": turn.kind,
        "model": turn.model,
        "mode": turn.mode,
        "status": turn.status,
        "seconds": turn.seconds,
        "atp": turn.atp.get("spent"),
        "prompt": turn.prompt,
    }


def _full(store: VerbatimStore | None, name: str) -> dict[str, Any]:
    import dataclasses

    from sage.errors import TurnNotFound

    if store is None:
        raise TurnNotFound(
            f"No turn {name!r}: nothing has been asked yet.", mend="sage ask 'What is 17 + 25?'"
        )
    turn = store.turn(name)
    return {
        **dataclasses.asdict(turn),
        "seconds": turn.seconds,
        "decision": store.decision(turn.id),
        "outcomes": [dataclasses.asdict(outcome) for outcome in store.outcomes(turn.id)],
    }


def _when(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _when_short(seconds: float) -> str:
    """The time of day, or the date where that was not today."""
    import time

    then, today = time.localtime(seconds), time.localtime()
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%m-%d", then)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _show_table(rows: list[dict[str, Any]]) -> None:
    import sys

    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    from sage.cli.render import console, print_table

    out = console()
    on_terminal = sys.stdout.isatty()
    width = out.width if on_terminal else PIPED_WIDTH
    narrow = on_terminal and width < NARROW
    names = ["id", "time", "kind", "model", "mode", "status", "seconds", "ATP", ""]
    if narrow:
        names = ["id", "time", "kind", "model", "status", "s", "ATP", ""]
    table = Table(box=None, pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name in ("seconds", "s", "ATP") else "left", no_wrap=True)
    prompts = [Text(" ".join(printable(row["prompt"][: 4 * WORDS_SHOWN]).split())) for row in rows]
    for row, prompt in zip(rows, prompts, strict=True):
        ident, when = row["id"], _when(row["created"])
        if narrow:  # the part after "turn-" is enough to ask for it
            ident, when = ident.removeprefix("turn-"), _when_short(row["created"])
        cells = [ident, when, row["kind"], row["model"], *([] if narrow else [row["mode"]]), row["status"]]
        cells += [_number(row["seconds"]), _number(row["atp"])]
        table.add_row(*(Text(cell) for cell in cells), prompt)
    # Only the prompt gives way to a narrow terminal: an id that is cut cannot be asked for.
    whole = Measurement.get(out, out.options.update(width=10_000), table).maximum
    room = width - (whole - max(p.cell_len for p in prompts))
    least = WORDS_LEAST // 2 if narrow else WORDS_LEAST
    for prompt in prompts:
        prompt.truncate(min(WORDS_SHOWN, max(least, room)), overflow="ellipsis")
    print_table(table, width=whole)


def _show_turn(turn: dict[str, Any]) -> None:
    def line(name: str, value: object) -> None:
        if value not in ("", None, {}, []):
            typer.echo(f"{name + ':':<10} {printable(str(value))}")

    line("turn", turn["id"])
    line("session", turn["session"])
    line("time", _when(turn["created"]))
    line("kind", turn["kind"])
    line("status", f"{turn['status']}{': ' + turn['error'] if turn['error'] else ''}")
    line("model", turn["model"])
    line("seconds", _number(turn["seconds"]))
    for name in ("usage", "irp", "atp"):
        line(name, ", ".join(f"{key} {value}" for key, value in turn[name].items()))
    for message in turn["messages"]:
        typer.echo(f"\n[{message['role']}]\n{printable(message['content'])}")
    if turn["answer"]:
        typer.echo(f"\n[answer]\n{printable(turn['answer'])}")
    if turn["decision"]:
        _show_decision(turn["decision"])
    if turn["outcomes"]:
        typer.echo("\n[outcomes]")
    for outcome in turn["outcomes"]:
        quality = f"quality {outcome['quality']:.2f}, says {outcome['source']}"
        typer.echo(f"{_when(outcome['at'])}  {outcome['candidate']}  {quality}")


def _show_decision(decision: dict[str, Any]) -> None:
    typer.echo(f"\n[decision]\n{decision['chosen']} by {decision['mode']}: {printable(decision['reason'])}")
    for row in decision["candidates"]:
        typer.echo(
            f"  {row['name']}: permission {row['permission']:.3f} = expertise {row['expertise']:.3f}"
            f" x cheapness {row['cheapness']:.3f} x persistence {row['persistence']:.2f}"
        )
    for names, reason in left_out(decision["excluded"]):
        typer.echo(f"  {names}: left out, {printable(reason)}")
    for failure in decision["failures"]:
        typer.echo(f"  {failure['name']}: {failure['error']}, {printable(failure['message'])}")


def _show_events(home: Path, turn: str | None, *, last: int | None, as_json: bool) -> None:
    import json
    from collections import deque

    from sage.cli.render import emit_json
    from sage.events import JsonlLog

    records = (
        record
        for record in JsonlLog(home / "events.jsonl", max_bytes=0).read()
        if turn is None or str(record.get("turn_id", "")).startswith(turn)
    )
    shown = records if last is None else deque(records, maxlen=last)
    if as_json:
        emit_json(list(shown))
        return
    for record in shown:
        typer.echo(json.dumps(record, ensure_ascii=False))
