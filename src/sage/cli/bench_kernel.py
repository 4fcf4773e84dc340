"""The command `sage bench kernel`.

Owns: the command. Must not know: how anything is measured.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sage.cli.bench_result import Out, print_rows, say, writable

__all__ = ["kernel"]

MODELS, HISTORIES = (2, 10, 100), (0, 1000, 10_000)


def kernel(
    out: Out = None,
    ticks: Annotated[int, typer.Option(min=20, metavar="N", help="Ticks of each measurement of time.")] = 300,
    seeds: Annotated[int, typer.Option(min=2, metavar="N", help="Simulated persons.")] = 8,
    days: Annotated[int, typer.Option(min=2, metavar="N", help="Workdays of each.")] = 10,
) -> None:
    """What a tick costs, and what each part of the kernel buys.

    First with a model that answers at once. Then the same requests of simulated persons go through the kernel
    as it is, and without each of its parts in turn; the machine's memory and its models are simulated too.
    """
    from sage.bench.kernel.overhead import measure_overhead
    from sage.bench.kernel.suite import FIGURES, measure_parts
    from sage.bench.kernel.variants import VARIANTS
    from sage.bench.report import write_result
    from sage.cli.render import console
    from sage.config import sage_home

    if out is not None:
        writable(out)
    overhead = measure_overhead(sage_home(), ticks=ticks, models=MODELS, histories=HISTORIES, progress=say)
    rows = measure_parts(seeds=seeds, days=days, progress=say)
    parts = [row for row in rows if row["what"] == "part"]
    print_rows([{key: value for key, value in row.items() if key != "what"} for row in overhead])
    print_rows([{key: row[key] for key in ("variant", *FIGURES)} for row in parts])
    for variant, row in zip(VARIANTS[1:], parts[1:], strict=True):
        console().print(f"\n{variant.name}: {variant.meaning}", style="bold", markup=False)
        console().print(f"  the part {row['verdict']}", markup=False, highlight=False)
    if out is not None:
        settings = {
            "ticks": ticks,
            "seeds": seeds,
            "days": days,
            "figures": dict(FIGURES),
            "variants": {variant.name: variant.meaning for variant in VARIANTS},
        }
        command = f"sage bench kernel --ticks {ticks} --seeds {seeds} --days {days}"
        write_result(out, suite="kernel", command=command, settings=settings, rows=[*overhead, *rows])
        console().print(f"written: {out}", style="dim", markup=False)
