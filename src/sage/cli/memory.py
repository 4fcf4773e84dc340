"""`sage memory`: what is remembered, looked at, forgotten, taken along and mended.

Owns: how memory is shown and what is asked before anything goes. Must not know: how it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.options import AsOption

if TYPE_CHECKING:
    from sage.memory.db import Database
    from sage.memory.passages import Passage

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What is remembered: search it, forget it, take it along.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SessionFilter = Annotated[
    str | None, typer.Option("--session", "-s", metavar="NAME", help="Only this session.")
]
BeforeOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only what was said before: 2026-01-31, or with T12:30.")
]
FAILED_PROOF = 1


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help='Words, in any form; "..." is one phrase.')],
    session: SessionFilter = None,
    speaker: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this one said.")] = None,
    after: Annotated[str | None, typer.Option(metavar="TIME", help="Only what was said since.")] = None,
    before: BeforeOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="How many at most.")] = 20,
    namespace: AsOption = None,
    json: JsonOption = False,
) -> None:
    """Find messages that have all these words, best first."""
    from sage.cli.render import emit_json, printable
    from sage.memory.browse import Filters
    from sage.memory.browse import search as find

    filters = Filters(
        namespace=_namespace(namespace),
        session=session,
        speaker=speaker,
        after=_time(after),
        before=_time(before),
    )
    with _database(read_only=True) as db:
        found = find(db, text, filters, limit=limit) if db else []
    if json:
        emit_json([{**_row(match.passage), "excerpt": match.excerpt} for match in found])
        return
    for match in found:
        excerpt = " ".join(printable(match.excerpt).split())
        typer.echo(f"{_head(match.passage)}  {excerpt}")
    if not found:
        typer.echo("Nothing that is remembered has these words.")


@app.command()
def show(
    ident: Annotated[str, typer.Argument(metavar="ID", help="The number of a message, or the id of a turn.")],
    namespace: AsOption = None,
    json: JsonOption = False,
) -> None:
    """One message in full, or all of a turn."""
    from sage.cli.render import emit_json, printable
    from sage.errors import NotFound
    from sage.memory.browse import passages_of

    with _database(read_only=True) as db:
        if db is None:
            raise NotFound("Nothing is remembered yet.", mend="sage ask 'What is 17 + 25?'")
        found = passages_of(db, ident, _namespace(namespace))
    if json:
        emit_json([_row(passage) for passage in found])
        return
    for passage in found:
        typer.echo(f"{_head(passage)}  {passage.turn_id or 'imported'}\n{printable(passage.text)}\n")


@app.command()
def forget(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Numbers of messages or ids of turns.")
    ] = None,
    session: SessionFilter = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only what has this text, in any case of letters.")
    ] = None,
    before: BeforeOption = None,
    everything: Annotated[bool, typer.Option("--everything", help="The whole namespace.")] = False,
    namespace: AsOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete what was said with all that was made of it.

    The files are searched for what is left of it. Several conditions must all hold. A message takes its turn
    along. What trust learned stays, in numbers.
    """
    import dataclasses

    from sage.cli.render import emit_json
    from sage.clock import SystemClock
    from sage.config import sage_home
    from sage.errors import UsageError
    from sage.memory.forgetting import Found, Selection
    from sage.memory.forgetting import find as select
    from sage.memory.forgetting import forget as delete
    from sage.memory.verbatim import VerbatimStore

    conditions = (ids or None, session, text, before)
    if everything == any(condition is not None for condition in conditions):
        raise UsageError(
            "Say what to forget: ids, conditions, or --everything.", mend="sage memory forget -h"
        )
    if text is not None and not text.strip():
        raise UsageError("The text to forget is empty.", mend="sage memory forget --everything")
    selection = Selection(
        namespace=_namespace(namespace),
        ids=tuple(ids) if ids else None,
        session=session,
        text=text,
        before=_time(before),
    )
    with _database(read_only=False) as db:
        if db:
            VerbatimStore(db, SystemClock()).abandon_dead()
        found = select(db, selection) if db else Found()
        count = f"{len(found.turns)} turns and {len(found.passages)} imported messages"
        if found.running:
            typer.echo(f"{found.running} turns are running and stay; forget them later.", err=True)
        if db is None or not (found.turns or found.passages):
            if json:
                emit_json({"turns": 0, "passages": 0, "proof": None})
            else:
                typer.echo("Nothing that is remembered fits.")
            return
        if not yes:
            typer.confirm(
                f"Forget {count} of namespace {selection.namespace!r} for good?", abort=True, err=True
            )
        proof = delete(db, sage_home(), found)
    if json:
        told = {**dataclasses.asdict(proof), "total": proof.total}
        emit_json({"turns": len(found.turns), "passages": len(found.passages), "proof": told})
    else:
        typer.echo(
            f"Forgot {count}. Searched {proof.files} files ({proof.bytes / 1e6:.1f} MB) for "
            f"{proof.pieces} pieces of it: {proof.total} found."
        )
        if proof.also_kept:
            typer.echo(f"{proof.also_kept} more pieces occur in what is kept, and say nothing.")
    for name, left in proof.found.items():
        typer.echo(f"{name} still has {left} of them; delete or mend it: {sage_home() / name}", err=True)
    if proof.total:
        raise typer.Exit(FAILED_PROOF)


