"""The checks of ``sage doctor``: each judges what it is handed, so that a test can hand it a sick machine.

Owns: the thresholds, the findings and the commands that mend them.
Must not know: where what it judges comes from, or how a report is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sage.errors import SageError
    from sage.hardware.probe import Machine

__all__ = [
    "PACKAGE",
    "Check",
    "Status",
    "check_accelerators",
    "check_backend",
    "check_clock",
    "check_config",
    "check_cores",
    "check_database",
    "check_disk_space",
    "check_disk_speed",
    "check_embedder",
    "check_holder",
    "check_home",
    "check_import_name",
    "check_memory",
    "check_models",
    "check_pip",
    "check_python",
    "check_resting",
    "check_round_trip",
    "check_server",
    "check_sqlite_version",
]

Status = Literal["OK", "WARN", "FAIL"]

DISK_FAIL_BYTES = 500_000_000
"""The two default models take about 350 MB; below this a pull of them can fail."""
DISK_WARN_BYTES = 2_000_000_000
"""One more small model fits: 4-bit weights of 3 billion parameters are about 2 GB."""

SLOW_DISK = 50_000_000
"""Bytes/s. Below it a 2 GB model takes over 40 s to load, and a change of model is felt every time."""

PACKAGE = "sage-kernel"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report. ``mend`` is a command, empty where all is well."""

    name: str
    status: Status
    detail: str
    mend: str = ""


def check_python(version: Sequence[int]) -> Check:
    """The language version the code is written for."""
    found = ".".join(str(part) for part in version[:3])
    if tuple(version[:2]) < (3, 11):
        return Check(
            name="python",
            status="FAIL",
            detail=f"{found}; 3.11 or newer is needed",
            mend=f"python3.11 -m pip install {PACKAGE}",
        )
    return Check(name="python", status="OK", detail=found)


def check_import_name(distributions: Iterable[str]) -> Check:
    """SageMath owns the import name ``sage`` too; two in one environment overwrite each other."""
    others = sorted({name for name in distributions if name.lower().replace("_", "-") != PACKAGE})
    if others:
        return Check(
            name="import name",
            status="FAIL",
            detail=f"'sage' is also provided by {', '.join(others)}",
            mend=f"python3 -m venv sage-env && sage-env/bin/pip install {PACKAGE}",
        )
    return Check(name="import name", status="OK", detail="'sage' is ours alone")


def check_memory(
    machine: Machine, limit_gb: float, origin: str = "", smallest: tuple[str, int] | None = None
) -> Check:
    """Whether anything at all may be loaded above the floor and within the configured limit.

    ``origin`` is where the limit comes from; ``smallest`` the model here that needs least, and its bytes.
    """
    from sage.cli.render import human_bytes
    from sage.hardware.budget import budget_bytes, memory_floor

    floor = memory_floor(machine.memory_total)
    budget = budget_bytes(machine.memory, limit_gb)
    detail = (
        f"{human_bytes(machine.memory_available)} of {human_bytes(machine.memory_total)} available, "
        f"{human_bytes(floor)} kept free, {human_bytes(budget)} for models"
    )
    if smallest and 0 < limit_gb * 1e9 < smallest[1]:
        name, need = smallest
        said = f"models.memory_limit_gb is {limit_gb:g}{f' ({origin})' if origin else ''}"
        return Check(
            name="memory",
            status="FAIL",
            detail=f"{said}, and the smallest model here, {name}, needs {human_bytes(need)}",
            mend=f"export SAGE_MODELS__MEMORY_LIMIT_GB={need / 1e9 + 0.05:.1f}",
        )
    if budget == 0:
        return Check(name="memory", status="FAIL", detail=detail, mend="ps aux --sort=-rss | head")
    # The larger of the two default models needs about this much resident.
    if budget < DISK_FAIL_BYTES:
        return Check(name="memory", status="WARN", detail=detail, mend="ps aux --sort=-rss | head")
    return Check(name="memory", status="OK", detail=detail)


def check_disk_space(home: Path, free: int) -> Check:
    """Room for weights and the database."""
    from sage.cli.render import human_bytes

    detail = f"{human_bytes(free)} free under {home}"
    if free < DISK_WARN_BYTES:
        status: Status = "FAIL" if free < DISK_FAIL_BYTES else "WARN"
        return Check(
            name="disk space",
            status=status,
            detail=detail,
            mend=f"du -xh {quote(str(home))} | sort -h | tail",
        )
    return Check(name="disk space", status="OK", detail=detail)


