"""Models used where they lie and repositories pulled as folders: present, checked, vanished, forgotten."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import types
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sage.clock import FakeClock
from sage.errors import DownloadFailed, NoDiskSpace, UnsafeFile, WeightsMissing
from sage.events import Event, EventBus, ModelPulled, PullProgress
from sage.kernel.session import memory_parts
from sage.zoo.card import ModelCard
from sage.zoo.folder import Folder
from sage.zoo.sources import (
    card_from_uri,
    check_size,
    describe,
    model_path,
    pull,
    remove,
    stamp,
    state,
    vetted,
)

from .test_folder import CONFIG, put, safetensors

REVISION = "1234567890abcdef1234567890abcdef12345678"


def write_model(path: Path) -> Path:
    path.mkdir()
    put(path, "config.json", CONFIG)
    put(path, "tokenizer.json", {"model": {}})
    (path / "model.safetensors").write_bytes(safetensors(a=10, b=20))
    return path


@pytest.fixture
def mine(tmp_path: Path) -> ModelCard:
    """The card of a folder of the user's own."""
    path = write_model(tmp_path / "mine")
    return ModelCard(
        name="mine",
        source=f"path:{path}",
        sha256="",
        bytes=(path / "model.safetensors").stat().st_size,
        license="MIT",
        context_length=1024,
        backend="transformers",
    )


def test_a_folder_is_used_where_it_lies_and_only_forgotten(mine: ModelCard, home: Path) -> None:
    path = Path(mine.source.removeprefix("path:"))
    assert (model_path(mine, home), state(mine, home)) == (path, "present")
    assert isinstance(vetted(mine, home), Folder)
    assert pull(mine, home, offline=True) == path
    assert remove(mine, home) == 0
    assert (path / "model.safetensors").exists()
    assert not (home / "models").exists()


def test_a_file_is_used_where_it_lies(gguf: Any, home: Path) -> None:
    path = gguf.write("own.gguf")
    card = ModelCard(
        name="own",
        source=f"path:{path}",
        sha256="0" * 64,
        bytes=path.stat().st_size,
        license="MIT",
        context_length=1024,
    )
    assert state(card, home) == "present"
    assert pull(card, home) == path
    assert memory_parts(home, card, 512).total > card.bytes
    path.write_bytes(path.read_bytes() + b"more")
    assert state(card, home) == "damaged"
    with pytest.raises(UnsafeFile, match="its file is not what its card says") as caught:
        memory_parts(home, card, 512)
    assert caught.value.mend == f"sage models discover --add {path}"
    assert remove(card, home) == 0
    assert path.exists()


def test_a_folder_that_changed_or_vanished(mine: ModelCard, home: Path) -> None:
    path = model_path(mine, home)
    before = stamp(mine, home)
    assert memory_parts(home, mine, 512).weights > 0
    (path / "model.safetensors").write_bytes(safetensors(a=10))
    assert stamp(mine, home) != before
    assert state(mine, home) == "damaged"
    with pytest.raises(UnsafeFile, match="its folder is not what its card says"):
        memory_parts(home, mine, 512)
    (path / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing):
        check_size(mine, home)
    shutil.rmtree(path)
    assert (state(mine, home), stamp(mine, home)) == ("absent", ())
    with pytest.raises(WeightsMissing) as caught:
        memory_parts(home, mine, 512)
    assert caught.value.mend == f"sage models discover --add {path}"


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "model.safetensors",
    ],
)
def test_every_file_that_is_loaded_is_stamped(mine: ModelCard, home: Path, name: str) -> None:
    file = model_path(mine, home) / name
    file.parent.mkdir(exist_ok=True)
    content = file.read_bytes() if file.exists() else b"one"
    file.write_bytes(content)
    before, was = stamp(mine, home), file.stat()
    file.write_bytes(content[:-1] + b"!")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))  # the same size and time: the inode tells
    assert stamp(mine, home) != before
    before = stamp(mine, home)
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    os.replace(other, file)
    assert stamp(mine, home) != before


