"""`sage run`: keeps the kernel alive; `sage sleep`: puts memory in order now.

Owns: how states and reports are told, and stopping on a signal. Must not know: what is done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage.errors import Interrupted

if TYPE_CHECKING:
    from sage.kernel.sleeping import Report
    from sage.kernel.vitals import Condition

__all__ = ["run", "sleep"]

SHOWN = 60
"""Characters of a repeated question that are shown."""


class _Stop(threading.Event):
    """Set by SIGINT or SIGTERM. A second one breaks off what is being done."""

    def on_signal(self, _number: int, _frame: object) -> None:
        if self.is_set():
            raise KeyboardInterrupt
        self.set()


@contextmanager
def _stopped_by_signals() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sleep(
    limit_s: Annotated[
        float | None, typer.Option("--limit-s", min=0.0, help="Stop after so many seconds.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put memory in order now; what `sage run` does when idle.

    Indexes what was said, merges repeated messages, lets the faint fade, prunes, folds the ledger, tidies the
    database. It may be stopped at any point; the next sleep goes on.
    """
    import dataclasses
    import time

    from sage.cli.render import emit_json, notes
    from sage.clock import SystemClock
    from sage.config import load_settings, sage_home
    from sage.kernel.session import open_stores
    from sage.kernel.sleeping import Sleep

    settings, clock = load_settings(), SystemClock()
    until = None if limit_s is None else time.monotonic() + limit_s

    def stopped() -> bool:
        return stop.is_set() or (until is not None and time.monotonic() >= until)

    with (
        _stopped_by_signals() as stop,
        open_stores(sage_home(), settings, clock) as stores,
        notes().status("") as status,
    ):
        report = Sleep(stores, settings, clock).run(should_stop=stopped, progress=status.update)
    if json:
        emit_json({**dataclasses.asdict(report), "ended": report.ended})
    else:
        _show(report)
    if stop.is_set():
        raise SystemExit(Interrupted.exit_code)  # the report is all there is to say
    if any(part.error for part in report.parts):
        raise typer.Exit(1)


def run(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Keep the kernel alive; idle time becomes rest and sleep.

    Follows the state of this SAGE_HOME (see sage state), whatever process answers: after a while without a
    request it rests, then sleeps (see sage sleep). Ctrl-C or SIGTERM ends it cleanly.
    """
    from sage.config import load_settings, sage_home
    from sage.kernel.alive import Alive, only_one
    from sage.kernel.session import open_kernel

    home = sage_home()
    tell = _tell_json if json else _tell
    with (
        _stopped_by_signals() as stop,
        only_one(home),
        open_kernel(home=home, settings=load_settings()) as kernel,
    ):
        alive = Alive(
            kernel,
            on_state=lambda condition: tell("state", _of_condition(condition)),
            on_sleep=lambda report: tell("sleep", _of_report(report)),
        )
        alive.run(stop)


def _of_condition(condition: Condition) -> dict[str, Any]:
    return {"state": condition.standing.state, "why": condition.standing.why}


def _of_report(report: Report) -> dict[str, Any]:
    return {
        "ended": report.ended,
        "seconds": round(sum(part.seconds for part in report.parts), 3),
        "done": {part.what: part.count for part in report.parts if part.count},
        "errors": {part.name: part.error for part in report.parts if part.error},
    }


def _tell_json(kind: str, said: dict[str, Any]) -> None:
    import json
    from datetime import UTC, datetime

    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **said}
    typer.echo(json.dumps(line, ensure_ascii=False))


def _tell(kind: str, said: dict[str, Any]) -> None:
    from datetime import datetime

    from sage.cli.render import human_seconds, printable

    if kind == "state":
        text = f"{said['state']}: {said['why']}"
    else:
        done = ", ".join(f"{count} {what}" for what, count in said["done"].items()) or "nothing to do"
        failed = "".join(f"; {name} failed: {why}" for name, why in said["errors"].items())
        cut = "" if said["ended"] else ", interrupted"
        text = f"slept {human_seconds(said['seconds'])}{cut}: {done}{failed}"
    typer.echo(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}  {printable(text)}")


def _show(report: Report) -> None:
    from sage.cli.render import human_seconds, printable

    for part in report.parts:
        end = "" if part.ended else f"  failed: {part.error}" if part.error else "  (stopped)"
        typer.echo(printable(f"{part.count:>10}  {part.what}, {human_seconds(part.seconds)}{end}"))
    if report.repeated:
        typer.echo("\nAsked most often:")
        for question, times in report.repeated:
            words = " ".join(question.split())
            cut = words if len(words) <= SHOWN else words[: SHOWN - 3] + "..."
            typer.echo(printable(f"{times:>10}  {cut}"))
    if not report.ended:
        typer.echo("\nSome of it is left; the next sleep goes on.")
