"""`sage salience`: how much a text would stir memory, and why.

Owns: how an appraisal is shown. Must not know: how it comes about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.cli.options import AsOption

if TYPE_CHECKING:
    from sage.memory.salient import Appraisal

__all__ = ["salience"]


def salience(
    text: Annotated[str, typer.Argument(help="What might be said.")],
    namespace: AsOption = None,
    asked: Annotated[bool, typer.Option("--asked", help="It answers a question.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How much a text would stir memory, and why.

    Surprise, novelty, arousal, reward, conflict, and whether it would be kept.
    """
    from sage.cli.render import emit_json

    found = _look(text, namespace, asked=asked)
    if json:
        emit_json(found)
    else:
        _show(found)


def _look(text: str, namespace: str | None, *, asked: bool) -> dict[str, Any]:
    """The appraisal against the memory that is stored; against an empty one on a new ``SAGE_HOME``."""
    import tempfile
    from pathlib import Path

    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.memory.db import Database
    from sage.memory.passages import PassageStore
    from sage.memory.salience import Context
    from sage.memory.salient import SalientMemory

    usual = load_settings().memory.namespace
    path = sage_home() / "sage.db"
    with tempfile.TemporaryDirectory() as folder:
        fresh = not path.exists()
        with Database(Path(folder) / "sage.db" if fresh else path, read_only=not fresh) as db:
            memory = SalientMemory(db)
            look = memory.look(
                text, namespace=namespace or usual, now=SystemClock().time(), context=Context(asked=asked)
            )
            nearest = look.reading.nearest
            passages = PassageStore(db).get([] if nearest is None else [nearest])
    return _told(look, passages[0].text if passages else None, asked=asked)


def _told(look: Appraisal, nearest: str | None, *, asked: bool) -> dict[str, Any]:
    from sage.memory.salience import DIMENSIONS

    reading = look.reading
    why = {
        "surprise": f"its words are {reading.nats:.1f} nats off what memory expects"
        + (f"; rarest: {', '.join(reading.rarest)}" if reading.rarest else ""),
        "novelty": f"{reading.new} new words; "
        + (f"the nearest message has {reading.near:.0%} of it" if nearest else "nothing like it in memory"),
        "arousal": "what concerns the speaker, time and urgency, names and numbers, length",
        "reward": ("it was asked for" if asked else "nobody asked for it") + "; no outcomes nearby",
        "conflict": "it says that something changed or is not so"
        if look.salience.conflict
        else "it contradicts nothing that is near",
    }
    values = zip(DIMENSIONS, look.salience.values(), strict=True)
    return {
        "total": look.salience.total,
        "kept": look.kept,
        "least": look.least,
        "dimensions": {name: {"value": value, "why": why[name]} for name, value in values},
        "nearest": None if nearest is None else {"id": reading.nearest, "text": nearest},
    }


def _show(found: dict[str, Any]) -> None:
    from sage.cli.render import printable

    for name, each in found["dimensions"].items():
        typer.echo(f"{name + ':':<10} {each['value']:.2f}  {printable(each['why'])}")
    verdict = "would be kept" if found["kept"] else "would not be kept"
    typer.echo(f"{'total:':<10} {found['total']:.2f}  {verdict} (at least {found['least']:.2f})")
    if found["nearest"]:
        text = printable(" ".join(found["nearest"]["text"].split()))
        typer.echo(f"{'nearest:':<10} {text[:100]}")
