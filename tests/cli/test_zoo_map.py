"""``sage models discover`` and ``sage models inventory`` as a user meets them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sage.clock import FakeClock
from sage.config import load_settings
from sage.errors import NoDiskSpace
from sage.kernel.session import open_stores
from sage.zoo.catalog import add_user_card, load_catalog

MATRIX = {
    "machine": "a test machine",
    "date": "2026-01-02",
    "platform": "linux riscv64",
    "models": [
        {
            "name": name,
            "bytes": 1,
            "load_s": 0.5,
            "prompt_tok_s": 9,
            "generate_tok_s": speed,
            "rss_bytes": rss,
        }
        for name, speed, rss in (("smollm2-135m-instruct", 140, 200e6), ("gemma-3-270m", 80, 400e6))
    ],
    "questions": [{"id": f"q{i}", "text": "?", "category": "facts|x"} for i in range(40)],
    "scores": [[0, 1]] * 40,
    "tokens": [[3, 3]] * 40,
    "cpu_s": [[0.1, 0.2]] * 40,
}


@pytest.fixture
def own(tmp_path: Path, tiny_gguf: Any) -> Path:
    folder = tmp_path / "my models"
    folder.mkdir()
    return Path(tiny_gguf(folder / "Own.gguf"))


@pytest.fixture
def bench(tmp_path: Path) -> str:
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps(MATRIX))
    return str(path)


def test_from_found_to_used(run_sage: Any, own: Path, home: Path) -> None:
    done = run_sage("models", "discover", str(own.parent))
    assert done.returncode == 0, done.stderr
    assert "own" in done.stdout.splitlines()[1]
    assert f"To use what is new: sage models discover --add '{own.parent}'" in done.stdout
    assert not (home / "catalog.toml").exists()

    done = run_sage("models", "discover", "--add", str(own.parent))
    assert f"Added to {home / 'catalog.toml'}: own" in done.stdout
    assert "Next: sage ask --model own QUESTION" in done.stdout
    assert load_catalog(home)["own"].source == f"path:{own}"
    assert "known as own" in run_sage("models", "discover", str(own.parent)).stdout
    assert "own" in run_sage("models", "list").stdout

    again = run_sage("models", "discover", "--add", str(own))
    assert "Added" not in again.stdout
    done = run_sage("models", "rm", "own")
    assert done.returncode == 0
    assert own.exists(), "what lies elsewhere is forgotten, never deleted"


def test_discover_as_json(run_sage: Any, own: Path) -> None:
    (own.parent / "bad.gguf").write_bytes(b"no")
    done = run_sage("models", "discover", "--json", str(own.parent))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["looked_in"] == [{"store": "folder", "path": str(own.parent)}]
    rows = {row["name"]: row for row in found["models"]}
    assert "not a GGUF file" in rows["bad"]["problem"]
    assert (rows["own"]["parameters"], rows["own"]["added"], rows["own"]["problem"]) == (32, False, None)
    assert (found["unread"], found["cut_short"]) == ([], [])


def test_a_copy_under_another_name_is_the_same_model(run_sage: Any, own: Path, home: Path) -> None:
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    card = load_catalog(home)["qwen3-4b-q4_k_m"]
    add_user_card(home, replace(card, bytes=own.stat().st_size, sha256=digest, parameters=32, bits=32.0))
    own.with_name("a copy v2.gguf").write_bytes(own.read_bytes())
    named = own.rename(own.with_name("Qwen3-4B-Q4_K_M.gguf"))
    (row,) = json.loads(run_sage("models", "discover", "--json", str(own.parent)).stdout)["models"]
    assert (row["path"], row["also"]) == (str(named), [str(own.with_name("a copy v2.gguf"))])
    assert row["bits_claimed"] == 32.0
    assert row["bits_stored"] == round(named.stat().st_size * 8 / 32, 1)
    shown = run_sage("models", "discover", str(own.parent)).stdout.splitlines()
    assert shown[0].split() == ["model", "size", "weights", "claimed", "stored", "in", "file", "state"]
    assert "Qwen3-4B-Q4_K_M.gguf  known as qwen3-4b-q4_k_m, not here until it is added" in shown[1]
    added = run_sage("models", "discover", "--add", str(own.parent)).stdout.splitlines()
    assert added[1].endswith("Qwen3-4B-Q4_K_M.gguf  added")
    assert load_catalog(home)[card.name].source == f"path:{named}"
    (row,) = json.loads(run_sage("models", "discover", "--json", str(own.parent)).stdout)["models"]
    assert (row["path"], row["new"]) == (str(named), False), "what is in use comes first"


def test_a_catalog_that_cannot_be_written_says_that(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoDiskSpace, match=r"catalog.toml cannot be written: No space left"):
        add_user_card(home, load_catalog(home)["gemma-3-270m"])
    assert not list(home.glob(".catalog-*"))


def test_without_a_path_the_stores_of_others_are_looked_at(run_sage: Any, own: Path, tmp_path: Path) -> None:
    studio = tmp_path / ".lmstudio" / "models" / "me" / "it"
    studio.mkdir(parents=True)
    os.link(own, studio / "own.gguf")
    env = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "no"), "OLLAMA_MODELS": str(tmp_path / "no")}
    assert "LM Studio" in run_sage("models", "discover", env=env).stdout
    nothing = env | {"HOME": str(own.parent)}
    done = run_sage("models", "discover", env=nothing)
    assert (done.returncode, "sage models discover PATH" in done.stdout) == (0, True)


def test_a_find_can_be_named(run_sage: Any, own: Path, tiny_gguf: Any, home: Path) -> None:
    done = run_sage("models", "discover", "--add", str(own), "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert load_catalog(home)["mine"].source == f"path:{own}"
    tiny_gguf(own.with_name("other.gguf"), layers=3)
    for name, said in (("gemma-3-270m", "already the name"), ("../x", "cannot name a model")):
        done = run_sage("models", "discover", "--add", str(own.parent), "--name", name)
        assert done.returncode == 2
        assert said in done.stderr


def test_a_find_becomes_the_unpublished_model_it_is(run_sage: Any, tmp_path: Path, home: Path) -> None:
    add_user_card(home, replace(load_catalog(home)["epistemic-pragmatism"], parameters=2))
    folder = tmp_path / "somewhere"
    folder.mkdir()
    head = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    (folder / "config.json").write_text('{"model_type": "qwen2", "max_position_embeddings": 64}')
    (folder / "tokenizer.json").write_text("{}")
    done = run_sage("models", "discover", "--add", str(folder), "--name", "epistemic-pragmatism")
    assert done.returncode == 0, done.stderr
    card = load_catalog(home)["epistemic-pragmatism"]
    assert (card.source, card.bits) == (f"path:{folder}", 32.0)
    done = run_sage("models", "discover", "--add", str(folder), "--name", "other")
    assert done.returncode == 2
    assert f"{folder} is already known as epistemic-pragmatism" in done.stderr


def test_a_find_that_is_another_model_is_refused_the_name(run_sage: Any, own: Path, home: Path) -> None:
    done = run_sage("models", "discover", "--add", str(own), "--name", "qwen3-4b-q4_k_m")
    assert done.returncode == 5
    assert "is not qwen3-4b-q4_k_m: it has 32 weights, not about 4,000,000,000" in done.stderr
    assert not (home / "catalog.toml").exists()


def test_one_name_for_none_or_several(run_sage: Any, own: Path, tiny_gguf: Any, tmp_path: Path) -> None:
    tiny_gguf(own.with_name("other.gguf"), layers=3).write_bytes(own.read_bytes() + bytes(32))
    (tmp_path / "none").mkdir()
    (tmp_path / "bad.gguf").write_bytes(b"no")
    for path, said in (
        (own.parent, "there are 2: other, own"),
        (tmp_path / "none", "no model to be named"),
        (tmp_path / "bad.gguf", "not a GGUF file"),
    ):
        done = run_sage("models", "discover", str(path), "--name", "mine")
        assert done.returncode == 2
        assert said in done.stderr.replace("own, other", "other, own")


def test_a_file_of_the_catalogue_that_another_program_has(run_sage: Any, own: Path, home: Path) -> None:
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    card = load_catalog(home)["qwen3-4b-q4_k_m"]
    add_user_card(home, replace(card, bytes=own.stat().st_size, sha256=digest, prior={"*": 0.7}))
    done = run_sage("models", "discover", str(own.parent))
    assert "known as qwen3-4b-q4_k_m" in done.stdout
    assert "To use what is new" in done.stdout
    done = run_sage("models", "discover", "--add", str(own.parent))
    assert "Next: sage ask --model qwen3-4b-q4_k_m" in done.stdout
    added = load_catalog(home)[card.name]
    assert (added.source, added.prior) == (f"path:{own}", {"*": 0.7})


def test_what_stands_on_the_disk_cannot_steer_the_terminal(run_sage: Any, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "x\x1b[31m[red].gguf").write_bytes(b"no")
    out = run_sage("models", "discover", str(tmp_path / "m")).stdout
    assert "\x1b" not in out


def test_nothing_at_a_path(run_sage: Any, tmp_path: Path) -> None:
    done = run_sage("models", "discover", str(tmp_path / "nowhere"))
    assert done.returncode == 3
    (tmp_path / "empty").mkdir()
    done = run_sage("models", "discover", str(tmp_path / "empty"))
    assert (done.returncode, "No models in" in done.stdout) == (0, True)


def test_the_inventory_as_json(run_sage: Any, bench: str) -> None:
    taken = json.loads(run_sage("models", "inventory", "--json", "--bench", bench).stdout)
    entries = {entry["name"]: entry for entry in taken["entries"]}
    assert entries["gemma-3-270m"]["ran_on"] == ["linux riscv64"]
    assert entries["phi-2"]["ran_on"] == []
    assert entries["qwen3-omni-30b-fp4"]["bits_kept"] is False
    assert "ARM64" in entries["nemotron-h-4b-instruct-128k"]["notice"]
    (task,) = taken["by_task"]
    assert (task["where"], task["best"], task["quality"], task["n"]) == ("facts|x", "gemma-3-270m", 1.0, 40)
    assert [choice["where"] for choice in taken["by_memory"]] == ["200000000", "400000000"]
    assert [choice["where"] for choice in taken["by_speed"]] == ["140", "80"]


def test_the_inventory_as_markdown_lines_up(run_sage: Any, bench: str) -> None:
    out = run_sage("models", "inventory", "--markdown", "--bench", bench).stdout
    assert out.startswith("# The models\n\n## Models\n")
    assert "facts\\|x" in out
    blocks = [block.splitlines() for block in out.split("\n\n") if block.startswith("| ")]
    assert len(blocks) == 5
    for block in blocks:
        assert len({len(line) for line in block}) == 1
        assert set(block[1]) <= set("|-:")
    assert "a test machine" in out
    assert (
        "\n- ! nemotron-h-4b-instruct-128k: As published it needs mamba-ssm, which has no build for ARM64"
        in out
    )


def test_where_nobody_was_right_nobody_is_best(run_sage: Any, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(json.dumps(MATRIX | {"scores": [[0, 0]] * 40}))
    out = run_sage("models", "inventory", "--bench", str(tmp_path / "none.json")).stdout
    (line,) = [line for line in out.splitlines() if line.startswith("facts|x")]
    assert line.split() == ["facts|x", "nobody", "0", "nobody", "0", "40"]


def test_the_inventory_for_people(run_sage: Any, bench: str) -> None:
    out = run_sage("models", "inventory", "--bench", bench).stdout
    lines = out.splitlines()
    assert [line for line in lines if line in ("Models", "Speed", "By task", "By memory", "By speed")]
    (line,) = [line for line in lines if line.startswith("qwen3-omni-30b-fp4")]
    assert line.split() == [
        "qwen3-omni-30b-fp4",
        "~66.0",
        "GB",
        "4",
        "17.6+",
        "unfit",
    ]
    (line,) = [line for line in lines if line.startswith("nemotron-h-4b-instruct-128k ") and " GB " in line]
    assert line.split()[-1] == "!"
    (line,) = [line for line in lines if line.startswith("! nemotron-h-4b-instruct-128k: ")]
    assert "mamba-ssm" in line
    assert "Nothing yet: no outcome of yours" in out


def test_in_80_columns_no_name_of_the_inventory_is_cut(run_sage: Any, bench: str, home: Path) -> None:
    out = run_sage("models", "inventory", "--bench", bench, env={"COLUMNS": "80"}).stdout
    for name in load_catalog(home):
        assert [line for line in out.splitlines() if line.startswith(f"{name} ")], name
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    notes = ("~", "!", "Tokens", "The best")
    assert max(len(line) for line in out.splitlines() if not line.startswith(notes)) <= 80


def test_what_this_machine_measured_and_learned_comes_first(
    run_sage: Any, fakes: Any, home: Path, bench: str
) -> None:
    fakes(good={"answer": "Rome."})
    with open_stores(home, load_settings(), FakeClock()) as stores:
        stores.books.measure("good", [("generate_tok_s", 33.0)])
    turn = json.loads(run_sage("ask", "What is the capital of Italy?", "--json").stdout)
    assert run_sage("trust", "rate", turn["turn_id"], "1").returncode == 0
    taken = json.loads(run_sage("models", "inventory", "--json", "--bench", bench).stdout)
    (entry,) = [entry for entry in taken["entries"] if entry["name"] == "good"]
    assert entry["speed"][0]["who"] == "measured here"
    assert entry["ran_on"] == [f"{platform.system().lower()} {platform.machine()}"]
    (learned,) = [one for one in taken["learned"] if one["model"] == "good"]
    assert (learned["kind"], round(learned["n"])) == ("fact", 1)
    assert {choice["source"] for choice in taken["by_task"]} == {"zoo.json"}, "nobody else was asked it"
    shown = run_sage("models", "inventory", "--bench", bench).stdout
    assert "see sage trust show" in shown.partition("Learned here")[2]


def test_a_bench_file_that_is_none(run_sage: Any, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    done = run_sage("models", "inventory", "--bench", str(tmp_path / "x.json"))
    assert done.returncode == 2
    assert "sage bench zoo --json FILE" in done.stderr
    assert run_sage("models", "inventory", "--bench", str(tmp_path / "no.json")).returncode == 3