def check_disk_speed(bytes_per_s: float) -> Check:
    """How long a load will take."""
    from sage.cli.render import human_bytes

    detail = f"reads {human_bytes(bytes_per_s)} a second"
    if bytes_per_s < SLOW_DISK:
        return Check(
            name="disk speed",
            status="WARN",
            detail=f"{detail}; changing models will be slow",
            mend="export SAGE_HOME=/folder/on/a/faster/disk",
        )
    return Check(name="disk speed", status="OK", detail=detail)


def check_cores(machine: Machine, threads: int) -> Check:
    """Whether the configured threads fit the cores this process may use. 0 threads: chosen by SAGE."""
    usable = machine.usable_cores
    detail = f"{usable} of {machine.logical_cores} cores usable ({machine.cpu})"
    if threads > usable:
        return Check(
            name="cores",
            status="WARN",
            detail=f"{detail}; models.threads is {threads}, and threads without a core slow all others",
            mend="export SAGE_MODELS__THREADS=0",
        )
    return Check(name="cores", status="OK", detail=f"{detail}; {threads or max(1, usable - 1)} will generate")


def check_accelerators(machine: Machine) -> Check:
    """What else could run a model. None is fine."""
    from sage.cli.render import human_bytes

    found = [
        f"{gpu.name} ({'shared memory' if gpu.unified else human_bytes(gpu.memory_total)})"
        for gpu in machine.accelerators
    ]
    none = "none (the GPU shares memory)" if machine.unified else "none"
    return Check(name="accelerators", status="OK", detail=", ".join(found) or none)


def check_sqlite_version(version: str) -> Check:
    """SQLite without the bug that corrupts WAL databases."""
    from sage.errors import StoreError
    from sage.memory.db import check_sqlite

    try:
        check_sqlite(version)
    except StoreError as error:
        return Check(name="sqlite", status="FAIL", detail=error.message, mend=error.mend)
    return Check(name="sqlite", status="OK", detail=version)


def check_database(path: Path) -> Check:
    """The database opens, is of a schema we know, and every page of it is whole."""
    from sage.errors import StoreError
    from sage.memory.db import Database

    if not path.exists():
        return Check(name="database", status="OK", detail=f"none yet; the first answer makes {path}")
    try:
        with Database(path) as db:
            found, version = db.integrity(), db.version
    except StoreError as error:
        return Check(name="database", status="FAIL", detail=error.message, mend=error.mend)
    if found != "ok":
        first, *rest = found.splitlines()
        more = f" (and {len(rest)} more)" if rest else ""
        return Check(
            name="database",
            status="FAIL",
            detail=f"{path} is damaged: {first}{more}",
            mend="sage memory repair",
        )
    return Check(name="database", status="OK", detail=f"schema version {version}, integrity ok")


def check_home(home: Path) -> Check:
    """SAGE_HOME can be written."""
    import tempfile

    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-"):
            pass
    except OSError as error:
        return Check(
            name="home",
            status="FAIL",
            detail=f"{home} cannot be written: {error.strerror}",
            mend=f"chown -R $(id -u) {quote(str(home))} && chmod -R u+rwX {quote(str(home))}",
        )
    return Check(name="home", status="OK", detail=str(home))


def check_holder(home: Path) -> Check:
    """Who holds the models of this home; a suspended process would keep all others waiting."""
    from sage.errors import StoreError
    from sage.zoo.lease import holder

    try:
        found = holder(home)
    except StoreError as error:
        return Check(name="holder", status="FAIL", detail=error.message, mend=error.mend)
    if found is None:
        return Check(name="holder", status="OK", detail="no process holds models now")
    if found.suspended:
        mend = f"kill -CONT {found.pid}"
        return Check(
            name="holder", status="WARN", detail=f"{found} holds the models and is suspended", mend=mend
        )
    return Check(name="holder", status="OK", detail=f"{found} holds the models; it hands them over when idle")


def check_config() -> Check:
    """Every file and variable is understood."""
    import os

    from sage.config import ENV_PREFIX, config_files, load_settings, origins
    from sage.errors import ConfigError

    try:
        found = origins(load_settings())
    except ConfigError as error:
        return Check(name="config", status="FAIL", detail=error.message, mend=error.mend)
    files = ", ".join(str(path) for path in config_files())
    # The folder is no setting, but whoever wonders which values count wants to see it too.
    names = ["SAGE_HOME"] if os.environ.get("SAGE_HOME") else []
    names += [origin for _value, origin in found.values() if origin.startswith(ENV_PREFIX)]
    detail = files or ("no sage.toml" if len(names) > names.count("SAGE_HOME") else "defaults; no sage.toml")
    if names:
        detail += f"; in force from the environment: {', '.join(names)}"
    return Check(name="config", status="OK", detail=detail)


