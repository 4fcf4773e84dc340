"""The commands of `sage bench` about memory.

Owns: these commands. Must not know: how anything is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sage.cli.bench_result import Out, fetch_minilm, print_rows, report, say, writable

__all__ = ["memory", "salience", "updates"]

Data = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Conversations in LoCoMo's format; generated ones without it."),
]


def memory(
    data: Data = None,
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Generated conversations.")] = 5,
    growth: Annotated[
        int, typer.Option(min=0, metavar="N", help="Also time memories of up to this many messages.")
    ] = 0,
) -> None:
    """Does recall bring back the messages that hold the answer?

    Beside it SQLite's full-text search, mean vectors of the sentence model, and both fused. A file is a list
    of objects with sample_id, conversation and qa.
    """
    from sage.bench.conversations import read_conversations
    from sage.bench.memory import generated, measure_memory
    from sage.bench.memory_growth import measure_growth
    from sage.config import sage_home

    if out is not None:
        writable(out)
    conversations = read_conversations(data) if data else generated(seeds)
    fetch_minilm()
    rows = measure_memory(conversations, sage_home(), progress=say)
    sizes = [size for size in (1000, 10_000, 100_000, 1_000_000) if size <= growth]
    grown = measure_growth(sizes, sage_home(), progress=say)
    print_rows([row for row in rows if row["category"] == "all"])
    if grown:
        print_rows(grown)
    command = f"sage bench memory {f'--data {data.name}' if data else f'--seeds {seeds}'}"
    if growth:
        command += f" --growth {growth}"
    settings = {
        "data": data.name if data else "generated",
        "seeds": None if data else seeds,
        "growth": growth,
    }
    if out is not None:
        from sage.bench.report import write_result
        from sage.cli.render import console

        both = [{"what": "recall", **row} for row in rows] + [{"what": "growth", **row} for row in grown]
        write_result(out, suite="memory", command=command, settings=settings, rows=both)
        console().print(f"written: {out}", style="dim", markup=False)


def updates(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Generated conversations.")] = 20,
    turns: Annotated[int, typer.Option(min=100, metavar="N", help="Messages in each.")] = 400,
) -> None:
    """Does the newest of what was told come first?

    And is nothing said where nothing was told?
    """
    from sage.bench.updates import measure_updates
    from sage.config import sage_home

    if out is not None:
        writable(out)
    fetch_minilm()
    rows = measure_updates(seeds=seeds, turns=turns, home=sage_home(), progress=say)
    command = f"sage bench updates --seeds {seeds} --turns {turns}"
    report(out, "updates", command, {"seeds": seeds, "turns": turns}, rows)


def salience(
    data: Data = None,
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Generated conversations.")] = 5,
) -> None:
    """Does salient memory keep the messages that will be asked for?

    Beside it the longest messages, the newest, and random ones, at three bounds of storage.
    """
    from sage.bench.conversations import read_conversations
    from sage.bench.memory import generated
    from sage.bench.salience import measure_salience
    from sage.config import sage_home

    if out is not None:
        writable(out)
    conversations = read_conversations(data) if data else generated(seeds)
    fetch_minilm()
    rows, more = measure_salience(conversations, sage_home(), progress=say)
    say("; ".join(f"{name}: {value}" for name, value in more.items()))
    command = f"sage bench salience {f'--data {data.name}' if data else f'--seeds {seeds}'}"
    settings = {"data": data.name if data else "generated", "seeds": None if data else seeds}
    report(out, "salience", command, settings, rows, {"more": more})
