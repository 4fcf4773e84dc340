"""What the holder of a home does when it has taken it, and what others may ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sage.config import ModelSettings, Settings
from sage.errors import HomeInUse, Interrupted, ModelNotFound
from sage.events import Event, EventBus, HomeAwaited
from sage.kernel import sharing as module
from sage.kernel.sense import Request
from sage.kernel.session import open_kernel
from sage.kernel.sharing import ask_for_home
from sage.types import Message
from sage.zoo.card import ModelCard
from sage.zoo.control import ask_holder
from sage.zoo.lease import Lease, holder
from sage.zoo.notes import noted, others_bytes


def card(name: str, **script: Any) -> ModelCard:
    return ModelCard(
        name=name,
        source="fake",
        backend="fake",
        sha256="",
        bytes=1000,
        license="MIT",
        context_length=4096,
        prior={"*": 0.6},
        script=script,
    )


ALICE = card("alice", answer="yes", resident_mb=30)
QUESTION = Request(messages=(Message(role="user", content="q"),), session="s")


def test_a_kernel_holds_the_home_from_its_first_model_on(home: Path) -> None:
    with open_kernel(home=home, catalog={"alice": ALICE}) as kernel:
        assert holder(home) is None
        assert ask_holder(home, {"op": "ps"}) is None
        kernel.tick(QUESTION)
        found = holder(home)
        assert found is not None
        assert found.pid == os.getpid()
        told = ask_holder(home, {"op": "ps"})
        assert told is not None
        assert [model["name"] for model in told["models"]] == ["alice"]
        with pytest.raises(ModelNotFound):
            ask_holder(home, {"op": "load", "name": "bob"})
        time.sleep(0.4)
        assert ask_for_home(home, lambda: False)
        assert holder(home) is None
        assert kernel.host.resident() == {}
        kernel.tick(QUESTION)
        assert holder(home) is not None
    assert holder(home) is None


def test_who_has_given_up_is_not_loaded_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def load(*_what: object, should_stop: Callable[[], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 5.0
        while not should_stop() and time.monotonic() < deadline:
            time.sleep(0.02)
        if should_stop():
            stopped.set()
        return {}

    monkeypatch.setattr(module, "load_measured", load)
    with open_kernel(home=home, catalog={"alice": ALICE}) as kernel:
        kernel.tick(QUESTION)
        with pytest.raises(HomeInUse):
            ask_holder(home, {"op": "load", "name": "alice"}, timeout=0.2)
        assert stopped.wait(2.0)


def test_memory_of_what_is_loading_is_not_told_as_free(home: Path) -> None:
    slow = card("slow", resident_mb=30, load_s=2.0)
    with open_kernel(home=home, catalog={"alice": ALICE, "slow": slow}) as kernel:
        kernel.tick(QUESTION)
        loading = threading.Thread(target=kernel.host.load, args=(slow,))
        loading.start()
        told, deadline = ask_holder(home, {"op": "ps"}), time.monotonic() + 1.5
        while told and len(told["models"]) < 2 and time.monotonic() < deadline:
            told = ask_holder(home, {"op": "ps"})
        assert told
        assert [model["state"] for model in told["models"]].count("loading") == 1
        assert told["free"] == told["budget"] - sum(model["reserved"] for model in told["models"])
        loading.join()


def test_to_unload_all_takes_what_is_loading_too(home: Path) -> None:
    slow = card("slow", resident_mb=30, load_s=2.0)
    with open_kernel(home=home, catalog={"alice": ALICE, "slow": slow}) as kernel:
        kernel.tick(QUESTION)

        def load() -> None:
            with contextlib.suppress(Interrupted):
                kernel.host.load(slow)

        loading = threading.Thread(target=load)
        loading.start()
        deadline = time.monotonic() + 1.5
        while len(kernel.host.picture.models) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        told = ask_holder(home, {"op": "unload", "all": True}, timeout=5.0)
        assert told
        assert set(told["unloaded"]) == {"alice", "slow"}
        assert told["unloaded"]["alice"] > 0
        loading.join()
        assert kernel.host.resident() == {}
        again = ask_holder(home, {"op": "unload", "name": "alice"})
        assert again
        assert again["unloaded"] == {}


def test_models_run_where_no_socket_can_be_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: Any, **_more: Any) -> None:
        raise OSError("no sockets here")

    monkeypatch.setattr(module, "Control", refuse)
    with open_kernel(home=home, catalog={"alice": ALICE}) as kernel:
        assert kernel.tick(QUESTION).answer == "yes"
        assert not ask_for_home(home, lambda: False)
    assert "no control socket" in caplog.text


def test_memory_of_another_process_counts_as_free_until_it_is_ours(home: Path) -> None:
    """Or a model that fits once the other has let go would not even be chosen."""
    worker = subprocess.Popen([sys.executable, "-P", "-m", "sage.zoo.worker"], stdin=subprocess.PIPE)
    try:
        (home / "run").mkdir()
        note = home / "run" / f"{os.getppid()}-theirs.json"
        note.write_text(json.dumps({"model": "theirs", "pid": worker.pid}))
        deadline = time.monotonic() + 5.0
        while not noted(home) and time.monotonic() < deadline:
            time.sleep(0.02)
        (one,) = noted(home)
        assert (one.model, one.pid, one.holder) == ("theirs", worker.pid, os.getppid())
        assert 0 < one.bytes - one.mapped < 500_000_000
        assert others_bytes(home) > 0
        mine = home / "run" / f"{os.getpid()}-theirs.json"
        note.rename(mine)
        assert others_bytes(home) == 0
    finally:
        assert worker.stdin
        worker.stdin.close()
        worker.wait(5.0)
    assert noted(home) == ()


def test_who_waits_is_told_by_whom(home: Path) -> None:
    events: list[Event] = []
    bus = EventBus()
    bus.subscribe(events.append)
    other = Lease(home, wait_s=0.0, ask_for_it=lambda _stop: False)
    settings = Settings(models=ModelSettings(home_wait_s=0.0))
    with (
        other.use(should_stop=lambda: False, timeout=0.0),
        open_kernel(home=home, catalog={"alice": ALICE}, settings=settings, bus=bus) as kernel,
        pytest.raises(HomeInUse, match=f"process {os.getpid()} .* is busy"),
    ):
        kernel.tick(QUESTION)
    other.close()
    (awaited,) = (event for event in events if isinstance(event, HomeAwaited))
    assert awaited.holder.startswith(f"process {os.getpid()} (")
    assert awaited.home == str(home)
