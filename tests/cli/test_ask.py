"""`sage ask` as its user meets it: a process, its two streams, its exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sage.clock import SystemClock
from sage.memory.db import Database
from sage.memory.verbatim import Turn, VerbatimStore

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

KEYS = {
    "": {"answer", "model", "decision", "irp", "usage", "atp", "turn_id"},
    "decision": {"mode", "reason", "candidates"},
    "irp": {"steps", "energy", "halt_reason"},
    "usage": {"prompt_tokens", "completion_tokens", "load_s", "run_s", "wall_s"},
    "atp": {"granted", "spent", "balance"},
}
CANDIDATE_KEYS = {
    "name",
    "expertise",
    "cheapness",
    "persistence",
    "permission",
    "resident",
    "est_load_s",
    "est_atp",
}


def last_turn(home: Path) -> Turn:
    with Database(home / "sage.db", read_only=True) as db:
        return VerbatimStore(db, SystemClock()).turns(limit=1)[0]


def clean(done: subprocess.CompletedProcess[str]) -> bool:
    """No trace of an error that nobody expected, and no escape codes."""
    both = done.stdout + done.stderr
    return "Traceback" not in both and "\x1b" not in both


def test_the_json_contract(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(good={"answer": "Paris.", "prior": 0.9}, poor={"prior": 0.2})
    done = run_sage("ask", "--json", "What is the capital of France?")
    assert done.returncode == 0
    assert done.stderr == ""
    reply = json.loads(done.stdout)
    assert KEYS[""] <= set(reply)
    for part in ("decision", "irp", "usage", "atp"):
        assert KEYS[part] <= set(reply[part]), part
    assert [c["name"] for c in reply["decision"]["candidates"]] == ["good", "poor"]
    for candidate in reply["decision"]["candidates"]:
        assert set(candidate) >= CANDIDATE_KEYS
        product = candidate["expertise"] * candidate["cheapness"] * candidate["persistence"]
        assert candidate["permission"] == pytest.approx(product)
    assert reply["answer"] == "Paris."
    assert reply["model"] == "good"
    assert reply["decision"]["mode"] == "permission"
    assert "good before poor" in reply["decision"]["reason"]
    assert reply["irp"]["steps"] == 1
    assert reply["irp"]["halt_reason"] == "accepted"
    (energy,), (opinion,) = reply["irp"]["energy"], reply["irp"]["opinions"]
    assert energy == pytest.approx(1.0 - opinion["p"], abs=1e-4)
    assert opinion["doubt"] == pytest.approx(0.0952, abs=1e-4)  # 1 - exp(-0.1)
    assert reply["usage"]["prompt_tokens"] == 6
    assert reply["usage"]["completion_tokens"] == 1
    assert reply["usage"]["load_s"] > 0.0
    assert 0.0 < reply["atp"]["spent"] < reply["atp"]["granted"] <= 30.0
    assert reply["atp"]["balance"] == pytest.approx(100.0 - reply["atp"]["spent"], abs=0.5)
    assert last_turn(home).id == reply["turn_id"]
    # What SAGE ships is known, but was never pulled.
    assert reply["decision"]["excluded"]["gemma-3-270m"] == "its weights are not here"


def test_on_a_pipe_stdout_is_the_answer(run_sage: Any, fakes: Any) -> None:
    fakes(one={"answer": "Paris is it.\n\nReally."})
    done = run_sage("ask", "capital of France?")
    assert done.returncode == 0
    assert done.stdout == "Paris is it.\n\nReally.\n"
    assert re.fullmatch(r"one · \d+\.\d\d s · \d+\.\d ATP · sage trust explain turn-\w{12}\n", done.stderr)
    assert clean(done)


def test_an_answer_that_is_doubted_or_cut_says_so(run_sage: Any, fakes: Any) -> None:
    fakes(one={"prior": 0.1, "answer": "word " * 50, "logprob": -3.0})
    doubted = run_sage("ask", "--max-tokens", "9", "hi")
    assert doubted.returncode == 0
    assert re.match(r"one · likely wrong \(right: \d+ %\) · cut at 9 tokens · \d", doubted.stderr)


@pytest.mark.parametrize("args", [(), ("-",)])
def test_the_question_from_stdin(args: tuple[str, ...], run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    assert run_sage("ask", *args, input="from a pipe").stdout == "You said: from a pipe\n"


@pytest.mark.parametrize("prompt", ["", "  \n\t "])
def test_an_empty_question(prompt: str, run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    for done in (run_sage("ask", prompt), run_sage("ask", input=prompt)):
        assert done.returncode == 2
        assert "The prompt is empty." in done.stderr
        assert done.stdout == ""


def test_an_unknown_model(run_sage: Any, fakes: Any) -> None:
    fakes(parrot={})
    done = run_sage("ask", "-m", "parot", "hi")
    assert done.returncode == 3
    assert "Did you mean 'parrot'?" in done.stderr
    assert ": sage models list" in done.stderr


def test_a_pinned_model(run_sage: Any, fakes: Any) -> None:
    fakes(good={"prior": 0.9}, poor={"prior": 0.1, "answer": "me"})
    reply = json.loads(run_sage("ask", "-m", "poor", "--json", "hi").stdout)
    assert (reply["model"], reply["answer"], reply["decision"]["mode"]) == ("poor", "me", "pinned")


def test_a_megabyte_is_refused_at_once(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    began = time.monotonic()
    done = run_sage("ask", input="word " * 200_000)
    assert time.monotonic() - began < 3.0
    assert done.returncode == 2
    assert "the prompt takes about 250004 tokens, its context holds 4096" in done.stderr
    assert len(done.stderr) < 1000


@pytest.mark.parametrize(
    "prompt",
    ["法国的首都是哪里", "ما هي عاصمة فرنسا؟", "เมืองหลวงของฝรั่งเศสคืออะไร", "👩‍🚀🇫🇷 where?", "nul \0 inside"],
)
def test_every_script_of_the_world(prompt: str, run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(one={})
    done = run_sage("ask", input=prompt)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"You said: {prompt}\n"
    assert last_turn(home).prompt == prompt


def test_an_answer_that_the_terminal_cannot_show(run_sage: Any, fakes: Any) -> None:
    fakes(one={"answer": "café 中"})
    done = run_sage("ask", "hi", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert "caf" in done.stdout
    assert clean(done)


@pytest.mark.parametrize(
    "args",
    [
        (b"broken \xff\xed\xa0\x80 bytes",),
        (b"hi", b"--system", b"\xff"),
        (b"hi", b"--session", b"\xff"),
        (b"hi", b"--stop", b"\xff"),
    ],
)
def test_bytes_that_are_no_text(args: tuple[bytes, ...], fakes: Any) -> None:
    fakes(one={})
    done = subprocess.run([sys.executable, "-m", "sage", "ask", *args], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"You said: ")
    assert b"Traceback" not in done.stderr
    if len(args) == 1:
        assert "broken �" in done.stdout.decode()


def test_a_model_name_that_is_no_text(fakes: Any) -> None:
    fakes(one={})
    done = subprocess.run(
        [sys.executable, "-m", "sage", "ask", "hi", "-m", b"\xff"], capture_output=True, check=False
    )
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "code", "why"),
    [
        (None, 3, "There is no file"),
        ("{", 2, "is not JSON"),
        ("[1]", 2, ""),
        ('{"type": "nonsense"}', 2, "not a JSON schema"),
    ],
)
def test_a_schema_that_is_none(
    content: str | None, code: int, why: str, run_sage: Any, fakes: Any, tmp_path: Path
) -> None:
    fakes(one={})
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    done = run_sage("ask", "--schema", str(path), "hi")
    assert done.returncode == code, done.stderr
    assert why in done.stderr
    assert clean(done)


def test_a_schema_is_kept(run_sage: Any, fakes: Any, tmp_path: Path) -> None:
    fakes(one={})
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    reply = json.loads(run_sage("ask", "--schema", "s.json", "--json", "where?").stdout)
    assert json.loads(reply["answer"]) == {"city": "text"}
    assert reply["decision"]["kind"] == "json"


def test_an_unknown_key(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(one={})
    (home / "sage.toml").write_text("[models]\nofline = true\n")
    done = run_sage("ask", "hi")
    assert done.returncode == 2
    assert "Unknown key 'models.ofline'" in done.stderr
    assert "Did you mean 'models.offline'?" in done.stderr


def test_an_unknown_variable(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    done = run_sage("ask", "hi", env={"SAGE_MODELS__OFLINE": "1"})
    assert done.returncode == 2
    assert "Did you mean 'SAGE_MODELS__OFFLINE'?" in done.stderr


def test_a_corrupt_database_is_set_aside_and_the_answer_comes(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(one={})
    (home / "sage.db").write_bytes(b"this is not a database " * 200)
    done = run_sage("ask", "hi")
    assert (done.returncode, done.stdout) == (0, "You said: hi\n")
    (aside,) = home.glob("sage.db.damaged-*")
    assert aside.read_bytes() == b"this is not a database " * 200
    assert str(aside) in done.stderr


def test_when_the_best_crashes_the_next_answers(run_sage: Any, fakes: Any) -> None:
    fakes(best={"prior": 0.9, "answer": "a b c", "crash_after": 2}, next={"prior": 0.3, "answer": "d"})
    done = run_sage("ask", "--json", "hi")
    assert done.returncode == 0
    reply = json.loads(done.stdout)
    assert (reply["answer"], reply["model"]) == ("d", "next")
    assert reply["usage"]["wall_s"] > reply["usage"]["load_s"] + reply["usage"]["run_s"]  # `best` took some
    assert reply["decision"]["mode"] == "fallback"
    (failure,) = reply["decision"]["failures"]
    assert (failure["name"], failure["error"]) == ("best", "WorkerDied")
    assert "SIGSEGV" in failure["message"]
    assert "so next answers" in reply["decision"]["reason"]
    plain = run_sage("ask", "hi")
    assert plain.stdout == "d\n"
    assert "best failed: The worker of best died (killed by SIGSEGV)." in plain.stderr


def test_when_everybody_crashes(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(one={"crash_after": 0}, two={"crash_after": 0})
    done = run_sage("ask", "hi")
    assert done.returncode == 4
    assert "SIGSEGV" in done.stderr
    assert clean(done)
    turn = last_turn(home)
    assert turn.status == "failed"
    assert turn.atp["spent"] > 0.0


def test_a_model_larger_than_memory(run_sage: Any, fakes: Any) -> None:
    fakes(huge={"resident_mb": 90_000_000})
    done = run_sage("ask", "hi")
    assert done.returncode == 4
    assert re.search(r"huge: needs 90000000 MB of memory, \d+ MB are free for models", done.stderr)
    assert "Free memory" in done.stderr


def test_nothing_pulled(run_sage: Any) -> None:
    done = run_sage("ask", "hi")
    assert done.returncode == 3
    assert ": sage models pull" in done.stderr
    assert clean(done)


def test_ctrl_c_in_the_middle_of_an_answer(
    start_sage: Any, run_sage: Any, fakes: Any, slow: Any, is_ended: Callable[..., bool], home: Path
) -> None:
    fakes(slow=slow)
    sage = start_sage("ask", "tell me")
    worker = sage.worker()
    time.sleep(0.6)
    began = time.monotonic()
    sage.process.send_signal(signal.SIGINT)
    out, err = sage.process.communicate(timeout=5)
    assert time.monotonic() - began < 3.0
    assert sage.process.returncode == 130
    assert err.strip() == b"Interrupted."
    assert out == b""
    assert is_ended(worker)
    turn = last_turn(home)
    assert turn.status == "interrupted"
    assert turn.answer in run_sage("logs", "--turn", turn.id).stdout
    assert turn.answer.startswith("word0 word1 ")
    assert turn.atp["spent"] > 0.0


def test_ctrl_c_while_a_model_loads(
    start_sage: Any, run_sage: Any, fakes: Any, is_ended: Callable[..., bool]
) -> None:
    fakes(slow={"load_s": 30})
    sage = start_sage("ask", "tell me")
    worker = sage.worker()
    time.sleep(0.3)
    began = time.monotonic()
    sage.process.send_signal(signal.SIGINT)
    sage.process.communicate(timeout=10)
    assert time.monotonic() - began < 3.0
    assert sage.process.returncode == 130
    assert is_ended(worker)


def test_a_polite_kill_leaves_nothing(
    start_sage: Any, run_sage: Any, fakes: Any, slow: Any, is_ended: Callable[..., bool], home: Path
) -> None:
    fakes(slow=slow, quick={"prior": 0.1, "answer": "fine"})
    sage = start_sage("ask", "tell me")
    worker = sage.worker()
    time.sleep(0.4)
    sage.process.send_signal(signal.SIGTERM)
    sage.process.communicate(timeout=5)
    assert sage.process.returncode == 130
    assert is_ended(worker)
    done = run_sage("ask", "-m", "quick", "--json", "hi")
    assert done.returncode == 0
    with Database(home / "sage.db", read_only=True) as db:
        _, killed = VerbatimStore(db, SystemClock()).turns()
    assert killed.status == "interrupted"
    assert killed.answer
    assert json.loads(done.stdout)["atp"]["balance"] > 90.0  # what was not spent has come back


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_reader_that_leaves_early(option: tuple[str, ...], fakes: Any) -> None:
    fakes(one={"answer": "long" * 50_000})
    command = [sys.executable, "-m", "sage", "ask", "--max-tokens", "100000", *option, "hi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sage:
        assert sage.stdout
        assert sage.stderr
        assert sage.stdout.read(1)
        sage.stdout.close()
        err = sage.stderr.read().decode()
        sage.wait(20)
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.parametrize(
    "args", [("--no-such",), ("--max-tokens", "0", "hi"), ("--temperature", "warm", "hi")]
)
def test_a_bad_option(args: tuple[str, ...], run_sage: Any) -> None:
    done = run_sage("ask", *args)
    assert done.returncode == 2
    assert args[0] in done.stderr
    assert clean(done)


def test_a_session_is_remembered_and_a_single_question_is_not(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    run_sage("ask", "-s", "trip", "one two three")
    again = json.loads(run_sage("ask", "-s", "trip", "--json", "four").stdout)
    alone = json.loads(run_sage("ask", "--json", "seven").stdout)
    assert again["usage"]["prompt_tokens"] == 3 + 5 + 1  # question, answer, question
    assert alone["usage"]["prompt_tokens"] == 1


def test_a_doubtful_answer_asks_for_another_opinion(run_sage: Any, fakes: Any) -> None:
    fakes(unsure={"prior": 0.6, "answer": "maybe", "logprob": -3.0}, sure={"prior": 0.55, "answer": "surely"})
    done = run_sage("ask", "--json", "hi", env={"SAGE_SELECTOR__PRICE_SCALE": "1000"})
    reply = json.loads(done.stdout)
    assert (reply["answer"], reply["model"]) == ("surely", "sure")
    assert reply["decision"]["mode"] == "escalated"
    assert reply["irp"]["steps"] == 2
    assert run_sage("ask", "hi", env={"SAGE_SELECTOR__PRICE_SCALE": "1000"}).stdout == "surely\n"


def test_a_deadline_leaves_out_the_slow(run_sage: Any, fakes: Any) -> None:
    fakes(one={})
    done = run_sage("ask", "--deadline", "0.1", "word " * 400)
    assert done.returncode == 4
    assert "the deadline is 0.1 s" in done.stderr


def test_on_a_terminal_text_appears_as_it_is_made(start_sage: Any, fakes: Any) -> None:
    fakes(one={"answer": "first second third", "token_s": 0.5})
    sage = start_sage("ask", "hi", tty=True, NO_COLOR="")
    sage.read_until("first")
    seen_first = time.monotonic()
    sage.read_until("third")
    assert 0.7 < time.monotonic() - seen_first < 3.0
    sage.read_rest()
    assert sage.process.wait(5) == 0
    assert b"first second third\r\n" in sage.screen
    assert b" ATP \xc2\xb7 sage trust explain turn-" in sage.screen


def on_terminal(start_sage: Any, *args: str, **env: str) -> str:
    """What is seen when the command has ended, without escape codes."""
    sage = start_sage(*args, tty=True, **{"NO_COLOR": "1", **env})
    sage.read_rest()
    assert sage.process.wait(5) == 0
    text = sage.screen.decode().replace("\r\n", "\n")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def test_a_spinner_until_the_first_word(start_sage: Any, fakes: Any) -> None:
    fakes(one={"answer": "first second", "load_s": 0.3, "token_s": 0.3})
    seen = on_terminal(start_sage, "ask", "hi")
    assert seen.index("loading one") < seen.rindex("one is reading") < seen.index("first")


def test_a_spinner_until_the_end_where_nothing_streams(start_sage: Any, fakes: Any) -> None:
    fakes(one={"answer": "first second third", "token_s": 0.3})
    seen = on_terminal(start_sage, "ask", "--json", "hi")
    assert "one is reading" not in seen
    assert seen.rindex("one is answering") < seen.index("{")


UNSURE = {"prior": 0.6, "answers": ["maybe", "perhaps"], "logprob": -3.0}


def test_another_opinion_on_a_terminal(start_sage: Any, fakes: Any) -> None:
    fakes(unsure=UNSURE, sure={"prior": 0.55, "answer": "surely"})
    seen = on_terminal(start_sage, "ask", "hi", SAGE_SELECTOR__PRICE_SCALE="1000")
    assert "maybe\n" in seen  # loading the next one did not wipe it out
    assert "— another opinion, from sure:\nsurely\nsure · " in seen
    assert "kept" not in seen


def test_an_earlier_draft_is_kept_and_not_shown_again(start_sage: Any, fakes: Any) -> None:
    fakes(unsure={"prior": 0.6, "answer": "maybe", "logprob": -2.0}, poor={"prior": 0.5, "logprob": -3.0})
    seen = on_terminal(start_sage, "ask", "hi", SAGE_IRP__MAX_STEPS="2", SAGE_SELECTOR__PRICE_SCALE="1000")
    assert "— another opinion, from poor:\nYou said: hi\n— the first answer is kept.\nunsure · " in seen
    assert seen.count("maybe") == 1


def test_a_second_draft_of_the_same_model(start_sage: Any, fakes: Any) -> None:
    fakes(unsure=UNSURE)
    assert "— a second draft, from unsure:\n" in on_terminal(start_sage, "ask", "hi")


def test_a_failed_draft_is_no_opinion(start_sage: Any, fakes: Any) -> None:
    fakes(best={"prior": 0.9, "answer": "a b c", "crash_after": 2}, next={"prior": 0.3, "answer": "d"})
    seen = on_terminal(start_sage, "ask", "hi")
    assert re.search(r"best failed: .*\n", seen)
    assert "— from next instead:\nd\nnext · " in seen


def test_the_closing_command_is_not_broken(start_sage: Any, fakes: Any) -> None:
    fakes(**{"a-model-with-a-very-long-name-of-its-own": {"answer": "fine"}})
    seen = on_terminal(start_sage, "ask", "hi", COLUMNS="60")
    assert re.search(r"ATP · sage trust explain turn-\w{12}\n", seen)


def test_no_color_on_a_terminal(start_sage: Any, fakes: Any) -> None:
    fakes(one={"answer": "fine", "crash_after": 99}, bad={"prior": 0.99, "crash_after": 0})
    sage = start_sage("ask", "hi", tty=True, NO_COLOR="1")
    sage.read_rest()
    assert sage.process.wait(5) == 0
    assert b"bad failed" in sage.screen
    # The spinner may hide the cursor and clear its line; nothing may set a colour or a style.
    assert re.findall(rb"\x1b\[[0-9;]*m", sage.screen) == []


def test_what_a_model_says_does_not_steer_the_terminal(start_sage: Any, fakes: Any) -> None:
    fakes(one={"answer": "\x1b]0;owned\x07 safe \x9b31m"})
    sage = start_sage("ask", "hi", tty=True)
    sage.read_rest()
    assert b"\x1b]0" not in sage.screen
    assert "\x9b".encode() not in sage.screen
    assert b" safe " in sage.screen


def test_the_files_of_home_are_where_they_belong(
    run_sage: Any, fakes: Any, home: Path, tmp_path: Path
) -> None:
    fakes(one={})
    run_sage("ask", "hi")
    assert {p.name for p in tmp_path.iterdir()} == {"home"}
    assert (home / "sage.db").exists()
    assert list((home / "run").glob("*.json")) == []
    assert os.environ["SAGE_HOME"] == str(home)
