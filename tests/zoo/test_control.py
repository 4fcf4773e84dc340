"""The control socket: one line each way, for the same user alone; nothing that a client sends harms it."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.errors import DoesNotFit, HomeInUse, Interrupted, SageError
from sage.zoo import control as module
from sage.zoo.control import Control, ask_holder

Gone = Callable[[], bool]


def echo(request: Mapping[str, Any], _gone: Gone) -> Mapping[str, Any]:
    return {"said": request.get("say")}


def refuse(_request: Mapping[str, Any], _gone: Gone) -> Mapping[str, Any]:
    raise DoesNotFit("too big", mend="buy memory")


def break_down(_request: Mapping[str, Any], _gone: Gone) -> Mapping[str, Any]:
    raise ZeroDivisionError("oh")


def sleep(_request: Mapping[str, Any], _gone: Gone) -> Mapping[str, Any]:
    time.sleep(0.5)
    return {}


def wait(_request: Mapping[str, Any], gone: Gone) -> Mapping[str, Any]:
    """Waits until its client has gone."""
    deadline = time.monotonic() + 20.0
    while not gone() and time.monotonic() < deadline:
        time.sleep(0.02)
    return {}


OPERATIONS = {"echo": echo, "refuse": refuse, "break": break_down, "sleep": sleep, "wait": wait}


@pytest.fixture
def served(home: Path) -> Iterator[Path]:
    (home / "run").mkdir(mode=0o700)
    control = Control(home, OPERATIONS, slow=("wait",))
    yield home
    control.close()
    assert not list((home / "run").iterdir())


@contextmanager
def lines(home: Path, number: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many open connections."""
    opened = [socket.socket(socket.AF_UNIX) for _ in range(number)]
    try:
        for line in opened:
            line.settimeout(5.0)
            line.connect(str(home / "run" / "control.sock"))
            if said:  # a line that is refused at once is closed before it can say even nothing
                line.sendall(said)
        yield opened
    finally:
        for line in opened:
            line.close()


def answers(home: Path) -> bool:
    try:
        return ask_holder(home, {"op": "echo", "say": 1}) == {"ok": True, "said": 1}
    except HomeInUse:
        return False