@app.command("export")
def export_memory(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write; '-' is standard output.")],
    namespace: AsOption = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every namespace.")] = False,
) -> None:
    """Write what is remembered, one JSON object a line."""
    import os
    import sys

    from sage.errors import UsageError
    from sage.memory.portable import export

    with _database(read_only=True) as db:
        lines = export(db, None if everyone else _namespace(namespace)) if db else iter(())
        if str(file) == "-":
            for line in lines:
                sys.stdout.buffer.write(line.encode("utf-8", "replace"))
            return
        part = file.with_name(f"{file.name}.part")
        count = 0
        try:
            with open(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as out:
                for line in lines:
                    out.write(line.encode("utf-8", "replace"))
                    count += 1
            os.replace(part, file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UsageError(
                f"{file} cannot be written: {error.strerror}", mend="Give another file"
            ) from error
    typer.echo(f"Wrote {count} lines to {file}.", err=True)


@app.command("import")
def import_memory(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `sage memory export` made.")],
    namespace: AsOption = None,
    into: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take all of it into this namespace.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Keep every namespace as the file says.")] = False,
    json: JsonOption = False,
) -> None:
    """Take in a file of memories. Doing it again changes nothing; one that was cut off goes on."""
    import dataclasses

    from sage.cli.render import emit_json
    from sage.errors import NotFound, UsageError
    from sage.memory.portable import check, take_in

    if sum((everyone, into is not None, namespace is not None)) > 1:
        raise UsageError("--as, --into and --all exclude each other.", mend="Give one of them")
    try:
        with file.open(encoding="utf-8") as lines:
            check(lines, None if everyone or into else _namespace(namespace))
        with file.open(encoding="utf-8") as lines, _database(read_only=False, make=True) as db:
            result = take_in(db, lines, into=into) if db else None
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {file}.", mend="Give a file that exists") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", mend=f"Check {file}") from error
    told = dataclasses.asdict(result) if result else {}
    if json:
        emit_json(told)
    else:
        new, known = told["new"], told["known"]
        typer.echo(f"Took in {new['turn']} turns and {new['passage']} messages; ", nl=False)
        typer.echo(f"{known['turn'] + known['passage']} were here already.")


@app.command()
def stats(json: JsonOption = False) -> None:
    """How much is remembered, for whom, and what it takes."""
    from sage.cli.render import emit_json, human_bytes, printable
    from sage.memory.browse import stats as count

    with _database(read_only=True) as db:
        found: dict[str, Any] = count(db) if db else {"bytes": 0, "namespaces": {}}
    if json:
        emit_json(found)
        return
    if not found["namespaces"]:
        typer.echo("Nothing is remembered yet.")
        return
    free, wal = human_bytes(found["free_bytes"]), human_bytes(found["wal_bytes"])
    typer.echo(f"{found['path']}: {human_bytes(found['bytes'])} in use, {free} free, log {wal}")
    for name, row in found["namespaces"].items():
        typer.echo(
            f"{printable(name)}: {row['passages']} messages ({human_bytes(row['text_bytes'])}) of "
            f"{row['sessions']} sessions, {row['turns']} turns"
            + (f", {_when(row['oldest'])} to {_when(row['newest'])}" if row["passages"] else "")
        )


@app.command()
def repair(json: JsonOption = False) -> None:
    """Set a damaged database aside and make it again from what is left."""
    import dataclasses

    from sage.cli.render import emit_json
    from sage.config import sage_home
    from sage.memory.salvage import repair as mend

    saved = mend(sage_home() / "sage.db")
    if json:
        emit_json({"damaged": saved is not None, **(dataclasses.asdict(saved) if saved else {})})
    else:
        typer.echo(str(saved) if saved else "The database is sound.")


@contextmanager
def _database(*, read_only: bool, make: bool = False) -> Iterator[Database | None]:
    """The database; None where nothing has been said yet."""
    from sage.config import sage_home
    from sage.memory.db import Database

    path = sage_home() / "sage.db"
    if not path.exists() and not make:
        yield None
        return
    with Database(path, read_only=read_only) as db:
        yield db


def _namespace(given: str | None) -> str:
    from sage.config import load_settings

    return given or load_settings().memory.namespace


def _time(text: str | None) -> float | None:
    """Seconds since the epoch of a local date or time.

    Raises:
        UsageError: it is neither.
    """
    from datetime import datetime

    from sage.errors import UsageError

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{text!r} is no time.", mend="Write it as 2026-01-31 or 2026-01-31T12:30"
        ) from error


def _row(passage: Passage) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(passage)


def _head(passage: Passage) -> str:
    from sage.cli.render import printable

    who = printable(f"{passage.session}  {passage.speaker}:")
    return f"{passage.id:>6}  {_when(passage.at)}  {who}"


def _when(seconds: float) -> str:
    from datetime import datetime

    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "at no known time"
