"""Pulling: whole and checked or not at all, however it is interrupted. A small script stands in for pip."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import threading
import time
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from sage.clock import FakeClock
from sage.errors import (
    DownloadFailed,
    NoDiskSpace,
    ResourceError,
    SageError,
    UnsafeFile,
    UsageError,
    WeightsMissing,
)
from sage.events import Event, EventBus, ModelPulled, PullProgress
from sage.zoo import sources, wheels
from sage.zoo.card import EMBEDDING, ModelCard, WheelMember
from sage.zoo.sources import card_from_uri, model_path, present, pull, remove, state
from sage.zoo.staging import SPARE_BYTES, Staging
from sage.zoo.vet import read_gguf

FAKE_PIP = """
import hashlib, os, pathlib, shutil, sys, time
shop, requirements, folder = map(pathlib.Path, sys.argv[1:4])
package, pinned = requirements.read_text().strip().split("==1.0 --hash=sha256:")
with (shop / "calls").open("a") as calls:
    calls.write(package + "\\n")
(shop / "pid").write_text(str(os.getpid()))
if (shop / "words").exists():
    sys.exit((shop / "words").read_text())
print("Collecting", package)
for share in range(0, 101, 25):
    print("Progress", share, "of 100", flush=True)
if (shop / "hang").exists():
    time.sleep(60)
wheel = shop / (package + ".whl")
got = hashlib.sha256(wheel.read_bytes()).hexdigest()
if got != pinned:
    sys.exit("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\\n  Got " + got)
