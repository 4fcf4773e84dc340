"""`sage chat`: a conversation on a pipe, and on a terminal."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sage.clock import SystemClock
from sage.memory.db import Database
from sage.memory.verbatim import Turn, VerbatimStore


def turns(home: Path) -> list[Turn]:
    """Oldest first."""
    with Database(home / "sage.db", read_only=True) as db:
        return VerbatimStore(db, SystemClock()).turns()[::-1]


def test_a_conversation_on_a_pipe(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(one={})
    done = run_sage(
        "chat", "--session", "talk", input="first words\n\n/why\n/good\n/good\nsecond\n/exit\nnever\n"
    )
    assert done.returncode == 0
    assert done.stdout == "You said: first words\nYou said: second\n"
    assert "session talk" in done.stderr
    assert "one is the only candidate for chat" in done.stderr
    assert done.stderr.count("Noted.") == 1
    assert done.stderr.count("This answer was rated before; nothing changed.") == 1
    assert "\x1b" not in done.stdout + done.stderr
    first, second = turns(home)
    assert (first.prompt, second.prompt) == ("first words", "second")
    assert first.session == second.session == "talk"
    assert second.usage["load_s"] == 0.0  # the model stayed loaded
    assert second.usage["prompt_tokens"] == 2 + 4 + 1  # it was told what was said before
    with Database(home / "sage.db", read_only=True) as db:
        (outcome,) = VerbatimStore(db, SystemClock()).outcomes(first.id)
    assert (outcome.source, outcome.quality, outcome.candidate) == ("user", 1.0, "one")


def test_the_end_of_input_leaves(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    done = run_sage("chat", input="no newline at the end")
    assert done.returncode == 0
    assert done.stdout == "You said: no newline at the end\n"
    assert run_sage("chat", input="").returncode == 0


def test_bytes_that_are_no_text(start_sage: Any, fakes: Any) -> None:
    fakes(one={})
    chat = start_sage("chat", stdin_pipe=True)
    out, err = chat.process.communicate(b"broken \xff bytes\n", timeout=20)
    assert chat.process.returncode == 0, err
    assert "You said: broken \ufffd bytes" in out.decode()


def test_commands_before_any_answer(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    done = run_sage("chat", input="/why\n/bad\n/nonsense\n")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.count("There is no answer yet.") == 2
    assert done.stderr.count("/why explains the last choice") == 2  # at the start, and for /nonsense
    assert "There is no command /nonsense. /why" in done.stderr


def test_a_command_with_a_typing_error(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    assert "There is no command /godo. Did you mean '/good'?" in run_sage("chat", input="/godo\n").stderr


def test_an_error_does_not_end_the_chat(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    done = run_sage("chat", input="x" * 100_000 + "\nstill there?\n")
    assert done.returncode == 0
    assert "its context holds 4096" in done.stderr
    assert done.stdout == "You said: still there?\n"


def test_a_crash_does_not_end_the_chat(run_sage: Any, fakes: Any) -> None:
    fakes(one={"answers": ["fine", "two words"], "crash_after": 2})
    done = run_sage("chat", input="a\nb\nc\n")
    assert done.returncode == 0
    assert done.stdout == "fine\nfine\n"
    assert done.stderr.count("SIGSEGV") >= 1


def test_a_model_that_is_not_there(run_sage: Any, fakes: Any) -> None:
    fakes(parrot={})
    done = run_sage("chat", "-m", "parot", input="hi\n")
    assert done.returncode == 3
    assert "session" not in done.stderr  # at once, before any question
    assert "Did you mean 'parrot'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_system_text_holds_for_every_question(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(one={})
    run_sage("chat", "--system", "be brief", input="a\nb\n")
    for turn in turns(home):
        assert turn.messages[0].role == "system"
        assert turn.messages[0].content == "be brief"


def test_an_empty_line_on_a_terminal(start_sage: Any, fakes: Any) -> None:
    fakes(one={})
    chat = start_sage("chat", tty=True, NO_COLOR="1")
    chat.read_until("> ")
    chat.type("\n")
    assert chat.read_until("> ").count("> ") == 1
    chat.type("hi\n")
    assert "You said: hi\n" in chat.read_until("> ")
    chat.type("\x04")
    chat.read_rest()
    assert chat.process.wait(5) == 0


def test_ctrl_c_stops_the_answer_only(start_sage: Any, fakes: Any, slow: Any, home: Path) -> None:
    fakes(one=slow)
    chat = start_sage("chat", tty=True, NO_COLOR="1")
    chat.read_until("> ")
    chat.type("tell me a long story\n")
    chat.read_until("word3")
    began = time.monotonic()
    chat.type("\x03")
    shown = chat.read_until("> ")
    assert time.monotonic() - began < 2.0
    assert "Stopped" in shown
    chat.type("again\n")
    chat.read_until("word3")
    chat.type("\x03")
    chat.read_until("> ")
    chat.type("\x03")  # at the prompt it drops the line
    chat.read_until("> ")
    assert chat.process.poll() is None
    chat.type("\x04")
    chat.read_rest()
    assert chat.process.wait(5) == 0
    assert b"Traceback" not in chat.screen
    assert not re.findall(rb"\x1b\[[0-9;]*m", chat.screen)
    stopped, again = turns(home)
    assert stopped.status == again.status == "interrupted"
    assert stopped.answer.startswith("word0 word1")
    assert again.usage["load_s"] == 0.0  # the worker survived the stop


@pytest.mark.parametrize("answering", [False, True], ids=["waiting", "answering"])
def test_a_polite_kill_ends_the_chat(
    start_sage: Any, fakes: Any, slow: Any, is_ended: Callable[..., bool], answering: bool
) -> None:
    fakes(slow=slow)
    chat = start_sage("chat", stdin_pipe=True)
    worker = None
    if answering:
        chat.process.stdin.write(b"tell me\n")
        chat.process.stdin.flush()
        worker = chat.worker()
    time.sleep(1.0)
    chat.process.send_signal(signal.SIGTERM)
    assert chat.process.wait(10) == 130
    assert worker is None or is_ended(worker)
