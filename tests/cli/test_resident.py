"""`sage models ps, load, unload`, and two SAGE processes on one SAGE_HOME."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sage.clock import SystemClock
from sage.errors import RemoteFailed
from sage.zoo.breaker import Health
from sage.zoo.lease import Lease, holder
from sage.zoo.notes import noted
from sage.zoo.remembered import Remembered

WAIT = "{} holds the models of {}; waiting"


def wait_until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


@pytest.fixture
def chatting(start_sage: Any) -> Callable[..., Any]:
    """A `sage chat` on a terminal that has answered once, so that it holds its model."""

    def start(**env: str) -> Any:
        chat = start_sage("chat", tty=True, **env)
        chat.read_until("> ")
        chat.type("first\n")
        chat.read_until("sage trust explain")
        return chat

    return start


def named(chat: Any) -> str:
    return f"process {chat.process.pid} (sage chat)"


def test_nothing_is_in_memory(fakes: Any, run_sage: Any, home: Path) -> None:
    fakes(alice={})
    limit = {"SAGE_MODELS__MEMORY_LIMIT_GB": "0.5"}
    said = run_sage("models", "ps", env=limit).stdout
    assert said == "No model is in memory; 500 MB of 500 MB for models are free.\n"
    nothing = {"holder": None, "models": [], "budget": 500_000_000, "free": 500_000_000, "resting": {}}
    assert json.loads(run_sage("models", "ps", "--json", env=limit).stdout) == nothing
    for words, said in ((("alice",), "alice is not in memory."), (("--all",), "No model is in memory.")):
        done = run_sage("models", "unload", *words)
        assert (done.returncode, done.stdout) == (0, said + "\n")
    assert not (home / "run").exists()


def test_who_rests_is_told_though_nobody_holds_models(fakes: Any, run_sage: Any, home: Path) -> None:
    fakes(alice={"answer": "yes"})
    clock = SystemClock()
    rest = Health(last=RemoteFailed("it hung"), failures=2, at=clock.monotonic(), rest_s=600.0)
    Remembered(home, clock).keep({"alice": rest}, {})
    assert "alice failed and is not asked for" in run_sage("models", "ps").stdout
    assert 500 < json.loads(run_sage("models", "ps", "--json").stdout)["resting"]["alice"] <= 600
    refused = run_sage("ask", "-m", "alice", "x")
    assert refused.returncode == 4
    assert "rests for" in refused.stderr
    assert run_sage("models", "load", "alice").returncode == 0  # somebody mended it
    assert run_sage("ask", "-m", "alice", "x").stdout.strip() == "yes"


def test_ask_beside_chat_takes_turns(
    fakes: Any, run_sage: Any, chatting: Any, home: Path, is_ended: Any
) -> None:
    fakes(alice={"answer": "yes"})
    chat = chatting()
    worker = chat.worker()
    time.sleep(0.4)  # idle, as one who reads an answer
    asked = run_sage("ask", "second")
    assert (asked.returncode, asked.stdout) == (0, "yes\n")
    assert WAIT.format(named(chat), home) in asked.stderr
    assert is_ended(worker)
    assert holder(home) is None
    chat.type("third\n")
    chat.read_until("sage trust explain")
    found = holder(home)
    assert found is not None
    assert found.pid == chat.process.pid
    chat.type("/exit\n")
    assert chat.process.wait(10.0) == 0
    assert holder(home) is None
    assert [path.name for path in (home / "run").iterdir() if path.suffix in (".sock", ".json")] == []


def test_a_busy_holder_is_waited_for_or_not(
    fakes: Any, run_sage: Any, start_sage: Any, home: Path, slow: Any
) -> None:
    fakes(alice=slow)
    busy = start_sage("ask", "first")
    wait_until(lambda: json.loads(run_sage("models", "ps", "--json").stdout)["models"])
    refused = run_sage("ask", "second", "--json", env={"SAGE_MODELS__HOME_WAIT_S": "0"})
    assert refused.returncode == 4
    error = json.loads(refused.stdout)["error"]
    assert error["name"] == "HomeInUse"
    assert (
        error["message"] == f"process {busy.process.pid} (sage ask) holds the models of {home} and is busy."
    )
    assert "SAGE_MODELS__HOME_WAIT_S" in error["mend"]
    assert run_sage("ask", "third").returncode == 0
    assert busy.process.wait(1.0) == 0


def test_ctrl_c_ends_the_wait(fakes: Any, start_sage: Any, home: Path, slow: Any, is_ended: Any) -> None:
    fakes(alice=slow)
    busy = start_sage("ask", "first")
    busy.worker()
    waiting = start_sage("ask", "second", tty=True)
    waiting.read_until("waiting")
    waiting.type("\x03")
    assert waiting.process.wait(3.0) == 130
    assert "Interrupted." in waiting.read_rest()
    assert busy.process.poll() is None
    found = holder(home)
    assert found is not None
    assert found.pid == busy.process.pid


def test_a_killed_holder_leaves_the_home_to_others(
    fakes: Any, run_sage: Any, chatting: Any, home: Path, is_ended: Any
) -> None:
    fakes(alice={"answer": "yes"})
    chat = chatting()
    worker = chat.worker()
    os.kill(chat.process.pid, signal.SIGKILL)
    chat.process.wait()
    asked = run_sage("ask", "second", env={"SAGE_MODELS__HOME_WAIT_S": "0"})
    assert (asked.returncode, asked.stdout) == (0, "yes\n")
    assert "waiting" not in asked.stderr
    assert is_ended(worker)


def test_a_suspended_holder_is_named(fakes: Any, run_sage: Any, chatting: Any) -> None:
    fakes(alice={"answer": "yes"})
    chat = chatting()
    os.kill(chat.process.pid, signal.SIGSTOP)
    try:
        asked = run_sage("ask", "second", env={"SAGE_MODELS__HOME_WAIT_S": "0"})
        assert asked.returncode == 4
        assert "is suspended." in asked.stderr
        assert f"kill -CONT {chat.process.pid}" in asked.stderr
        silent = run_sage("models", "ps")
        assert "alice" in silent.stdout
        assert "it does not answer" in silent.stdout
    finally:
        os.kill(chat.process.pid, signal.SIGCONT)
    chat.type("third\n")
    chat.read_until("sage trust explain")  # nobody waits any more: its model is still there


def test_of_a_holder_that_tells_nothing_nothing_is_claimed(fakes: Any, run_sage: Any, home: Path) -> None:
    fakes(alice={})
    lease = Lease(home, wait_s=0.0, ask_for_it=lambda _stop: False)  # as the bench: no socket
    with lease.use(should_stop=lambda: False, timeout=0.0):
        told = run_sage("models", "ps").stdout
        assert told.startswith("Which models are in memory is not known.\n")
        assert "it does not answer" in told
        for words in (("alice",), ("--all",)):
            done = run_sage("models", "unload", *words)
            assert done.returncode == 4
            assert "does not answer" in done.stderr
    lease.close()


def test_what_a_chat_holds(fakes: Any, run_sage: Any, chatting: Any, home: Path) -> None:
    fakes(alice={"answer": "yes", "resident_mb": 50, "prior": 0.9}, bob={"prior": 0.2})
    chat = chatting(SAGE_MODELS__MEMORY_LIMIT_GB="1")
    lines = (told := run_sage("models", "ps")).stdout.splitlines()
    assert len(lines) > 1, (told, chat.screen)
    assert lines[1].startswith("alice")
    assert lines[1].split()[-2:] == ["ago", str(chat.worker().pid)]
    assert lines[2].startswith(f"{home} is held by {named(chat)}; ")
    found = json.loads(run_sage("models", "ps", "--json").stdout)
    assert found["holder"] == {"pid": chat.process.pid, "command": "sage chat"}
    (alice,) = found["models"]
    assert (alice["name"], alice["busy"], alice["pid"]) == ("alice", False, chat.worker().pid)
    assert alice["bytes"] > 50_000_000
    assert found["budget"] == 1_000_000_000
    assert found["free"] == found["budget"] - alice["reserved"]
    assert alice["reserved"] >= alice["bytes"]

    loaded = run_sage("models", "load", "bob")
    assert loaded.returncode == 0
    assert loaded.stdout.startswith(f"bob is in memory of {named(chat)}: ")
    bob = next(
        m for m in json.loads(run_sage("models", "ps", "--json").stdout)["models"] if m["name"] == "bob"
    )
    (noted_bob,) = (one for one in noted(home) if one.model == "bob")
    assert bob["bytes"] == pytest.approx(noted_bob.bytes, rel=0.02)  # what is seen without the holder
    assert json.loads(run_sage("models", "load", "bob", "--json").stdout)["bytes"] == pytest.approx(
        bob["bytes"], rel=0.02
    )
    assert ", loaded in " in loaded.stdout
    assert "was there already" in run_sage("models", "load", "bob").stdout
    assert len(psutil.Process(chat.process.pid).children()) == 2

    assert run_sage("models", "unload", "bob").stdout.startswith("bob: unloaded, ")
    assert json.loads(run_sage("models", "unload", "--all", "--json").stdout)["unloaded"].keys() == {"alice"}
    assert psutil.Process(chat.process.pid).children() == []
    chat.type("again\n")
    chat.read_until("yes")


def test_a_load_without_a_holder_is_a_trial(fakes: Any, run_sage: Any, home: Path) -> None:
    fakes(alice={"resident_mb": 50, "load_s": 0.3})
    tried = run_sage("models", "load", "alice")
    assert tried.returncode == 0
    assert tried.stdout.startswith("alice loads: ")
    assert "unloaded again" in tried.stdout
    assert run_sage("models", "ps").stdout.startswith("No model is in memory; ")
    rates = json.loads(run_sage("models", "show", "alice", "--json").stdout)["measured"]
    assert rates["load_s"] >= 0.3
    assert rates["rss_bytes"] > 50_000_000
    told = json.loads(run_sage("models", "load", "alice", "--json").stdout)
    assert told.keys() == {"name", "load_s", "bytes", "holder"}
    assert told["holder"] is None


def test_only_an_estimate(fakes: Any, run_sage: Any, home: Path) -> None:
    fakes(small={"resident_mb": 50}, huge={"resident_mb": 90_000_000})
    fits = run_sage("models", "load", "small", "--estimate-only")
    assert fits.returncode == 0
    assert [line.split()[0] for line in fits.stdout.splitlines()] == ["script", "total", "free", "small"]
    assert fits.stdout.endswith("with 4096 tokens of context fits.\n")
    does_not = run_sage("models", "load", "huge", "--estimate-only", "--json")
    assert does_not.returncode == 4
    assert json.loads(does_not.stdout)["fits"] is False
    assert not (home / "run").exists()


OBSTACLES = {
    "unfit": (5, "unfit: it cannot be run: made of paper\n  fix: sage models show unfit"),
    "lacking": (
        4,
        "lacking: it needs no_such_module; its weights are not here\n"
        "  fix: pip install no-such-module && sage models discover --add FOLDER",
    ),
    "adapter": (
        3,
        "adapter: of its base nobody nothing is known; its weights are not here\n"
        "  fix: sage models show adapter && sage models discover --add FOLDER",
    ),
}


@pytest.mark.parametrize("command", [("load",), ("load", "--estimate-only"), ("estimate",)])
def test_what_stands_in_a_models_way_is_said(command: tuple[str, ...], run_sage: Any, home: Path) -> None:
    """All of it at once."""
    ways = {"unfit": 'unfit = "made of paper"', "lacking": 'requires = ["no_such_module"]'}
    ways["adapter"] = 'base = "nobody"\nbackend = "transformers"'
    card = 'name = "{}"\nsource = "unpublished"\nbytes = 1\nlicense = "MIT"\ncontext_length = 512\n{}\n'
    cards = ["[[model]]\n" + card.format(name, way) for name, way in ways.items()]
    (home / "catalog.toml").write_text("\n".join(cards))
    for name, (code, said) in OBSTACLES.items():
        done = run_sage("models", *command, name)
        assert (done.returncode, done.stderr) == (code, f"sage: {said}\n")


def test_what_cannot_be_loaded(fakes: Any, run_sage: Any, chatting: Any, home: Path) -> None:
    fakes(alice={"prior": 0.9}, huge={"resident_mb": 90_000_000}, broken={"load_error": "no such tensor"})
    refusals = [
        ("nobody", 3, "No model is called 'nobody'"),
        ("qwen2.5-coder-0.5b-instruct", 3, "its weights are not here"),
        ("minilm", 2, "answers nothing"),
        ("huge", 4, "huge needs"),
        ("broken", 4, "no such tensor"),
    ]
    for held in (False, True):
        if held:
            chatting()
        for name, code, said in refusals[3:] if held else refusals:
            done = run_sage("models", "load", name)
            assert (done.returncode, said in done.stderr) == (code, True), (name, held, done.stderr)
    cards = (home / "catalog.toml").read_text()
    (home / "catalog.toml").write_text(cards.replace('"broken"', '"newcomer"'))
    newcomer = run_sage("models", "load", "newcomer")
    assert newcomer.returncode == 3
    assert "(sage chat) does not know 'newcomer'." in newcomer.stderr
    assert run_sage("models", "unload", "nobody").returncode == 3
    assert run_sage("models", "unload").returncode == 2
    assert run_sage("models", "unload", "alice", "--all").returncode == 2