shutil.copy(wheel, folder / (package + "-1.0-py3-none-any.whl"))
"""


class Shop:
    """A package index of one model in three wheels."""

    def __init__(self, folder: Path, content: bytes) -> None:
        folder.mkdir()
        self.folder, self.content = folder, content
        self.events: list[Event] = []
        self.bus = EventBus()
        self.bus.subscribe(self.events.append)
        third = len(content) // 3
        parts = [content[:third], content[third : 2 * third], content[2 * third :]]
        self.members = tuple(self.stock(i, part) for i, part in enumerate(parts, start=1))
        self.card = ModelCard(
            name="tiny",
            source="package",
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            license="MIT",
            context_length=1024,
            members=self.members,
        )

    def stock(self, number: int, part: bytes, member: str = "") -> WheelMember:
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tiny/__init__.py", "raise SystemExit('imported')")
            archive.writestr(member or f"tiny/part{number}", part)
        (self.folder / f"tiny-part{number}.whl").write_bytes(memory.getvalue())
        return WheelMember(
            package=f"tiny-part{number}",
            version="1.0",
            member=f"tiny/part{number}",
            bytes=len(part),
            wheel_sha256=hashlib.sha256(memory.getvalue()).hexdigest(),
        )

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []

    def pull(self, home: Path, **changes: Any) -> Path:
        return pull(replace(self.card, **changes), home, bus=self.bus, clock=FakeClock())

    def progress(self) -> list[int]:
        return [event.done for event in self.events if isinstance(event, PullProgress)]


@pytest.fixture
def shop(tmp_path: Path, gguf: Any, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path / "shop", gguf.bytes())
    script = tmp_path / "fake_pip.py"
    script.write_text(FAKE_PIP)

    def command(requirements: Path, folder: Path) -> list[str]:
        return [sys.executable, "-S", "-E", str(script), str(made.folder), str(requirements), str(folder)]

    monkeypatch.setattr(wheels, "pip_command", command)
    return made


def staged(home: Path) -> list[str]:
    return sorted(p.name for p in (home / "models" / ".staging").iterdir() if p.suffix != ".lock")


def test_three_wheels_become_one_file(shop: Shop, home: Path) -> None:
    path = shop.pull(home)
    assert path.read_bytes() == shop.content
    assert present(shop.card, home)
    assert staged(home) == []
    done = shop.progress()
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, shop.card.bytes)
    assert len(set(done)) > 8  # pip's own lines, between the members
    assert shop.events[-1] == ModelPulled(model="tiny", bytes=shop.card.bytes, seconds=0.0)


def test_an_embedding_model_is_joined_and_hashed_but_is_no_gguf(shop: Shop, home: Path) -> None:
    parts = [b"onnx" * 50, b"{}"]
    members = tuple(shop.stock(number, part) for number, part in enumerate(parts, start=1))
    whole = b"".join(parts)
    changes = {"members": members, "bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    with pytest.raises(UnsafeFile):  # as a model that answers it would be refused
        shop.pull(home, **changes)
    path = shop.pull(home, backend=EMBEDDING, **changes)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1] + b"!")
    assert shop.pull(home, backend=EMBEDDING, **changes).read_bytes() == whole
    assert len(shop.calls()) == 6


def test_what_is_there_is_not_fetched_again(shop: Shop, home: Path) -> None:
    shop.pull(home)
    shop.events.clear()
    assert pull(shop.card, home, bus=shop.bus, offline=True) == model_path(shop.card, home)
    assert len(shop.calls()) == 3
    assert shop.events == []


@pytest.mark.parametrize("how", ["longer", "shorter", "header", "hash"])
def test_a_damaged_file_is_fetched_anew(how: str, shop: Shop, home: Path) -> None:
    path, content = shop.pull(home), shop.content
    damaged = {
        "longer": content + b"x",
        "shorter": content[:-1],
        "header": b"x" * len(content),
        "hash": content[:-1] + b"x",
    }[how]
    path.write_bytes(damaged)
    assert state(shop.card, home) == ("damaged" if how in ("longer", "shorter") else "present")
    with pytest.raises(WeightsMissing, match=r"damaged, and models\.offline"):
        pull(shop.card, home, offline=True)
    (shop.folder / "words").write_text("ERROR: no network today")
    with pytest.raises(DownloadFailed):
        shop.pull(home)
    assert path.read_bytes() == damaged, "the old file stays until the new one is whole"
    (shop.folder / "words").unlink()
    assert shop.pull(home).read_bytes() == content
    assert state(shop.card, home) == "present"


def test_a_vetted_model_says_how_it_is_repaired(shop: Shop, home: Path) -> None:
    assert state(shop.card, home) == "absent"
    with pytest.raises(WeightsMissing) as missing:
        sources.vetted(shop.card, home)
    path = shop.pull(home)
    assert sources.vetted(shop.card, home).architecture == "llama"
    path.write_bytes(b"x" * shop.card.bytes)
    with pytest.raises(UnsafeFile, match=r"^its file is damaged: not a GGUF file") as header:
        sources.vetted(shop.card, home)
    path.write_bytes(b"x")
    with pytest.raises(UnsafeFile, match=r"^its file is not what its card says: it has 1 bytes") as size:
        sources.vetted(shop.card, home)
    for caught in (missing, header, size):
        assert caught.value.mend == "sage models pull tiny"


def test_a_fake_model_is_never_fetched(shop: Shop, home: Path) -> None:
    fake = replace(shop.card, source="fake", backend="fake")
    assert state(fake, home) == "present"
    pull(fake, home)
    assert list(home.iterdir()) == []


def test_offline_says_so_and_touches_nothing(shop: Shop, home: Path) -> None:
    with pytest.raises(WeightsMissing, match="offline") as caught:
        pull(shop.card, home, offline=True)
    assert "SAGE_MODELS__OFFLINE=false" in caught.value.mend
    assert list(home.iterdir()) == []


def test_ctrl_c_ends_pip_and_the_next_pull_goes_on(shop: Shop, home: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, PullProgress) and event.done > shop.members[0].bytes:
            raise KeyboardInterrupt

    unsubscribe = shop.bus.subscribe(stop)
    with pytest.raises(KeyboardInterrupt):
        shop.pull(home)
    pid = int((shop.folder / "pid").read_text())
    assert not psutil.pid_exists(pid)
    assert staged(home) == ["tiny.part"]
    assert not present(shop.card, home)
    unsubscribe()
    shop.events.clear()
    assert shop.pull(home).read_bytes() == shop.content
    assert shop.progress()[0] == shop.members[0].bytes
    assert shop.calls() == ["tiny-part1", "tiny-part2", "tiny-part2", "tiny-part3"]


def test_a_pip_that_hangs_is_ended_by_ctrl_c(shop: Shop, home: Path) -> None:
    (shop.folder / "hang").touch()

    def stop(event: Event) -> None:
        if isinstance(event, PullProgress) and event.done >= shop.members[0].bytes:
            raise KeyboardInterrupt

    shop.bus.subscribe(stop)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        shop.pull(home)
    assert time.monotonic() - started < 5
    assert not psutil.pid_exists(int((shop.folder / "pid").read_text()))


def test_a_half_member_is_cut_off_before_going_on(shop: Shop, home: Path) -> None:
    folder = home / "models" / ".staging"
    folder.mkdir(parents=True)
    (folder / "tiny.part").write_bytes(shop.content[: shop.members[0].bytes] + b"half a member")
    assert shop.pull(home).read_bytes() == shop.content
    assert shop.calls() == ["tiny-part2", "tiny-part3"]


def test_what_was_staged_wrong_is_found_and_thrown_away(shop: Shop, home: Path) -> None:
    folder = home / "models" / ".staging"
    folder.mkdir(parents=True)
    (folder / "tiny.part").write_bytes(b"x" * shop.members[0].bytes)
    with pytest.raises(UnsafeFile, match="does not have the hash"):
        shop.pull(home)
    assert staged(home) == []
    assert shop.pull(home).read_bytes() == shop.content


def test_a_wheel_with_another_hash(shop: Shop, home: Path) -> None:
    shop.stock(2, b"evil")
    with pytest.raises(UnsafeFile, match=r"tiny-part2 1\.0: .* does not have the hash on the card"):
        shop.pull(home)
    assert not present(shop.card, home)


def swapped(shop: Shop, member: WheelMember) -> tuple[WheelMember, ...]:
    return (shop.members[0], member, shop.members[2])


def test_a_member_of_another_size(shop: Shop, home: Path) -> None:
    longer = replace(shop.stock(2, b"x" * 100_000), bytes=shop.members[1].bytes)
    with pytest.raises(UnsafeFile, match="100000 bytes, not the"):
        shop.pull(home, members=swapped(shop, longer))
    assert (home / "models/.staging/tiny.part").stat().st_size == shop.members[0].bytes


def test_a_wheel_without_the_member(shop: Shop, home: Path) -> None:
    other = shop.stock(2, b"x", member="tiny/other")
    with pytest.raises(UnsafeFile, match="not in the wheel"):
        shop.pull(home, members=swapped(shop, other))


def test_a_broken_archive(shop: Shop, home: Path) -> None:
    path = shop.folder / "tiny-part2.whl"
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tiny/part2") + 40
    raw[at : at + 20] = b"\0" * 20
    path.write_bytes(raw)
    broken = replace(shop.members[1], wheel_sha256=hashlib.sha256(raw).hexdigest())
    with pytest.raises(UnsafeFile, match="broken archive"):
        shop.pull(home, members=swapped(shop, broken))
    assert (home / "models/.staging/tiny.part").stat().st_size == shop.members[0].bytes


def test_a_right_hash_of_no_model_is_refused(tmp_path: Path, shop: Shop, home: Path) -> None:
    rubbish = Shop(tmp_path / "rubbish", b"no model at all" * 100)
    for path in rubbish.folder.glob("*.whl"):
        shutil.copy(path, shop.folder)
    with pytest.raises(UnsafeFile, match="not a GGUF file"):
        pull(rubbish.card, home)
    assert staged(home) == []
    assert not model_path(rubbish.card, home).exists()


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ("ERROR: No matching distribution found for tiny-part1==1.0", DownloadFailed, "No matching"),
        (
            "WARNING: Retrying after connection broken by 'X'\nERROR: Could not find a version",
            DownloadFailed,
            "the package index cannot be reached",
        ),
        ("/usr/bin/python: No module named pip", DownloadFailed, "pip is not installed"),
        ("pip: error: no such option: --resume-retries", DownloadFailed, "pip is too old"),
        ("ERROR: first\nERROR: the last word\nsome notice", DownloadFailed, "tiny-part1 1.0: the last word"),
    ],
)
def test_pips_failures(words: str, kind: type[SageError], said: str, shop: Shop, home: Path) -> None:
    (shop.folder / "words").write_text(words)
    with pytest.raises(kind) as caught:
        shop.pull(home)
    assert said in caught.value.message
    assert caught.value.mend
    assert staged(home) == ["tiny.part"]


def test_pip_that_cannot_be_started(shop: Shop, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "pip_command", lambda *_: ["/nowhere/python"])
    with pytest.raises(DownloadFailed, match="cannot be started"):
        shop.pull(home)


def test_the_real_command_never_builds_installs_or_runs_what_lies_around() -> None:
    command = wheels.pip_command(Path("r.txt"), Path("d"))
    assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
    text = " ".join(command)
    for option in ("--no-deps", "--only-binary :all:", "--require-hashes", "--no-cache-dir"):
        assert option in text


def test_no_disk_space_is_said_before_anything_is_fetched(
    shop: Shop, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    need = shop.card.bytes + max(m.bytes for m in shop.members) + SPARE_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, need - 1))
    with pytest.raises(
        NoDiskSpace, match=r"67 MB of disk \(the package is kept while it is unpacked.*67 MB are"
    ):
        shop.pull(home)
    assert shop.calls() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, need))
    assert shop.pull(home).exists()


def test_a_disk_that_fills_up_on_the_way(shop: Shop, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wheels, "append_member", full)
    with pytest.raises(NoDiskSpace, match="filled up"):
        shop.pull(home)


def test_a_folder_that_cannot_be_written(shop: Shop, lockable: Any) -> None:
    with lockable.locked() as folder, pytest.raises(DownloadFailed, match="Permission denied"):
        shop.pull(folder)


def test_two_pulls_at_once_fetch_once(shop: Shop, home: Path) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(shop.pull(home))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [shop.content] * 2
    assert sorted(shop.calls()) == ["tiny-part1", "tiny-part2", "tiny-part3"]


def test_remove_frees_the_file_and_what_is_staged(shop: Shop, home: Path) -> None:
    assert remove(shop.card, home) == 0
    shop.pull(home)
    (home / "models/.staging/tiny.part").write_bytes(b"1234")
    assert remove(shop.card, home) == shop.card.bytes + 4
    assert not present(shop.card, home)
    assert remove(shop.card, home) == 0


def test_what_is_being_pulled_is_not_removed(shop: Shop, home: Path) -> None:
    staging = Staging(shop.card, home)
    with staging.locked(), pytest.raises(ResourceError, match="another process"):
        remove(shop.card, home)


def test_a_file_of_ones_own(gguf: Any, home: Path, shop: Shop) -> None:
    gguf.metadata["tokenizer.chat_template"] = "{{ messages }}"
    path = gguf.write("My Model (Q4).gguf")
    card = card_from_uri(f"file:{path}")
    assert (card.name, card.prompt_style, card.context_length) == ("my-model-q4", "chat", 1024)
    assert (card.license, card.family, card.bytes) == ("mit", "llama", path.stat().st_size)
    copy = pull(card, home, bus=shop.bus, offline=True)
    assert copy.read_bytes() == path.read_bytes()
    assert not os.path.samefile(copy, path)
    assert shop.progress()[-1] == card.bytes


def test_a_base_model_is_asked_by_question_and_answer(gguf: Any) -> None:
    assert card_from_uri(f"file:{gguf.write()}", "base").prompt_style == "qa"


def test_a_file_that_changed_since_it_was_described(gguf: Any, home: Path) -> None:
    path = gguf.write()
    card = card_from_uri(f"file:{path}", "mine")
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UnsafeFile, match="hash"):
        pull(card, home)
    path.write_bytes(raw + b"more")
    with pytest.raises(UnsafeFile, match="bytes, not the"):
        pull(card, home)
    path.unlink()
    with pytest.raises(WeightsMissing, match="no file"):
        pull(card, home)
    assert not present(card, home)


def test_uris_that_name_nothing(tmp_path: Path, gguf: Any) -> None:
    with pytest.raises(UsageError, match="neither"):
        card_from_uri("gopher:x", "x")
    with pytest.raises(UsageError, match="cannot name"):
        card_from_uri(f"file:{gguf.write()}", "a/b")
    with pytest.raises(WeightsMissing):
        card_from_uri(f"file:{tmp_path}/none.gguf")
    with pytest.raises(UsageError, match="does not name a file"):
        card_from_uri("hf:owner", "x")


@pytest.mark.real
def test_the_real_models_are_what_their_cards_say(real_home: Path) -> None:
    from sage.zoo.catalog import default_cards, load_catalog

    for card in default_cards(load_catalog(real_home)):
        path = model_path(card, real_home)
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == card.sha256
        assert sources.describe(card, read_gguf(path)).context_length == card.context_length
        assert sources.describe(card, read_gguf(path)).prompt_style == card.prompt_style
