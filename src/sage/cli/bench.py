"""`sage bench`: measurements on this machine, one JSON file each.

Owns: the commands. Must not know: how anything is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sage.cli import bench_kernel, bench_memory
from sage.cli.bench_result import Out, fetch_minilm, print_rows, report, say, writable

if TYPE_CHECKING:
    from sage.bench.policies import Mode
    from sage.bench.residency.suite import ResidencyOptions

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measure: models, and what SAGE itself costs.")

REAL_REQUESTS = 30
"""What a run with real models makes of more: each takes a second or so."""

REAL_MODELS = "smollm2-135m-instruct,gemma-3-270m"


@app.command()
def zoo(
    out: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="The result; without it, in SAGE_HOME/runs."),
    ] = None,
    models: Annotated[str, typer.Option(metavar="A,B", help="Only these; all that are present.")] = "",
    suite: Annotated[
        Literal["quick", "full"], typer.Option(help="Ten minutes a model, or an hour.")
    ] = "quick",
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure also what the file holds.")] = False,
) -> None:
    """What each model takes and gives, and SAGE over them all.

    Load, speed, memory; right answers and CPU seconds by kind of question; conversations; how soon trust
    knows a model; a sentence found again in long texts. The quick suite takes about ten minutes a model on
    two cores; it leaves out texts of over 1024 tokens and multiple choice. A run that is stopped goes on
    where it was.
    """
    from sage.bench.zoo.suite import run_zoo
    from sage.bench.zoo.tables import tables
    from sage.cli.render import console
    from sage.config import load_settings, sage_home

    out = out or sage_home() / "runs" / f"zoo-{suite}.json"
    writable(out)
    names = [name.strip() for name in models.split(",") if name.strip()]
    try:
        result = run_zoo(
            sage_home(), load_settings(), suite=suite, models=names, out=out, fresh=fresh, progress=say
        )
    except KeyboardInterrupt:
        say(f"What was measured is in {out}; the same command goes on from there.")
        raise
    for title, rows in tables(result["rows"]):
        console().print(f"\n{title}", style="bold", markup=False)
        print_rows(rows)
    console().print(f"written: {out}", style="dim", markup=False)


@app.command()
def answers(
    out: Out = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Orders of the questions, where trust learns.")
    ] = 3,
) -> None:
    """Ask fifty questions of each model alone, and of SAGE.

    Shown: right answers, seconds and drafts of each, in one run.
    """
    from sage.bench.answers import measure_answers
    from sage.config import load_settings, sage_home

    rows = measure_answers(sage_home(), load_settings(), seeds=seeds, progress=say)
    report(out, "answers", f"sage bench answers --seeds {seeds}", {"seeds": seeds}, rows)


@app.command()
def ledger(
    out: Out = None,
    events: Annotated[int, typer.Option(min=1000, metavar="N", help="Random events.")] = 1_000_000,
) -> None:
    """Random ATP events with crashes: do the books stay exact?"""
    from sage.bench.ledger import measure_ledger

    rows = [measure_ledger(events=events, progress=say)]
    report(out, "ledger", f"sage bench ledger --events {events}", {"events": events}, rows)


@app.command()
def select(
    out: Out = None,
    outcomes: Annotated[
        int, typer.Option(min=100, metavar="N", help="Decisions, each with its outcome.")
    ] = 3000,
) -> None:
    """What a decision costs, with 10, 100 and 1,000 candidates."""
    from sage.bench.select import measure_select

    rows = measure_select(candidates=(10, 100, 1000), outcomes=outcomes, progress=say)
    report(out, "select", f"sage bench select --outcomes {outcomes}", {"outcomes": outcomes}, rows)


@app.command()
def route(
    train: Annotated[Path, typer.Option(metavar="DIR", help="Recorded outcomes to learn from.")],
    test: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Outcomes to measure on. Without it: cross-validation on --train."),
    ] = None,
    mode: Annotated[
        Literal["full", "bandit", "both"],
        typer.Option(help="Learn from every model's outcome, or only from the chosen one's."),
    ] = "both",
    models: Annotated[str, typer.Option(metavar="GLOB", help="Only models whose name matches.")] = "*",
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Repetitions, each with its own draws.")] = 5,
    folds: Annotated[int, typer.Option(min=2, metavar="N", help="Parts of a cross-validation.")] = 5,
    leave_out_categories: Annotated[
        bool, typer.Option("--leave-out-categories", help="Cross-validate on tasks unlike any learned.")
    ] = False,
    embedder: Annotated[
        Literal["auto", "hash", "minilm"], typer.Option(help="How texts become vectors.")
    ] = "auto",
) -> None:
    """Which router answers most right, on recorded outcomes.

    A folder holds queries.jsonl (objects with id, text, category), models.json (a list of objects with name
    and params_b) and scores.npy, (questions, models) in 0..1; where they exist tokens.npy, cost.npy (USD a
    call) and answers.npy (the option each model chose, -1 for none). With --json a plot is drawn beside it.
    """
    from sage.bench.plot import plot_route
    from sage.bench.report import write_result
    from sage.bench.route_data import check_folder
    from sage.bench.route_run import RouteOptions, run_route, table_of
    from sage.cli.render import console
    from sage.config import sage_home

    if out is not None:
        writable(out)
    check_folder(train)
    if test is not None:
        check_folder(test)
    if embedder == "auto":
        fetch_minilm()
    modes: dict[str, tuple[Mode, ...]] = {
        "full": ("full",),
        "bandit": ("bandit",),
        "both": ("full", "bandit"),
    }
    options = RouteOptions(
        train=train,
        test=test,
        modes=modes[mode],
        models=models,
        seeds=seeds,
        folds=folds,
        leave_out_categories=leave_out_categories,
        embedder=embedder,
    )
    measured = run_route(options, sage_home(), progress=say)
    rows = table_of(measured["results"], worst=leave_out_categories)
    print_rows(rows)
    for line in measured["frontier"]:
        form = f" ({line['form']})" if line["form"] else ""
        console().print(f"AIQ {line['aiq']:.4f} +- {line['aiq_sd']:.4f} {line['policy']}{form}", markup=False)
    if out is None:
        return
    given = {
        "train": train.resolve().name,  # a result goes elsewhere than the folders it was made from
        "test": test.resolve().name if test else None,
        "mode": mode,
        "models": f"'{models}'" if models != "*" else None,
        "seeds": seeds,
        "folds": None if test or leave_out_categories else folds,
        "embedder": embedder,
    }
    command = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    command = f"sage bench route {command}{' --leave-out-categories' * leave_out_categories}"
    more = {key: measured[key] for key in ("results", "frontier", "equal_cost")}
    result = write_result(
        out, suite="route", command=command, settings=measured["settings"], rows=rows, more=more
    )
    plot_route(out.with_suffix(".png"), result)
    console().print(f"written: {out} and {out.with_suffix('.png').name}", style="dim", markup=False)


@app.command()
def drift(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Worlds, each drawn anew.")] = 10,
    models: Annotated[int, typer.Option(min=2, metavar="N", help="Models in the pool.")] = 8,
) -> None:
    """A model silently falls to chance: who notices, and when?

    Later it is well again: who comes back?
    """
    from sage.bench.drift import DEFINITIONS, drift_table, measure_drift

    if out is not None:
        writable(out)
    rows = measure_drift(seeds=seeds, models=(models,), progress=say)
    settings = {"seeds": seeds, "models": models, "definitions": dict(DEFINITIONS)}
    command = f"sage bench drift --seeds {seeds} --models {models}"
    report(out, "drift", command, settings, drift_table(rows), {"results": rows})


@app.command()
def collapse(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Streams, each drawn anew.")] = 5,
    specialists: Annotated[
        int, typer.Option(min=4, metavar="N", help="Experts that are the best in one topic.")
    ] = 16,
) -> None:
    """Does a pool of experts stay one, and who falls for a liar?

    What is loaded is cheaper, so that success breeds success.
    """
    from sage.bench.collapse import DEFINITIONS, collapse_table, measure_collapse

    if out is not None:
        writable(out)
    rows = measure_collapse(seeds=seeds, specialists=specialists, progress=say)
    settings = {"seeds": seeds, "specialists": specialists, "definitions": dict(DEFINITIONS)}
    command = f"sage bench collapse --seeds {seeds} --specialists {specialists}"
    report(out, "collapse", command, settings, collapse_table(rows), {"results": rows})


@app.command()
def residency(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Recorded outcomes. Without it: those of the real models that ship."
        ),
    ] = None,
    budget_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB", help="Memory for models; 8, or without --data what holds half of their bytes."
        ),
    ] = None,
    requests: Annotated[int, typer.Option(metavar="N", help="Requests in each stream.")] = 5000,
    out: Out = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Splits and streams, each drawn anew.")] = 10,
    embedder: Annotated[
        Literal["auto", "hash", "minilm"],
        typer.Option(help="How texts become vectors; auto fetches MiniLM once for --data, 105 MB."),
    ] = "auto",
    grid: Annotated[
        bool, typer.Option("--grid", help="The claims over budgets of 5 to 12 GB and three disks.")
    ] = False,
    real: Annotated[
        bool, typer.Option("--real", help="With real models, beside the simulation of the same requests.")
    ] = False,
    models: Annotated[
        str, typer.Option(metavar="A,B", help=f"The models of --real; {REAL_MODELS}.", show_default=False)
    ] = "",
) -> None:
    """Many models, little memory: who swaps least and answers best?

    Simulated, on recorded outcomes and measured speeds: SAGE, a router with the eviction rules of other
    servers, the clairvoyant bound, the best single model. A folder is as for `sage bench route`; its models
    need params_b or memory_gb.
    """
    from sage.bench.residency.suite import ResidencyOptions
    from sage.bench.route_data import check_folder
    from sage.config import sage_home
    from sage.errors import UsageError
    from sage.hardware.disk import cached_disk_read

    if models and not real:
        raise UsageError("--models names the models of --real.", mend="Add --real, or leave --models out")
    if real and (data or grid or budget_gb is not None):
        raise UsageError(
            "--real runs the models that ship, in memory that holds one.",
            mend="Leave out --data, --grid and --budget-gb",
        )
    if grid and (data is None or budget_gb is not None):
        raise UsageError(
            "The grid goes over budgets and disks, on recorded outcomes.",
            mend="Use --grid with --data DIR, and without --budget-gb",
        )
    if out is not None:
        writable(out)
    disk = cached_disk_read(sage_home())
    if real:
        _residency_real(models or REAL_MODELS, min(requests, REAL_REQUESTS), disk, out)
        return
    options = ResidencyOptions(
        data=data, budget_gb=budget_gb, requests=requests, seeds=seeds, embedder=embedder
    )
    if data is not None:
        check_folder(data)
    if embedder == "auto" and data is not None:
        fetch_minilm()
    given = {
        "data": data.resolve().name if data else None,
        "budget-gb": None if budget_gb is None else f"{budget_gb:g}",
        "requests": requests,
        "seeds": seeds,
        "embedder": embedder,
    }
    command = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    if grid and data is not None:
        _residency_grid(data, options, f"sage bench residency {command} --grid", out)
    else:
        _residency_rows(options, f"sage bench residency {command}", disk, out)


def _residency_real(models: str, requests: int, disk: float, out: Path | None) -> None:
    from sage.bench.residency.real import run_real
    from sage.config import load_settings, sage_home

    names = [name.strip() for name in models.split(",") if name.strip()]
    measured = run_real(sage_home(), load_settings(), disk, models=names, requests=requests, progress=say)
    command = f"sage bench residency --real --models {','.join(names)} --requests {requests}"
    report(out, "residency_real", command, measured["settings"], measured["rows"])


def _residency_grid(data: Path, options: ResidencyOptions, command: str, out: Path | None) -> None:
    from sage.bench.report import write_result
    from sage.bench.residency.claims import CLAIMS
    from sage.bench.residency.grid import grid_table, run_grid
    from sage.cli.render import console
    from sage.config import sage_home

    measured = run_grid(data, options, sage_home(), progress=say)
    print_rows(grid_table(measured["rows"]))
    _explain("The cells name what was missed (-), tied within 0.5 % (=), or not judged (~)", CLAIMS)
    if out is not None:
        write_result(
            out,
            suite="residency_grid",
            command=command,
            settings=measured["settings"],
            rows=measured["rows"],
        )
        console().print(f"written: {out}", style="dim", markup=False)


def _residency_rows(options: ResidencyOptions, command: str, disk: float, out: Path | None) -> None:
    from sage.bench.report import write_result
    from sage.bench.residency.claims import CLAIMS, claims_table, not_met
    from sage.bench.residency.figures import COLUMNS, POLICIES, table_of
    from sage.bench.residency.planning import PARTS, measure_planning
    from sage.bench.residency.suite import JUDGED, claim_rows, run_residency
    from sage.cli.render import console
    from sage.config import sage_home

    measured = run_residency(options, sage_home(), disk, progress=say)
    say("timing decisions")
    planning = measure_planning()
    budget = measured["settings"]["budget_gb"]
    for stream, judged in measured["claims"].items():
        console().print(f"\n{stream}, {budget:g} GB", style="bold", markup=False)
        print_rows(table_of([row for row in measured["rows"] if row["stream"] == stream]))
        for policy in JUDGED:
            found = not_met([each for each in judged if each.policy == policy])
            console().print(f"{policy}, claims not met: {found}", markup=False)
    _explain("Policies", POLICIES)
    _explain("Columns", COLUMNS)
    console().print("\nClaims; where one is not met, the figure : the bound", style="bold")
    print_rows(claims_table(measured["claims"]))
    _explain("Claims", CLAIMS)
    console().print("\nWhat a decision costs", style="bold")
    print_rows(planning)
    _explain("Parts", PARTS)
    if out is not None:
        write_result(
            out,
            suite="residency",
            command=command,
            settings=measured["settings"],
            rows=measured["rows"],
            more={"claims": claim_rows(measured["claims"]), "planning": planning},
        )
        console().print(f"written: {out}", style="dim", markup=False)


def _explain(title: str, words: Mapping[str, str]) -> None:
    from sage.cli.render import console

    console().print(f"\n{title}", style="bold", markup=False)
    for name, meaning in words.items():
        console().print(f"  {name}: {meaning}", markup=False, highlight=False)


app.command()(bench_kernel.kernel)
app.command()(bench_memory.memory)
app.command()(bench_memory.updates)
app.command()(bench_memory.salience)