def soon(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5.0
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()


def speak(home: Path, raw: bytes) -> bytes:
    """What comes back for these bytes; nothing where the line is cut."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5.0)
        line.connect(str(home / "run" / "control.sock"))
        try:
            line.sendall(raw)
            if b"\n" not in raw:
                line.shutdown(socket.SHUT_WR)
            return line.recv(65536)
        except ConnectionError:
            return b""


def test_a_request_and_its_answer(served: Path) -> None:
    assert ask_holder(served, {"op": "echo", "say": "grüß\n"}) == {"ok": True, "said": "grüß\n"}
    mode = (served / "run" / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o777 == 0o600


def test_failures_arrive_as_themselves(served: Path) -> None:
    with pytest.raises(DoesNotFit, match="too big") as refused:
        ask_holder(served, {"op": "refuse"})
    assert refused.value.mend == "buy memory"
    with pytest.raises(SageError, match="ZeroDivisionError: oh"):
        ask_holder(served, {"op": "break"})
    with pytest.raises(SageError, match="no request") as unknown:
        ask_holder(served, {"op": "format"})
    assert "echo" in unknown.value.mend


def test_nobody_there(home: Path) -> None:
    assert ask_holder(home, {"op": "echo"}) is None
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as left:  # as a killed process leaves it
        left.bind(str(home / "run" / "control.sock"))
    assert ask_holder(home, {"op": "echo"}) is None
    control = Control(home, OPERATIONS)
    assert ask_holder(home, {"op": "echo"}) is not None
    control.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_bytes_harm_it(served: Path, raw: bytes) -> None:
    answer = speak(served, raw + b"\n")
    assert json.loads(answer)["error"] == "UsageError"
    assert ask_holder(served, {"op": "echo", "say": 1}) == {"ok": True, "said": 1}


@pytest.mark.parametrize("raw", [b"", b"x", b"x" * 200_000, b"[" * 60_000 + b"\n", b"\n" * 9])
def test_cut_long_and_deep_lines(served: Path, raw: bytes) -> None:
    answer = speak(served, raw)
    assert answer == b"" or json.loads(answer)["error"] == "UsageError"
    assert ask_holder(served, {"op": "echo", "say": 1}) == {"ok": True, "said": 1}


def test_clients_that_say_nothing_are_let_down(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.3)
    with lines(served, module.MAX_CLIENTS) as opened:
        for line in opened:
            assert line.recv(1) == b""
    monkeypatch.undo()
    assert soon(lambda: answers(served))


def test_who_comes_when_too_many_have_is_told_so(served: Path) -> None:
    """Silence would mean that there is no holder."""
    with lines(served, module.MAX_CLIENTS):
        with pytest.raises(HomeInUse, match="too many requests"):
            ask_holder(served, {"op": "echo"})
        with lines(served, 1) as (late,):
            assert json.loads(late.recv(65536))["error"] == "HomeInUse"
    assert soon(lambda: answers(served))


def test_those_that_wait_for_models_hold_up_no_others(served: Path) -> None:
    with lines(served, module.MAX_SLOW, b'{"op": "wait"}\n'):
        assert soon(lambda: speak(served, b'{"op": "wait"}\n') != b"")
        with pytest.raises(HomeInUse, match="too many requests"):
            ask_holder(served, {"op": "wait"})
        assert answers(served)
    # Those that have gone are waited for no more.
    time.sleep(0.3)
    with pytest.raises(HomeInUse, match="did not answer"):
        ask_holder(served, {"op": "wait"}, timeout=0.5)


def test_without_a_thread_for_a_client_it_is_told_and_the_next_is_served(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(module.MAX_CLIENTS + 1):
            with pytest.raises(HomeInUse, match="too many requests"):
                ask_holder(served, {"op": "echo"})
    assert answers(served)


def test_without_a_thread_to_listen_there_is_no_socket(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    (home / "run").mkdir()
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="cannot be served"):
        Control(home, OPERATIONS)
    assert len(os.listdir("/dev/fd")) == before
    assert not list((home / "run").iterdir())


def test_who_has_given_up_wants_nothing_done(served: Path) -> None:
    """A request that lay in a suspended holder's queue must not unload anything once it goes on."""
    ours, theirs = socket.socketpair()
    with theirs:
        assert not module._gone(theirs)
        ours.close()
        assert module._gone(theirs)


def test_a_holder_that_does_not_answer(served: Path) -> None:
    with pytest.raises(HomeInUse, match="did not answer"):
        ask_holder(served, {"op": "sleep"}, timeout=0.2)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        ask_holder(served, {"op": "sleep"}, should_stop=lambda: True)
    assert time.monotonic() - began < 0.4
    assert ask_holder(served, {"op": "sleep"}) == {"ok": True}


def test_many_ask_at_once(served: Path) -> None:
    answers: list[Any] = []

    def ask(number: int) -> None:
        for _ in range(20):
            answer = ask_holder(served, {"op": "echo", "say": number})
            assert answer is None or answer["said"] == number
            answers.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert len(answers) == 160
    assert None not in answers


def test_another_user_is_let_down(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(socket, "SO_PEERCRED"):
        pytest.skip("this system does not tell who connects")
    monkeypatch.setattr(module.os, "geteuid", lambda: os.getuid() + 1)
    assert speak(served, b'{"op": "echo"}\n') == b""
    assert ask_holder(served, {"op": "echo"}) is None  # nor is a foreign socket spoken to


def test_a_home_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    (home / "run").mkdir(parents=True)
    control = Control(home, OPERATIONS)
    folder = Path((home / "run" / "control.path").read_text()).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert ask_holder(home, {"op": "echo", "say": 1}) == {"ok": True, "said": 1}
    control._waker.close()  # as if it were killed: nothing is tidied up
    control._thread.join()
    assert ask_holder(home, {"op": "echo"}) is None
    after = Control(home, OPERATIONS)
    assert not folder.exists()
    after.close()
    assert not list((home / "run").iterdir())


def test_a_note_that_points_elsewhere_deletes_nothing(home: Path, tmp_path: Path) -> None:
    (home / "run").mkdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "s").write_text("mine")
    (home / "run" / "control.path").write_text(str(precious / "s"))
    Control(home, OPERATIONS).close()
    assert (precious / "s").read_text() == "mine"


def test_closing_leaves_no_descriptor_and_no_thread(home: Path) -> None:
    (home / "run").mkdir()
    Control(home, OPERATIONS).close()
    before = len(os.listdir("/dev/fd")), threading.active_count()
    for _ in range(10):
        control = Control(home, OPERATIONS)
        ask_holder(home, {"op": "echo"})
        control.close()
    time.sleep(0.1)
    assert (len(os.listdir("/dev/fd")), threading.active_count()) == before
