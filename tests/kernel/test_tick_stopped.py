"""A tick that is stopped, killed, shared with others, or given a broken database."""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sage.config import ModelSettings, Settings
from sage.errors import Interrupted, StoreDamaged, StoreError, StoreReadOnly
from sage.events import Event, EventBus
from sage.kernel.sense import Request
from sage.kernel.session import open_kernel
from sage.kernel.tick import Kernel
from sage.memory.books import Ending
from sage.memory.db import Database
from sage.types import Piece
from sage.zoo import lease
from sage.zoo.card import ModelCard

MakeCard = Callable[..., ModelCard]
MakeKernel = Callable[..., Kernel]
Ask = Callable[..., Request]
Accounts = Callable[[], dict[str, int]]

pytestmark = pytest.mark.usefixtures("sound_and_tidy")


# --- being stopped ---

SLOW = {"answer": "word " * 400, "token_s": 0.02}


def after_pieces(count: int, then: Callable[[], None]) -> Callable[[Piece], None]:
    seen = 0

    def on_piece(_piece: Piece) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            then()

    return on_piece


def test_a_cancel_keeps_what_there_is(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a", script=SLOW), make_card("b"))
    cancelled = threading.Event()
    started = time.monotonic()
    reply = kernel.tick(
        ask(verify=lambda _text: 1.0), on_piece=after_pieces(5, cancelled.set), cancelled=cancelled
    )
    assert time.monotonic() - started < 3.0
    assert reply.answer.startswith("word word word word word")
    assert len(reply.answer) < 300
    assert (reply.finish_reason, reply.irp["halt_reason"]) == ("cancelled", "cancelled")
    assert reply.outcomes == ()  # half an answer teaches nothing
    turn = kernel.store.turn(reply.turn_id)
    assert (turn.status, turn.answer) == ("interrupted", reply.answer)
    assert set(kernel.host.resident()) == {"a"}
    assert kernel.tick(ask(model="a", max_tokens=3)).answer == "word word word"  # its worker lives on


def test_a_cancel_before_the_first_word_is_an_interruption(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a"))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Interrupted):
        kernel.tick(ask(), cancelled=cancelled)
    assert kernel.store.turns()[0].status == "interrupted"
    assert kernel.host.resident() == {}


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_what_there_is_and_charges_it(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    heard: list[str] = []
    bus = EventBus()
    bus.subscribe(lambda event: heard.append(type(event).__name__))
    kernel = make_kernel(make_card("a", script=SLOW), bus=bus)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        kernel.tick(ask(), on_piece=after_pieces(10, _thread.interrupt_main))
    assert time.monotonic() - started < 3.0
    turn = kernel.store.turns()[0]
    assert turn.status == "interrupted"
    assert turn.answer.startswith("word word word")
    assert turn.model == "a"
    assert 0.2 < turn.atp["spent"] < turn.atp["granted"]
    assert heard[-1] == "TurnEnded"
    time.sleep(0.3)
    assert heard[-1] == "TurnEnded"  # nothing runs on behind it
    assert kernel.tick(ask(max_tokens=2)).answer == "word word"


# --- several processes, and damage ---

PROCESS = """
import sys
from pathlib import Path
from sage.config import AtpSettings, EventSettings, Settings
from sage.kernel.sense import Request
from sage.kernel.session import open_kernel
from sage.types import Message
from sage.zoo.card import ModelCard

home, name, ticks, token_s = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
card = ModelCard(name=name, source="package", sha256="", bytes=1000, license="none", context_length=2048,
                 backend="fake", script={"answer": "one two three " * 30, "token_s": token_s})
settings = Settings(atp=AtpSettings(grant=5.0))
with open_kernel(home=home, settings=settings, catalog={name: card}) as kernel:
    for number in range(ticks):
        request = Request(messages=(Message(role="user", content=f"{name} {number}"),), session=name,
                          verify=lambda text: 1.0)
        kernel.tick(request, on_piece=lambda piece: print(piece.text, flush=True))
"""


def start(home: Path, name: str, ticks: int, token_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(home), name, str(ticks), str(token_s)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SAGE_HOME": str(home)},
    )


def test_a_killed_process_leaves_a_turn_that_the_next_one_settles(
    home: Path, make_kernel: MakeKernel, accounts: Accounts
) -> None:
    with start(home, "a", 1, 0.1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        workers = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    psutil.wait_procs(workers, timeout=5)
    assert [worker for worker in workers if worker.is_running()] == []  # a worker ends with its parent
    left = accounts()
    (granted,) = [balance for name, balance in left.items() if name.startswith("held:")]
    assert 0 < granted <= 5_000_000

    kernel = make_kernel()
    (turn,) = kernel.store.turns()
    assert (turn.status, turn.prompt) == ("abandoned", "a 0")
    after = accounts()
    assert [name for name in after if name.startswith("held:")] == []
    assert after["budget"] >= left["budget"] + granted
    assert "spent" not in after


def test_a_turn_that_still_runs_elsewhere_is_left_alone(
    home: Path, make_kernel: MakeKernel, accounts: Accounts
) -> None:
    with start(home, "a", 1, 0.01) as process:
        assert process.stdout is not None
        process.stdout.readline()
        kernel = make_kernel()
        assert kernel.store.turns()[0].status == "running"
        assert any(name.startswith("held:") for name in accounts())
        process.communicate(timeout=20)
    assert kernel.store.turns()[0].status == "done"


def test_two_processes_share_one_home(home: Path, make_kernel: MakeKernel, accounts: Accounts) -> None:
    processes = [start(home, name, 6, 0.0) for name in "ab"]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    kernel = make_kernel()
    turns = kernel.store.turns()
    assert [turn.status for turn in turns] == ["done"] * 12
    spent = sum(round(turn.atp["spent"] * 1e6) for turn in turns)
    balances = accounts()
    assert balances["spent"] == spent > 0
    for name in "ab":
        with kernel.trust.book() as book:
            row = book.row(name)
        assert row is not None
        assert (row.events, row.total) == (6, pytest.approx(6, rel=1e-3))


def test_two_threads_share_one_kernel(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a", prior=0.9), make_card("b"))
    replies: list[str] = []

    def work(name: str) -> None:
        for number in range(3):
            replies.append(
                kernel.tick(ask(f"{name} {number}", session=name, namespace=name + str(number))).answer
            )

    threads = [threading.Thread(target=work, args=(name,)) for name in ("x", "y", "z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(replies) == sorted(f"You said: {name} {n}" for name in "xyz" for n in range(3))


@pytest.mark.parametrize("how", ["no database", "page"])
def test_a_damaged_database_is_set_aside_and_made_again(
    how: str, home: Path, make_card: MakeCard, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = {"a": make_card("a")}
    with open_kernel(home=home, settings=Settings(), catalog=catalog) as kernel:
        kernel.tick(ask())
    path = home / "sage.db"
    whole = path.read_bytes()
    if how == "page":
        path.write_bytes(whole[:4096] + b"\xff" * 4096 + whole[8192:])
    else:
        path.write_bytes(b"This is not a database. " * 400)
    before = path.read_bytes()
    # Page 2 holds rows: it may be met on opening or on first use, and then on leaving.
    with suppress(StoreDamaged), open_kernel(home=home, settings=Settings(), catalog=catalog) as kernel:
        kernel.tick(ask())
    (aside,) = (found for found in home.glob("sage.db.damaged-*") if found.name[-4:] not in ("-wal", "-shm"))
    assert aside.read_bytes() == before
    assert str(aside) in caplog.text
    with open_kernel(home=home, settings=Settings(), catalog=catalog) as kernel:
        assert kernel.tick(ask()).answer


@pytest.mark.parametrize("why", ["read-only", "full"])
def test_where_nothing_can_be_written_it_answers_without_memory(
    why: str,
    home: Path,
    make_card: MakeCard,
    ask: Ask,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = {"a": make_card("a")}
    with open_kernel(home=home, settings=Settings(), catalog=catalog) as kernel:
        kernel.tick(ask("before"))
    before = (home / "sage.db").read_bytes()

    def refuse(*_: object) -> int:
        raise StoreReadOnly("no right to write here")

    with monkeypatch.context() as patch:
        if why == "full":
            full = shutil._ntuple_diskusage(10**9, 10**9, 0)  # type: ignore[attr-defined]
            patch.setattr(shutil, "disk_usage", lambda _path: full)
        else:  # for root every folder can be written
            patch.setattr(Database, "_use_wal", refuse)
            patch.setattr(lease, "_open", refuse)
        with open_kernel(home=home, settings=Settings(), catalog=catalog) as kernel:
            assert kernel.tick(ask("one")).answer == "You said: one"
            assert kernel.tick(ask("two")).answer == "You said: two"
            assert [turn.prompt for turn in kernel.store.turns()] == ["two", "one"]
    assert "Going on without memory, nothing is kept" in caplog.text
    assert (home / "sage.db").read_bytes() == before


def test_models_are_unloaded_on_leaving(home: Path, make_card: MakeCard, ask: Ask) -> None:
    settings = Settings(models=ModelSettings(stop_timeout_s=0.5))
    with open_kernel(home=home, settings=settings, catalog={"a": make_card("a")}) as kernel:
        kernel.tick(ask())
        assert len(psutil.Process().children()) == 1
    assert psutil.Process().children() == []
    assert list((home / "run").glob("*.json")) == []


# --- whoever watches or fails, a turn ends once ---


@pytest.mark.parametrize("event", ["TurnStarted", "Decided", "TurnEnded"])
def test_a_watcher_that_fails_changes_nothing(
    event: str, make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "fine"}))

    def fails(seen: Event) -> None:
        if type(seen).__name__ == event:
            raise RuntimeError("the watcher")

    kernel.bus.subscribe(fails)
    assert kernel.tick(ask()).answer == "fine"
    (turn,) = kernel.store.turns()
    assert (turn.status, turn.answer) == ("done", "fine")
    assert turn.atp["spent"] > 0


def test_a_turn_whose_end_could_not_be_written_is_ended_by_the_next(
    make_card: MakeCard,
    make_kernel: MakeKernel,
    ask: Ask,
    accounts: Accounts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel = make_kernel(make_card("a"))

    def locked(*_args: object, **_more: object) -> None:
        raise StoreError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(kernel.books, "close", locked)
        reply = kernel.tick(ask("said"))
    # An answer that was paid for is not withheld; that it is not kept is said.
    assert (reply.answer, reply.atp) == ("You said: said", {})
    assert "could not be kept: locked" in caplog.text
    assert kernel.store.turns()[0].status == "running"
    assert any(name.startswith("held:") for name in accounts())
    kernel.tick(ask())
    assert [turn.status for turn in kernel.store.turns()] == ["done", "abandoned"]
    assert not any(name.startswith("held:") for name in accounts())


def test_a_turn_ends_once(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    kernel = make_kernel(make_card("a", script={"answer": "fine"}))
    reply = kernel.tick(ask())
    ending = Ending(status="failed", answer="", model="", usage={})
    assert kernel.books.close(reply.turn_id, granted=0.0, spent=9.0, ending=ending) is None
    assert kernel.store.turn(reply.turn_id).status == "done"


def test_many_turns_run_side_by_side(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    """A grant is what a turn may cost, so that a full budget serves more than a few."""
    kernel = make_kernel(make_card("a", script={"token_s": 0.01}))
    kernel.tick(ask())
    failures: list[BaseException] = []

    def work() -> None:
        try:
            kernel.tick(ask())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert {turn.status for turn in kernel.store.turns(limit=30)} == {"done"}


def test_a_slow_model_may_be_tried_with_a_full_budget(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    """Or one long answer would shut it out for ever."""
    kernel = make_kernel(make_card("a", script={"answer": "slowly"}))
    kernel.books.measure("a", [("generate_tok_s", 0.1), ("answer_tokens.fact", 200.0)])
    assert kernel.tick(ask()).answer == "slowly"


def test_history_that_is_too_long_for_the_tokenizer_is_shortened(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    """Our count of tokens is a guess: four letters make one; here each letter is one."""
    kernel = make_kernel(make_card("a", script={"answer": "ok"}), settings=Settings(models={"context": 400}))
    for _ in range(8):
        assert kernel.tick(ask("x " * 90, session="s", max_tokens=16)).answer == "ok"
    assert kernel.tick(ask("hi there", session="s", max_tokens=16)).answer == "ok"
