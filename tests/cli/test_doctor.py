"""Every check is shown a healthy machine and a sick one."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from sage.cli import checks
from sage.cli import doctor as module
from sage.cli.checks import Check
from sage.cli.servers import ask_servers
from sage.config import ModelSettings
from sage.hardware.probe import Accelerator, Machine
from sage.memory.db import Database
from sage.zoo.card import ModelCard
from sage.zoo.catalog import add_user_cards
from sage.zoo.lease import Holder, Lease

from ..zoo.model_server import ModelServer, serving

if TYPE_CHECKING:
    from conftest import Lockable, RunSage

GB = 1_000_000_000

MACHINE = Machine(
    platform="linux",
    arch="x86_64",
    cpu="CPU",
    logical_cores=8,
    usable_cores=4,
    memory_total=16 * GB,
    memory_available=12 * GB,
    swap_total=0,
    unified=False,
)


def card(url: str, **changes: Any) -> ModelCard:
    values: dict[str, Any] = {"sha256": "", "bytes": 0, "license": "MIT", "context_length": 99}
    return ModelCard(**values | {"backend": "openai_http", "source": f"openai:{url}#m"} | changes)


def expect(check: Check, status: str, *words: str) -> None:
    assert check.status == status, check
    for word in words:
        assert word in check.detail, check
    assert bool(check.mend) == (status != "OK"), "what is wrong has a mend, what is well has none"


def test_python() -> None:
    expect(checks.check_python((3, 11, 0)), "OK", "3.11.0")
    expect(checks.check_python((4, 0, 0)), "OK")
    expect(checks.check_python((3, 10, 9)), "FAIL", "3.10.9")


def test_import_name() -> None:
    expect(checks.check_import_name([]), "OK")
    expect(checks.check_import_name(["sage-kernel", "Sage_Kernel"]), "OK")
    expect(checks.check_import_name(["sage-kernel", "sagemath-standard"]), "FAIL", "sagemath-standard")


def test_memory() -> None:
    expect(checks.check_memory(MACHINE, 0), "OK", "12.0 GB of 16.0 GB", "10.4 GB for models")
    little = dataclasses.replace(MACHINE, memory_available=1_800_000_000)
    expect(checks.check_memory(little, 0), "WARN", "200 MB for models")
    expect(checks.check_memory(MACHINE, 0.1), "WARN", "100 MB for models")
    said = ("models.memory_limit_gb is 0.1 (sage.toml)", "tiny", "needs 150 MB")
    expect(checks.check_memory(MACHINE, 0.1, "sage.toml", ("tiny", 150_000_000)), "FAIL", *said)
    expect(checks.check_memory(MACHINE, 0.2, "sage.toml", ("tiny", 150_000_000)), "WARN", "200 MB for")
    none = dataclasses.replace(MACHINE, memory_available=GB)
    expect(checks.check_memory(none, 0), "FAIL", "0 B for models")


def test_disk_space(home: Path) -> None:
    expect(checks.check_disk_space(home, 3 * GB), "OK", "3.0 GB", str(home))
    expect(checks.check_disk_space(home, GB), "WARN", "1.0 GB")
    expect(checks.check_disk_space(home, 400_000_000), "FAIL", "400 MB")
    assert checks.check_disk_space(Path("/a b"), 0).mend == "du -xh '/a b' | sort -h | tail"


def test_disk_speed() -> None:
    expect(checks.check_disk_speed(5e8), "OK", "500 MB a second")
    expect(checks.check_disk_speed(2e7), "WARN", "20 MB a second")


def test_holder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(checks.check_holder(home), "OK", "no process")
    lease = Lease(home, wait_s=0.0, ask_for_it=lambda _stop: False)
    with lease.use(should_stop=lambda: False, timeout=1.0):
        expect(checks.check_holder(home), "OK", f"process {os.getpid()} (")
        monkeypatch.setattr(Holder, "suspended", True)
        expect(checks.check_holder(home), "WARN", "suspended")
        monkeypatch.setattr(fcntl, "flock", _no_locks)
        expect(checks.check_holder(home), "FAIL", "cannot be locked")
        monkeypatch.undo()
    lease.close()


def _no_locks(_descriptor: int, _kind: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_cores() -> None:
    expect(checks.check_cores(MACHINE, 0), "OK", "4 of 8", "3 will generate")
    expect(checks.check_cores(MACHINE, 4), "OK", "4 will generate")
    expect(checks.check_cores(dataclasses.replace(MACHINE, usable_cores=1), 0), "OK", "1 will generate")
    expect(checks.check_cores(MACHINE, 5), "WARN", "models.threads is 5")


def test_accelerators() -> None:
    expect(checks.check_accelerators(MACHINE), "OK", "none")
    card = Accelerator(name="RTX", memory_total=24 * GB, memory_free=GB, unified=False)
    board = Accelerator(name="Orin", memory_total=8 * GB, memory_free=GB, unified=True)
    found = dataclasses.replace(MACHINE, accelerators=(card, board))
    expect(checks.check_accelerators(found), "OK", "RTX (24.0 GB)", "Orin (shared memory)")


def test_sqlite_version() -> None:
    expect(checks.check_sqlite_version("3.51.3"), "OK", "3.51.3")
    expect(checks.check_sqlite_version("3.51.2"), "FAIL", "3.51.2")


def test_database(home: Path) -> None:
    path = home / "sage.db"
    expect(checks.check_database(path), "OK", "none yet")
    assert not path.exists()
    with Database(path) as db:
        for number in range(200):
            db.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (str(number), "x" * 500))
    expect(checks.check_database(path), "OK", "schema version ", "integrity ok")
    content = bytearray(path.read_bytes())
    path.write_bytes(bytes(content[:-4096]) + b"\xff" * 4096)
    expect(checks.check_database(path), "FAIL", "damaged")
    path.write_bytes(b"garbage" * 1000)
    expect(checks.check_database(path), "FAIL", "not a database")


def test_database_of_a_newer_version(home: Path) -> None:
    with Database(home / "sage.db") as db:
        db.execute("PRAGMA user_version = 99")
    expect(checks.check_database(home / "sage.db"), "FAIL", "version 99")


def test_home(home: Path, lockable: Lockable) -> None:
    expect(checks.check_home(home / "new"), "OK", str(home))
    assert list((home / "new").iterdir()) == []
    with lockable.locked() as folder:
        expect(checks.check_home(folder), "FAIL", "cannot be written")
        expect(checks.check_home(folder / "new"), "FAIL", "cannot be written")


def test_config(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(checks.check_config(), "OK", "defaults; no sage.toml; in force from the environment: SAGE_HOME")
    monkeypatch.setenv("SAGE_MODELS__THREADS", "2")
    expect(checks.check_config(), "OK", "no sage.toml; in force", "SAGE_HOME, SAGE_MODELS__THREADS")
    assert "defaults" not in checks.check_config().detail
    (home / "sage.toml").write_text("[models]\noffline = true\n")
    expect(checks.check_config(), "OK", str(home / "sage.toml"))
    (home / "sage.toml").write_text("[models]\nofline = true\n")
    expect(checks.check_config(), "FAIL", "models.ofline")


def test_backend() -> None:
    expect(checks.check_backend("2026.10"), "OK", "xllamacpp 2026.10")
    expect(checks.check_backend(None), "FAIL", "not installed")


def test_models() -> None:
    expect(checks.check_models(["a", "b"], [], {}), "OK", "a, b")
    expect(checks.check_models(["a"], ["b"], {}), "WARN", "not here: b")
    expect(checks.check_models([], ["a", "b"], {}), "FAIL", "a, b")
    assert checks.check_models([], ["a"], {}).mend == "sage models pull"
    expect(checks.check_models(["x", "y"], ["b"], {}, ["x"]), "OK", "1 model of your own: x; y")
    damaged = checks.check_models(["a"], ["b"], {"c": "cut short", "d": "cut short"})
    expect(damaged, "FAIL", "c is damaged: cut short", "not here: b")
    assert damaged.mend == "sage models pull c && sage models pull d"


@pytest.mark.parametrize("error", [RuntimeError("worker gone"), OSError("worker gone"), AssertionError()])
def test_round_trip(error: Exception) -> None:
    def broken() -> float:
        raise error

    expect(checks.check_round_trip(lambda: 0.25), "OK", "0.25 s")
    expect(checks.check_round_trip(broken), "FAIL", str(error) or "AssertionError")


def test_resting() -> None:
    expect(checks.check_resting({}), "OK")
    expect(checks.check_resting({"a": 12.3, "b": 5.0}), "WARN", "a for 12 s, b for 5 s")


def test_pip() -> None:
    expect(checks.check_pip(True), "OK")
    expect(checks.check_pip(False), "WARN", "cannot be pulled")


def test_clock() -> None:
    expect(checks.check_clock(1_800_000_000), "OK", "2027-01-15")
    expect(checks.check_clock(0), "FAIL", "1970")
    expect(checks.check_clock(1_735_689_599), "FAIL", "2024")
    expect(checks.check_clock(1_735_689_600), "OK", "2025-01-01")


def invoke(*args: str) -> Result:
    app = typer.Typer()
    app.command()(module.doctor)
    return CliRunner().invoke(app, args, catch_exceptions=False)


REPORT = [
    Check(name="one", status="OK", detail="well"),
    Check(name="two", status="WARN", detail="so so", mend="do x"),
]


def test_report_and_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    report = list(REPORT)
    monkeypatch.setattr(module, "run_checks", lambda _home: report)
    result = invoke()
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["OK", "one", "well"],
        ["WARN", "two", "so", "so"],
        ["fix:", "do", "x"],
    ]
    report.append(Check(name="three", status="FAIL", detail="[red]ill", mend="[do] y"))
    result = invoke()
    assert result.exit_code == 4
    assert "FAIL  three         [red]ill\n      fix: [do] y\n" in result.stdout
    result = invoke("--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout) == [dataclasses.asdict(check) for check in report]


def test_a_check_that_breaks_is_one_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(module, "_disk_speed", broken)
    monkeypatch.setattr(module, "_round_trip", broken)
    monkeypatch.setattr(module, "_models", lambda _home: (["a"], [], {}, []))
    report = {check.name: check for check in module.run_checks(home)}
    assert len(report) == 19
    expect(report["disk speed"], "FAIL", "ZeroDivisionError: oh")
    expect(report["round trip"], "FAIL", "oh")
    expect(report["models"], "OK")


def test_a_slow_measurement_is_announced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sage.hardware import disk

    def slow(_home: Path) -> float:
        time.sleep(0.2)
        return 1e8

    said: list[str] = []
    monkeypatch.setattr("sage.cli.render.notes", lambda: type("Notes", (), {"print": said.append}))
    monkeypatch.setattr(disk, "cached_disk_read", lambda _home: 1e8)
    assert module._disk_speed(home) == 1e8
    monkeypatch.setattr(disk, "cached_disk_read", slow)
    monkeypatch.setattr(module, "NOTE_AFTER_S", 0.02)
    assert module._disk_speed(home) == 1e8
    assert said == ["Measuring the disk (64 MiB) ..."]


def test_this_machine_without_models(run_sage: RunSage, home: Path) -> None:
    result = run_sage("doctor", "--json")
    report = {check["name"]: check for check in json.loads(result.stdout)}
    failed = {name for name, check in report.items() if check["status"] == "FAIL"}
    # What the machine that runs the tests lacks is its own affair, save what SAGE itself brings.
    assert "models" in failed
    assert result.returncode == 4
    for name in ("python", "config", "home", "sqlite", "database", "backend", "pip", "round trip"):
        assert report[name]["status"] == "OK", report[name]
    assert (home / "hardware.json").exists()
    assert not (home / "sage.db").exists()


def test_models_of_ones_own_and_a_limit_below_them(run_sage: RunSage, tiny_gguf: Any, tmp_path: Path) -> None:
    own = tiny_gguf(tmp_path / "own.gguf")
    assert run_sage("models", "discover", "--add", str(own)).returncode == 0
    done = run_sage("doctor", "--json", env={"SAGE_MODELS__MEMORY_LIMIT_GB": "0.001"})
    report = {check["name"]: check for check in json.loads(done.stdout)}
    assert (report["models"]["status"], report["models"]["detail"]) == ("OK", "1 model of your own: own")
    assert report["memory"]["status"] == "FAIL"
    assert (
        "0.001 (SAGE_MODELS__MEMORY_LIMIT_GB), and the smallest model here, own" in report["memory"]["detail"]
    )


def test_servers_are_asked_at_the_same_time(run_sage: RunSage, home: Path) -> None:
    with ExitStack() as stack:
        good, silent, other = (stack.enter_context(serving(ModelServer())) for _ in range(3))
        silent.listing = other.listing = lambda handler: bool(handler.server.over.wait(10))
        at = {
            "good": f"{good.url}#m",
            "gone": f"{good.url}#another",
            "mute": f"{silent.url}#m",
            "dumb": f"{other.url}#m",
            "down": "http://127.0.0.1:1/v1#m",
            "away": "http://gpu.example/v1#m",
        }
        cards = [card(url.partition("#")[0], name=name, source=f"openai:{url}") for name, url in at.items()]
        add_user_cards(home, cards)
        began = time.monotonic()
        failures = ask_servers(cards, ModelSettings(), 0.5)
        assert time.monotonic() - began < 1.0, "two that hang are waited for once"
        checked = {name: checks.check_server(name, why) for name, why in failures.items()}
        expect(checked["good"], "OK", "can be asked")
        expect(checked["gone"], "WARN", "has no model 'another'")
        expect(checked["mute"], "WARN", "does not answer")
        expect(checked["dumb"], "WARN", "does not answer")
        expect(checked["down"], "WARN", "cannot be reached")
        expect(checked["away"], "WARN", "not among the hosts")
        assert len(good.keys) == 1, "a server of two models is asked once"
        report = json.loads(run_sage("doctor", "--json").stdout)
    lines = {line["detail"].partition(" ")[0]: line for line in report if line["name"] == "server"}
    assert lines.keys() == {"good", "gone:", "mute:", "dumb:", "down:", "away:"}
    (models,) = [line for line in report if line["name"] == "models"]
    assert models["status"] == "OK", "a user of servers needs no file"


def test_a_wrong_config_does_not_stop_the_report(run_sage: RunSage, home: Path) -> None:
    result = run_sage("doctor", "--json", env={"SAGE_MODELS__CONTXT": "1"})
    report = {check["name"]: check for check in json.loads(result.stdout)}
    assert report["config"]["status"] == "FAIL"
    assert "SAGE_MODELS__CONTEXT" in report["config"]["detail"]
    assert report["round trip"]["status"] == "OK"


@pytest.mark.real
def test_this_machine_with_models(run_sage: RunSage, real_home: Path) -> None:
    report = {check["name"]: check for check in json.loads(run_sage("doctor", "--json").stdout)}
    assert report["models"]["status"] == "OK"
