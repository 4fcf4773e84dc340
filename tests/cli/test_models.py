"""``sage models`` as a user meets it: a process, its exit code, its two streams."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import typer

from sage.cli import models, shelf
from sage.clock import FakeClock
from sage.config import load_settings
from sage.errors import Interrupted, UnsafeFile, UsageError
from sage.events import EventBus, ModelPulled, PullProgress
from sage.kernel.session import open_stores
from sage.zoo.catalog import add_user_card, find_card, load_catalog
from sage.zoo.hub import HubFile
from sage.zoo.sources import card_from_uri


@pytest.fixture
def own_file(tmp_path: Path, tiny_gguf: Any) -> Path:
    return Path(tiny_gguf(tmp_path / "own.gguf"))


def test_list_as_json(run_sage: Any) -> None:
    done = run_sage("models", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows][:2] == ["smollm2-135m-instruct", "gemma-3-270m"]
    assert rows[0] == {
        "name": "smollm2-135m-instruct",
        "present": False,
        "state": "absent",
        "status": "not pulled",
        "obstacle": {
            "name": "WeightsMissing",
            "message": "its weights are not here",
            "mend": "sage models pull smollm2-135m-instruct",
        },
        "notice": "",
        "resident": False,
        "default": True,
        "bytes": 98_362_432,
        "expected_bytes": 98_362_432,
        "parameters": 134_515_008,
        "license": "Apache-2.0",
        "source": "package",
        "backend": "llama_cpp",
        "capabilities": ["text"],
    }
    assert len(rows) > 30


def test_list_for_people(run_sage: Any) -> None:
    done = run_sage("models", "list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "size", "state", "licence", "can"]
    assert "98 MB  not pulled  Apache-2.0" in lines[1]
    assert [line.split()[0] for line in lines[1:]] == ["smollm2-135m-instruct", "gemma-3-270m"]
    assert "more are known: sage models list --all" in done.stderr


def test_a_state_for_people() -> None:
    row = {"resident": True, "present": True, "state": "present", "status": "on disk", "obstacle": None}
    lost = row | {"present": False, "state": "absent", "obstacle": {"name": "WeightsMissing"}}
    assert shelf._state_word(row, 9.0) == "in memory"
    assert shelf._state_word(lost, 0.0) == "in memory, file gone"
    assert shelf._state_word(lost | {"state": "damaged"}, 0.0) == "in memory, file damaged"
    assert shelf._state_word(row | {"resident": False}, 41.7) == "rests 42 s"
    assert shelf._state_word(lost | {"resident": False, "status": "not pulled"}, 41.7) == "not pulled"


def test_list_all_for_people(run_sage: Any) -> None:
    done = run_sage("models", "list", "--all")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert len(lines) > 30
    assert "~66.0 GB  unfit" in lines["qwen3-omni-30b-fp4"]
    assert "~490 MB" in lines["qwen2.5-0.5b-instruct-q4_k_m"]
    assert all(len(line) <= 144 for name, line in lines.items() if name != "!")


def test_a_model_with_a_notice_is_marked(run_sage: Any) -> None:
    hybrid = "nemotron-h-4b-instruct-128k"
    plain = run_sage("models", "list", "--all").stdout.splitlines()
    assert [" !  " in line for line in plain if line.startswith(hybrid)] == [True]
    assert [" !  " in line for line in plain if line.startswith("smollm2-135m-instruct")] == [False]
    (why,) = (line for line in plain if line.startswith(f"! {hybrid}: "))
    assert "needs mamba-ssm, which has no build for ARM64" in why
    (row,) = (row for row in json.loads(run_sage("models", "list", "--json").stdout) if row["name"] == hybrid)
    assert "ARM64" in row["notice"]


def test_a_narrow_list_drops_licences_and_no_part_of_a_name(run_sage: Any) -> None:
    done = run_sage("models", "list", "--all", env={"COLUMNS": "80"})
    assert "licence" not in done.stdout.splitlines()[0]
    first = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert set(load_catalog(Path("/nowhere"))) <= first
    assert "sage models discover" in done.stderr


def test_what_cannot_be_pulled_says_why(run_sage: Any) -> None:
    for name, code, said in (
        ("qwen3-omni-30b-fp4", 5, "metadata only"),
        ("epistemic-pragmatism", 3, "fix: sage models discover --add FOLDER"),
    ):
        done = run_sage("models", "pull", name)
        assert done.returncode == code
        assert said in done.stderr
    done = run_sage("models", "pull", "qwen3-4b-q4_k_m", env={"SAGE_MODELS__OFFLINE": "true"})
    assert done.returncode == 3
    assert "forbids asking the hub" in done.stderr


def test_a_pull_says_what_else_it_takes(run_sage: Any, own_file: Path, home: Path) -> None:
    add_user_card(
        home, replace(card_from_uri(f"file:{own_file}", "own"), requires=("no_lib",), base="nobody")
    )
    done = run_sage("models", "pull", "own")
    assert done.returncode == 0
    said = "To use own: it needs no_lib; of its base nobody nothing is known; pip install no-lib && "
    assert said in done.stderr


def test_the_first_pull_from_the_hub_pins_what_it_serves(
    own_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "qwen3-4b-q4_k_m"
    served = HubFile(bytes=own_file.stat().st_size, sha256=sha256(own_file.read_bytes()).hexdigest())
    asked = list[str]()

    def describe(uri: str) -> HubFile:
        asked.append(uri)
        return served

    def fetch(uri: str, folder: Path, _on_bytes: Any) -> Path:
        folder.mkdir()
        return Path(shutil.copy(own_file, folder / "x.gguf"))

    monkeypatch.setattr("sage.zoo.hub.describe_hub_file", describe)
    monkeypatch.setattr("sage.zoo.hub.fetch_hub_file", fetch)
    models.pull(name)
    card = load_catalog(home)[name]
    assert (card.bytes, card.sha256) == (served.bytes, served.sha256)
    assert (card.parameters, card.family) == (4_000_000_000, "qwen3"), "the rest stays as published"
    own_file.write_bytes(own_file.read_bytes() + bytes(32))
    (home / "models" / f"{name}.gguf").unlink()
    with pytest.raises(UnsafeFile):
        models.pull(name)
    assert asked == [card.source], "the hub's word counts once"


def test_what_a_card_says_of_its_weights(run_sage: Any) -> None:
    words = run_sage("models", "show", "Qwen3-Omni-30B-FP4").stdout
    assert "4 bits claimed, 17.6 as published, which is more" in words
    assert "as published 66.0 GB" in words
    assert words.splitlines()[1].startswith("in the way  it cannot be run: its four bits are metadata only")
    assert "discover" not in words
    assert "pull" not in words
    assert "needs       compressed_tensors\n" in run_sage("models", "show", "qwen3-omni-30b-int8-awq").stdout
    assert "without mamba-ssm" in run_sage("models", "show", "nemotron-h-4b-instruct-128k").stdout
    words = run_sage("models", "show", "introspective-qwen-0.5b-v2.1").stdout
    assert "base        qwen2.5-0.5b-instruct\n" in words
    assert "file        unpublished\n" in words
    assert "weights     1.1 million, 32 bits claimed, 31.1 as published\n" in words
    assert "quality is  unknown\n" in words
    card = json.loads(run_sage("models", "show", "qwen3-omni-30b-fp4", "--json").stdout)
    assert card["obstacle"]["name"] == "UnsafeFile"
    assert card["stored_bits"] == pytest.approx(17.6)


def test_what_is_in_the_way_comes_first(run_sage: Any) -> None:
    lines = run_sage("models", "show", "gemma-3-270m").stdout.splitlines()
    assert lines[1] == "in the way  its weights are not here; sage models pull gemma-3-270m"
    assert "size        253 MB" in lines
    assert "weights     268 million, 4.85 bits claimed, 7.6 in the file, which is more" in lines


def test_an_embedding_model_answers_nothing(run_sage: Any) -> None:
    for command in (["ask", "-m", "minilm", "hello"], ["bench", "zoo", "--models", "minilm"]):
        done = run_sage(*command)
        assert done.returncode == 3
        assert "minilm tells texts apart and answers nothing" in done.stderr


def test_a_file_of_ones_own_from_pull_to_rm(run_sage: Any, own_file: Path, home: Path) -> None:
    done = run_sage(
        "models", "pull", f"file:{own_file}", "--name", "own", env={"SAGE_MODELS__OFFLINE": "true"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith("own: 100 %")
    size = own_file.stat().st_size
    assert done.stdout.startswith(f"own: {size} B, checked, ")

    card = json.loads(run_sage("models", "show", "own", "--json").stdout)
    assert card["present"] is True
    assert card["path"] == str(home / "models" / "own.gguf")
    assert (card["prompt_style"], card["context_length"], card["bytes"]) == ("qa", 512, size)
    words = run_sage("models", "show", "own").stdout
    assert "asked by    qa" in words
    assert "in the way" not in words

    memory = json.loads(run_sage("models", "estimate", "own", "--context", "256", "--json").stdout)
    assert memory["context"] == 256
    assert memory["weights"] == 128
    assert memory["kv"] == 2 * 256 * 2 * 32 * 2
    parts = memory["weights"] + memory["kv"] + memory["compute"] + memory["overhead"]
    assert memory["total"] == parts
    assert memory["fits"] == (memory["total"] <= memory["free"])
    words = run_sage("models", "estimate", "own").stdout
    assert "own with 512 tokens of context fits." in words

    done = run_sage("models", "rm", "own")
    gone = f"its card is removed from {home / 'catalog.toml'}"
    assert (done.returncode, done.stdout) == (0, f"own: {size} B freed; {gone}\n")
    done = run_sage("models", "rm", "own")
    assert done.returncode == 3
    assert "No model is called 'own'." in done.stderr


def test_pulling_the_same_file_again_is_no_clash_but_another_is(
    run_sage: Any, own_file: Path, tiny_gguf: Any
) -> None:
    for _ in range(2):
        assert run_sage("models", "pull", f"file:{own_file}").returncode == 0
    other = tiny_gguf(own_file.with_name("other.gguf"), layers=3)
    done = run_sage("models", "pull", f"file:{other}", "--name", "own")
    assert done.returncode == 2
    assert "already the name of another model" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "gemma-3-270"], 3, "Did you mean 'gemma-3-270m'"),
        (["estimate", "qwen3-omni-30b-fp4"], 5, "metadata only"),
        (["rm", "nothing"], 3, "fix: sage models list"),
        (["pull", "nothing"], 3, "No model is called"),
        (["pull", "gemma-3-270m", "--name", "x"], 2, "--name is for file: and hf:"),
        (["pull", "qwen2.5-coder-0.5b-instruct"], 2, "qwen2.5-coder-0.5b-instruct --yes"),
        (["pull", "file:/nowhere.gguf"], 3, "There is no file /nowhere.gguf\n  fix: ls /\n"),
        (["pull", "/a b/x.gguf"], 3, "fix: sage models pull 'file:/a b/x.gguf'"),
        (["pull", "x.gguf"], 3, "No model is called 'x.gguf'.\n  fix: sage models pull file:x.gguf\n"),
    ],
)
def test_failures_say_what_and_how_to_mend_it(
    arguments: list[str], code: int, said: str, run_sage: Any
) -> None:
    done = run_sage("models", *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_offline_pulls_nothing(run_sage: Any, home: Path) -> None:
    for what in ("gemma-3-270m", "hf:owner/repo/file.gguf"):
        done = run_sage("models", "pull", what, env={"SAGE_MODELS__OFFLINE": "true"})
        assert done.returncode == 3
        assert "SAGE_MODELS__OFFLINE=false" in done.stderr
    assert not (home / "models").exists()


def test_what_is_no_model_is_refused(run_sage: Any, tmp_path: Path, home: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    done = run_sage("models", "pull", f"file:{tmp_path}/bad.gguf")
    assert done.returncode == 5
    assert not (home / "catalog.toml").exists()


def test_ctrl_c_says_that_the_pull_goes_on_later(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(card: Any, home: Path, *, bus: EventBus, offline: bool) -> Path:
        bus.emit(PullProgress(model=card.name, done=card.bytes // 2, total=card.bytes))
        raise KeyboardInterrupt

    monkeypatch.setattr("sage.zoo.sources.pull", stopped)
    with pytest.raises(Interrupted, match="goes on from there") as caught:
        models.pull("smollm2-135m-instruct")
    assert caught.value.exit_code == 130
    assert caught.value.mend == "sage models pull smollm2-135m-instruct"
    assert capsys.readouterr().err == "smollm2-135m-instruct: 50 % (49 MB of 98 MB)\n"


def test_no_name_pulls_the_defaults(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def note(card: Any, home: Path, *, bus: EventBus, **_: object) -> Path:
        if card.name.startswith("gemma"):
            bus.emit(ModelPulled(model=card.name, bytes=card.bytes, seconds=1.0))
        return home / str(card.filename)

    monkeypatch.setattr("sage.zoo.sources.pull", note)
    models.pull()
    out = capsys.readouterr().out
    assert "smollm2-135m-instruct: already here, checked\n" in out
    assert f"gemma-3-270m: 253 MB, checked, {home}" in out


@pytest.mark.parametrize("size", ["same", "other"])
def test_a_damaged_model_is_named_everywhere_and_mended_by_a_pull(
    size: str, run_sage: Any, own_file: Path, home: Path
) -> None:
    assert run_sage("models", "pull", f"file:{own_file}").returncode == 0
    done = run_sage("models", "pull", "own")
    assert (done.returncode, done.stdout) == (0, "own: already here, checked\n")
    installed, mend = home / "models" / "own.gguf", "fix: sage models pull own"
    installed.write_bytes(b"x" * (own_file.stat().st_size if size == "same" else 10))
    if size == "other":
        row = next(r for r in json.loads(run_sage("models", "list", "--json").stdout) if r["name"] == "own")
        assert (row["present"], row["state"]) == (False, "damaged")
        assert "damaged" in run_sage("models", "list").stdout.splitlines()[-1]
        words = run_sage("models", "show", "own").stdout
        assert "own.gguf is damaged\n" in words
        assert f"not {own_file.stat().st_size}; {mend[5:]}\n" in words.splitlines(keepends=True)[1]
    done = run_sage("models", "estimate", "own")
    assert done.returncode == 5
    assert "own: its file " in done.stderr
    assert mend in done.stderr
    report = {check["name"]: check for check in json.loads(run_sage("doctor", "--json").stdout)}
    assert report["models"]["status"] == "FAIL"
    assert "own is damaged: its file" in report["models"]["detail"]
    assert report["models"]["mend"] == mend[5:]
    done = run_sage("models", "pull", "own")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("own: was damaged; fetched again: ")
    assert installed.read_bytes() == own_file.read_bytes()


def test_a_card_with_a_wrong_size_is_not_believed(run_sage: Any, own_file: Path, home: Path) -> None:
    assert run_sage("models", "pull", f"file:{own_file}").returncode == 0
    card = load_catalog(home)["own"]
    add_user_card(home, replace(card, bytes=3, sha256="", parameters=32, bits=8.0))
    size = f"{own_file.stat().st_size} B"
    listed = run_sage("models", "list")
    assert f"{size}  damaged" in next(line for line in listed.stdout.splitlines() if line.startswith("own "))
    assert "None is here" not in listed.stderr
    shown = run_sage("models", "show", "own").stdout
    assert f"{size} on the disk, 3 B by its card" in shown
    assert "in the file" not in shown


def test_a_slow_check_is_announced(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = find_card(load_catalog(home), "gemma-3-270m")
    monkeypatch.setattr(models, "NOTE_AFTER_S", 0.01)
    with models._checking(card, EventBus(), here=False):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
    with models._checking(card, EventBus(), here=True):
        time.sleep(0.2)
    assert capsys.readouterr().err == "Checking gemma-3-270m (253 MB) ...\n"


def measure(home: Path, model: str, **rates: float) -> None:
    with open_stores(home, load_settings(), FakeClock()) as stores:
        stores.books.measure(model, rates.items())


def test_what_was_measured_here_replaces_what_was_published(run_sage: Any, home: Path) -> None:
    words = run_sage("models", "show", "smollm2-135m-instruct").stdout
    assert "rates       reads 470 tokens/s (measured), writes 147 tokens/s (measured), " in words
    assert "loads in 0.3 s (measured), takes 236 MB (measured)\n" in words
    assert "rewrite 0.62, any 0.43" in words
    assert not (home / "sage.db").exists()
    measure(home, "smollm2-135m-instruct", generate_tok_s=52.3, load_s=12.4, answer_tokens_fact=3.0)
    words = run_sage("models", "show", "smollm2-135m-instruct").stdout
    assert "reads 470 tokens/s (measured), writes 52 tokens/s (measured here), " in words
    assert "loads in 12 s (measured here), takes 236 MB (measured)\n" in words
    card = json.loads(run_sage("models", "show", "smollm2-135m-instruct", "--json").stdout)
    assert card["measured"] == {"generate_tok_s": 52.3, "load_s": 12.4}
    assert card["state"] == "absent"


def test_the_estimate_is_what_loading_goes_by(run_sage: Any, own_file: Path, home: Path) -> None:
    assert run_sage("models", "pull", f"file:{own_file}").returncode == 0
    before = json.loads(run_sage("models", "estimate", "own", "--json").stdout)
    assert (before["measured"], before["need"]) == (None, before["total"])
    assert before["context"] == 512, "no more than the model can hold"
    measure(home, "own", rss_bytes=60e6)
    after = json.loads(run_sage("models", "estimate", "own", "--json").stdout)
    assert (after["total"], after["measured"], after["need"]) == (before["total"], 60e6, 60e6)
    words = run_sage("models", "estimate", "own").stdout.splitlines()
    assert [line.split("  ")[0] for line in words[4:8]] == ["together", "measured here", "total", "free"]
    assert "60 MB" in words[6]
    tight = run_sage("models", "estimate", "own", env={"SAGE_MODELS__MEMORY_LIMIT_GB": "0.05"}).stdout
    assert "does not fit: 10 MB too much" in tight


def test_a_pull_warns_of_what_will_not_fit(run_sage: Any, own_file: Path) -> None:
    what = ["models", "pull", f"file:{own_file}", "--name"]
    assert "memory" not in run_sage(*what, "own").stderr
    done = run_sage(*what, "tight", env={"SAGE_MODELS__MEMORY_LIMIT_GB": "0.01"})
    assert done.returncode == 0
    assert (
        "tight takes at least 39 MB of memory, and models may take 10 MB: it will not be loaded"
        in done.stderr
    )


def test_a_scripted_model(run_sage: Any, fakes: Any, home: Path) -> None:
    fakes(script={"answer": "Hi.", "resident_mb": 70})
    assert "scripted" in run_sage("models", "list").stdout.splitlines()[-1]
    words = run_sage("models", "show", "script").stdout
    assert "file        scripted, no file\n" in words
    assert "sha256" not in words
    assert json.loads(run_sage("models", "show", "script", "--json").stdout)["path"] is None
    assert "script           70 MB\n" in run_sage("models", "estimate", "script").stdout
    assert json.loads(run_sage("models", "estimate", "script", "--json").stdout)["need"] == 70_000_000
    assert "nothing to pull" in run_sage("models", "pull", "script").stdout
    done = run_sage("models", "rm", "script")
    assert done.stdout == f"script: its card is removed from {home / 'catalog.toml'}\n"
    assert run_sage("models", "show", "script").returncode == 3


def test_a_shipped_card_stays_and_comes_back(run_sage: Any, fakes: Any) -> None:
    done = run_sage("models", "rm", "gemma-3-270m")
    assert done.returncode == 3
    assert "not on this machine" in done.stderr
    fakes(**{"gemma-3-270m": {"answer": "Hi."}})
    assert (
        "the shipped card of that name is in force again" in run_sage("models", "rm", "gemma-3-270m").stdout
    )
    assert run_sage("models", "show", "gemma-3-270m").returncode == 0


def test_lines_wrap_under_themselves_on_a_terminal_only(start_sage: Any, run_sage: Any) -> None:
    sage = start_sage("models", "show", "qwen2.5-coder-0.5b-instruct", tty=True, COLUMNS="80")
    lines = sage.read_rest().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.startswith(" " * 12) for line in lines) > 3
    piped = run_sage("models", "show", "qwen2.5-coder-0.5b-instruct").stdout.splitlines()
    assert any(len(line) > 80 for line in piped)
    for command in (["list"], ["show", "gemma-3-270m"]):
        out = run_sage("models", *command).stdout
        assert out == "".join(f"{line.rstrip()}\n" for line in out.splitlines())


def test_progress_off_a_terminal_is_a_line_each_tenth(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, bus = find_card(load_catalog(home), "gemma-3-270m"), EventBus()
    with models._progress(card, bus):
        for done in range(1001):
            bus.emit(PullProgress(model="m", done=done, total=1000))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[3] == "m: 30 % (300 B of 1 kB)"


@pytest.mark.parametrize("answer", [True, False])
def test_an_opt_in_model_is_asked_about_on_a_terminal(
    answer: bool, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = find_card(load_catalog(home), "qwen2.5-coder-0.5b-instruct")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answer)
    if answer:
        models._consent(card, yes=False)
    else:
        with pytest.raises(Interrupted, match="was not pulled"):
            models._consent(card, yes=False)
    assert "misleading name" in capsys.readouterr().err


def test_yes_is_consent_and_silence_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card(load_catalog(home), "qwen2.5-coder-0.5b-instruct")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    models._consent(card, yes=True)
    with pytest.raises(UsageError):
        models._consent(card, yes=False)


@pytest.mark.real
def test_the_real_models_are_listed_and_fit(run_sage: Any, real_home: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run_sage("models", "list", "--json").stdout)}
    assert rows["gemma-3-270m"]["present"] is True
    assert rows["qwen2.5-coder-0.5b-instruct"]["present"] is False
    memory = json.loads(run_sage("models", "estimate", "gemma-3-270m", "--json").stdout)
    assert 380e6 < memory["total"] < 440e6
