"""``sage doctor``: is this machine fit to answer, and if not, which command mends it.

Owns: looking at the machine, the order of the checks, the report. Must not know: what is healthy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sage.cli.checks import Check
    from sage.config import ModelSettings
    from sage.errors import SageError

__all__ = ["doctor", "run_checks"]

NOTE_AFTER_S = 1.0
"""A person starts to wonder whether a command hangs after about a second."""


def _free_bytes(home: Path) -> int:
    import shutil

    folder = next((path for path in (home, *home.parents) if path.exists()), Path("/"))
    return shutil.disk_usage(folder).free


def _disk_speed(home: Path) -> float:
    import threading

    from sage.cli.render import notes
    from sage.hardware.disk import cached_disk_read

    note = threading.Timer(NOTE_AFTER_S, lambda: notes().print("Measuring the disk (64 MiB) ..."))
    note.daemon = True
    note.start()
    try:
        return cached_disk_read(home)
    finally:
        note.cancel()


def _model_settings() -> ModelSettings:
    from sage.config import ModelSettings, load_settings
    from sage.errors import ConfigError

    try:
        return load_settings().models
    except ConfigError:
        return ModelSettings()  # the check of the config says what is wrong with it


def _backend_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return None


def _limit_origin() -> str:
    """The file or variable that the memory limit comes from."""
    from sage.config import load_settings, origins
    from sage.errors import ConfigError

    try:
        return origins(load_settings())["models.memory_limit_gb"][1]
    except ConfigError:
        return ""


def _smallest(home: Path, context: int) -> tuple[str, int] | None:
    """The model here that needs least memory, and how many bytes; None where none is here."""
    from sage.errors import SageError
    from sage.kernel.session import memory_need
    from sage.zoo.catalog import load_catalog
    from sage.zoo.sources import present

    needs = list[tuple[int, str]]()
    for card in load_catalog(home).values():
        if card.backend == "fake" or card.remote or card.unfit or not present(card, home):
            continue
        try:
            needs.append((memory_need(home, card, card.room(context)), card.name))
        except SageError:  # another check says what is wrong with it
            continue
    least = min(needs, default=None)
    return (least[1], least[0]) if least else None


def _models(home: Path) -> tuple[list[str], list[str], dict[str, str], list[str]]:
    """The models with weights: sound, default and not here, damaged and why, and which sound ones are own."""
    from sage.errors import UnsafeFile, WeightsMissing
    from sage.zoo.catalog import load_catalog
    from sage.zoo.sources import vetted

    sound, missing, damaged, own = list[str](), list[str](), dict[str, str](), list[str]()
    for card in load_catalog(home).values():
        if card.remote:  # whether it answers now is told by a line of its own
            own.append(card.name)
        if card.backend == "fake" or card.remote:
            continue
        try:
            vetted(card, home)
            sound.append(card.name)
            if card.source.startswith(("path:", "file:")):
                own.append(card.name)
        except WeightsMissing:
            if card.default:
                missing.append(card.name)
        except UnsafeFile as error:
            damaged[card.name] = error.message
    return sound, missing, damaged, own


def _servers(home: Path, settings: ModelSettings) -> dict[str, SageError | None]:
    """The models that servers run, and why they cannot be asked now."""
    from sage.errors import ConfigError
    from sage.zoo.catalog import load_catalog

    try:
        cards = [card for card in load_catalog(home).values() if card.remote]
    except ConfigError:  # the check of the models says what is wrong with it
        return {}
    if not cards:
        return {}
    from sage.cli.servers import ask_servers  # HTTP takes a tenth of a second to import

    return ask_servers(cards, settings)


def _why_no_minilm(home: Path) -> str:
    from sage.memory.embed import why_no_minilm

    return why_no_minilm(home)


def _round_trip() -> float:
    """Seconds for a worker process to start, load the fake model, answer and end."""
    import time

    from sage.types import GenerationRequest, Message
    from sage.zoo.process import Worker, WorkerLimits, WorkerSpec

    started = time.monotonic()
    spec = WorkerSpec(name="fake", backend="fake", path=Path(), context=512, threads=1)
    worker = Worker(spec, WorkerLimits(load_s=30.0, answer_s=10.0, silence_s=10.0, stop_s=5.0))
    try:
        request = GenerationRequest(messages=(Message(role="user", content="hello"),))
        answer = worker.ask(request, lambda _text: None)
    finally:
        worker.close()
    if answer.text != "You said: hello":
        raise AssertionError(f"the fake model answered {answer.text!r}")
    return time.monotonic() - started


def run_checks(home: Path) -> list[Check]:
    """Every check of this machine. One that breaks is a failure of its own, never the end of the report."""
    import sys
    import time
    from functools import partial
    from importlib.metadata import packages_distributions
    from importlib.util import find_spec

    from sage.cli import checks
    from sage.hardware.probe import probe
    from sage.memory.db import sqlite_version
    from sage.zoo.remembered import resting

    machine, models = probe(), _model_settings()
    todo: dict[str, Callable[[], Check]] = {
        "python": lambda: checks.check_python(sys.version_info[:3]),
        "import name": lambda: checks.check_import_name(packages_distributions().get("sage", [])),
        "clock": lambda: checks.check_clock(time.time()),
        "config": checks.check_config,
        "home": lambda: checks.check_home(home),
        "holder": lambda: checks.check_holder(home),
        "disk space": lambda: checks.check_disk_space(home, _free_bytes(home)),
        "disk speed": lambda: checks.check_disk_speed(_disk_speed(home)),
        "memory": lambda: checks.check_memory(
            machine, models.memory_limit_gb, _limit_origin(), _smallest(home, models.context)
        ),
        "cores": lambda: checks.check_cores(machine, models.threads),
        "accelerators": lambda: checks.check_accelerators(machine),
        "sqlite": lambda: checks.check_sqlite_version(sqlite_version()),
        "database": lambda: checks.check_database(home / "sage.db"),
        "backend": lambda: checks.check_backend(_backend_version()),
        "pip": lambda: checks.check_pip(find_spec("pip") is not None),
        "models": lambda: checks.check_models(*_models(home)),
        "resting": lambda: checks.check_resting(resting(home)),
        "embedder": lambda: checks.check_embedder(_why_no_minilm(home)),
        "round trip": lambda: checks.check_round_trip(_round_trip),
    }
    for name, failure in _servers(home, models).items():
        todo[name] = partial(checks.check_server, name, failure)
    done: list[Check] = []
    for name, check in todo.items():
        try:
            done.append(check())
        except Exception as error:
            detail = f"the check itself failed: {type(error).__name__}: {error}"
            mend = f"pip install --force-reinstall {checks.PACKAGE}"
            done.append(checks.Check(name=name, status="FAIL", detail=detail, mend=mend))
    return done


def doctor(
    json: Annotated[
        bool, typer.Option("--json", help="Print a list of {name, status, detail, mend}.")
    ] = False,
) -> None:
    """Check this machine, and say how to mend what is wrong."""
    from dataclasses import asdict

    from sage.cli.lines import hang
    from sage.cli.render import console, emit_json
    from sage.config import sage_home

    report = run_checks(sage_home())
    if json:
        emit_json([asdict(check) for check in report])
    else:
        from rich.text import Text

        colours = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
        for check in report:
            line = f"  {check.name:<12}  {hang(check.detail, 20)}"
            console().print(
                Text.assemble((f"{check.status:<4}", colours[check.status]), line), soft_wrap=True
            )
            if check.mend:  # in one piece, to be copied
                console().print(Text(f"      fix: {check.mend}"), soft_wrap=True)
    if any(check.status == "FAIL" for check in report):
        raise typer.Exit(4)