def test_a_configuration_that_turned_hostile_is_seen_at_the_next_look(mine: ModelCard, home: Path) -> None:
    memory_parts(home, mine, 512)
    put(model_path(mine, home), "config.json", CONFIG | {"auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(UnsafeFile, match="its folder is damaged"):
        memory_parts(home, mine, 512)


def test_a_card_that_lies_about_its_size(mine: ModelCard, home: Path) -> None:
    for lie in (1, mine.bytes - 1, 1 << 50):
        with pytest.raises(UnsafeFile, match="not what its card says"):
            memory_parts(home, replace(mine, bytes=lie), 512)


def test_an_adapter_needs_its_base(mine: ModelCard, home: Path) -> None:
    with pytest.raises(WeightsMissing, match="its base nothing has no card"):
        memory_parts(home, replace(mine, base="nothing"), 512)


class FakeRepo:
    """A repository on the hub, behind the few names of its client that are used."""

    def __init__(self, folder: Path) -> None:
        self.files = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
        self.files |= {"modeling_evil.py": b"raise SystemExit", "pytorch_model.bin": b"x" * 999}
        self.asked: list[tuple[str, str | None]] = []
        self.fails_at = ""
        self.altered = ""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ["GatedRepo", "LocalEntryNotFound", "RepositoryNotFound", "EntryNotFound"]
        names += ["HFValidation", "HfHubHTTP"]
        kinds = {f"{n}Error": type(f"{n}Error", (Exception,), {}) for n in names}
        self.errors = types.SimpleNamespace(**kinds)
        client = types.SimpleNamespace(
            errors=self.errors, HfApi=lambda: self, hf_hub_download=self.hf_hub_download
        )
        monkeypatch.setitem(sys.modules, "huggingface_hub", client)

        class Bar:
            def __init__(self, *args: object, **kwargs: object) -> None:
                pass

        monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))

    def model_info(self, repo: str, *, revision: str | None, files_metadata: bool) -> Any:
        assert files_metadata
        self.asked.append((repo, revision))
        siblings = [
            types.SimpleNamespace(
                rfilename=name,
                size=len(content),
                lfs=types.SimpleNamespace(sha256=hashlib.sha256(content).hexdigest())
                if name.endswith(("safetensors", "bin"))
                else None,
            )
            for name, content in self.files.items()
        ]
        return types.SimpleNamespace(sha=REVISION, siblings=siblings)

    def hf_hub_download(
        self, repo: str, path: str, *, local_dir: Path, tqdm_class: Any, revision: str
    ) -> str:
        assert revision == REVISION  # every file of one commit, whatever the branch becomes meanwhile
        if path == self.fails_at:
            raise self.errors.HfHubHTTPError("cut")
        (local_dir / ".cache").mkdir(parents=True, exist_ok=True)
        content = self.files[path]
        if path == self.altered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        (local_dir / path).write_bytes(content)
        tqdm_class(total=len(content)).update(len(content))
        return str(local_dir / path)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRepo:
    made = FakeRepo(write_model(tmp_path / "served"))
    made.install(monkeypatch)
    return made


def test_a_repository_becomes_a_folder(repo: FakeRepo, home: Path) -> None:
    events: list[Event] = []
    bus = EventBus()
    bus.subscribe(events.append)
    card = card_from_uri("hf:owner/Tiny-Model@main")
    assert (card.name, card.backend, card.bytes) == (
        "tiny-model",
        "transformers",
        len(repo.files["model.safetensors"]),
    )
    path = pull(card, home, bus=bus, clock=FakeClock())
    assert path == home / "models" / "tiny-model"
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert repo.asked == [("owner/Tiny-Model", "main")] * 2
    assert state(card, home) == "present"
    assert describe(card, vetted(card, home)).context_length == 1024
    assert [e for e in events if isinstance(e, PullProgress)]
    assert isinstance(events[-1], ModelPulled)
    repo.asked.clear()
    assert pull(card, home, offline=True) == path  # sound: nothing is asked
    assert repo.asked == []
    assert remove(card, home) > card.bytes
    assert state(card, home) == "absent"


def test_a_damaged_folder_is_replaced_whole(repo: FakeRepo, home: Path) -> None:
    card = card_from_uri("hf:owner/tiny")
    path = pull(card, home)
    raw = bytearray((path / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (path / "model.safetensors").write_bytes(raw)
    (path / "left-over").write_text("x")
    pull(card, home)
    assert (path / "model.safetensors").read_bytes() == repo.files["model.safetensors"]
    assert not (path / "left-over").exists()


def test_a_card_without_size_takes_what_is_served(repo: FakeRepo, home: Path) -> None:
    card = replace(card_from_uri("hf:owner/tiny"), bytes=0, sha256="")
    pull(card, home)
    assert state(card, home) == "present"
    check_size(card, home)


@pytest.mark.parametrize("name", ["model.safetensors"])
def test_what_was_altered_on_the_way_is_refused(repo: FakeRepo, home: Path, name: str) -> None:
    card = card_from_uri("hf:owner/tiny")
    repo.altered = name
    with pytest.raises(UnsafeFile, match="hash that the hub states"):
        pull(card, home)
    assert state(card, home) == "absent"
    assert not (home / "models/.staging/tiny.hub").exists()


def test_weights_that_were_exchanged_on_the_hub_are_refused(repo: FakeRepo, home: Path) -> None:
    card = card_from_uri("hf:owner/tiny")
    repo.files["model.safetensors"] = safetensors(a=20, b=10)
    with pytest.raises(UnsafeFile, match="on the card"):
        pull(card, home)
    repo.files["config.json"] = b'{"model_type": "llama", "auto_map": {}}'
    with pytest.raises(UnsafeFile, match="auto_map"):
        pull(replace(card, bytes=0, sha256=""), home)
    assert state(card, home) == "absent"


def test_a_cut_download_is_kept_and_shown_to_nobody(repo: FakeRepo, home: Path) -> None:
    card = card_from_uri("hf:owner/tiny")
    repo.fails_at = "tokenizer.json"
    with pytest.raises(DownloadFailed, match="cut"):
        pull(card, home)
    assert state(card, home) == "absent"
    assert (home / "models/.staging/tiny.hub/model.safetensors").exists()
    repo.fails_at = ""
    assert pull(card, home).is_dir()


def test_a_full_disk_is_told_before_anything_is_fetched(
    repo: FakeRepo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_from_uri("hf:owner/tiny")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 0))
    with pytest.raises(NoDiskSpace):
        pull(card, home)
    assert not (home / "models/.staging/tiny.hub").exists()


def test_a_repository_without_safetensors(repo: FakeRepo) -> None:
    del repo.files["model.safetensors"]
    with pytest.raises(UnsafeFile, match="no safetensors"):
        card_from_uri("hf:owner/tiny")