def check_backend(version: str | None) -> Check:
    """The library that runs GGUF models; asked of the package list, because importing it is slow."""
    if version is None:
        return Check(
            name="backend", status="FAIL", detail="xllamacpp is not installed", mend="pip install xllamacpp"
        )
    return Check(name="backend", status="OK", detail=f"xllamacpp {version}")


def check_models(
    sound: Sequence[str], missing: Sequence[str], damaged: Mapping[str, str], own: Sequence[str] = ()
) -> Check:
    """The models with weights: those that are here and sound, the default ones that are not here, and
    those whose file is damaged, with the reason. ``own`` are the sound ones that the user brought.
    """
    details = [f"{name} is damaged: {why}" for name, why in damaged.items()]
    if missing:
        details.append(f"not here: {', '.join(missing)}")
    if damaged:
        mend = " && ".join(f"sage models pull {name}" for name in damaged)
        return Check(name="models", status="FAIL", detail="; ".join(details), mend=mend)
    if missing and not own:
        status: Status = "WARN" if sound else "FAIL"
        mend = "sage models pull"
        return Check(name="models", status=status, detail="; ".join(details), mend=mend)
    if own:
        count = "1 model" if len(own) == 1 else f"{len(own)} models"
        rest = [name for name in sound if name not in own]
        words = [f"{count} of your own: {', '.join(own)}", *([", ".join(rest)] if rest else [])]
        return Check(name="models", status="OK", detail="; ".join(words))
    return Check(name="models", status="OK", detail=", ".join(sound))


def check_server(model: str, failure: SageError | None) -> Check:
    """Whether the server that runs a model can be asked now; without it, others answer."""
    if failure is None:
        return Check(name="server", status="OK", detail=f"{model} can be asked")
    said, mend = f"{model}: {failure.message}", failure.mend or f"sage models show {model}"
    return Check(name="server", status="WARN", detail=said, mend=mend)


def check_resting(rests_s: Mapping[str, float]) -> Check:
    """The models that failed lately and are left alone for a while; others answer."""
    if not rests_s:
        return Check(name="resting", status="OK", detail="no model failed lately")
    said = ", ".join(f"{name} for {seconds:.0f} s" for name, seconds in rests_s.items())
    first = next(iter(rests_s))
    return Check(
        name="resting",
        status="WARN",
        detail=f"failed, and not asked: {said}",
        mend=f"sage models load {first}",
    )


def check_embedder(why_no_minilm: str) -> Check:
    """How texts are told apart when trust is kept by context."""
    if not why_no_minilm:
        return Check(name="embedder", status="OK", detail="words, characters and MiniLM")
    why, _, mend = why_no_minilm.partition(": ")
    if "not" not in why:  # it is here, and damaged
        return Check(name="embedder", status="WARN", detail=f"words and characters alone: {why}", mend=mend)
    return Check(name="embedder", status="OK", detail=f"words and characters; {why} (better with: {mend})")


def check_round_trip(run: Callable[[], float]) -> Check:
    """A worker process starts, answers with the fake model and ends."""
    from sage.cli.render import human_seconds

    try:
        seconds = run()
    except Exception as error:
        text = str(error) or type(error).__name__
        return Check(
            name="round trip", status="FAIL", detail=text, mend=f"pip install --force-reinstall {PACKAGE}"
        )
    return Check(name="round trip", status="OK", detail=f"a worker answered in {human_seconds(seconds)}")


def check_pip(found: bool) -> Check:
    """Models that come from the package index are fetched by pip."""
    if not found:
        return Check(
            name="pip", status="WARN", detail="not here; models cannot be pulled", mend="python3 -m ensurepip"
        )
    return Check(name="pip", status="OK", detail="here, for sage models pull")


def check_clock(seconds: float) -> Check:
    """A board without a battery starts in 1970: certificates fail then, and trust seems years old."""
    import time

    year = time.gmtime(seconds).tm_year
    if year < 2025:
        return Check(
            name="clock", status="FAIL", detail=f"it says {year}", mend="sudo timedatectl set-ntp true"
        )
    return Check(name="clock", status="OK", detail=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)))
