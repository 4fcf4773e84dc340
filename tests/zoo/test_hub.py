"""Pulling from the hub, with a stand-in for its client."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from sage.errors import BackendMissing, SageError
from sage.events import EventBus, PullProgress
from sage.zoo import sources
from sage.zoo.sources import card_from_uri, pull
from sage.zoo.vet import read_gguf


class FakeHub:
    """The few names of huggingface_hub that are used, over a local file."""

    def __init__(self, content: bytes, sha256: str) -> None:
        self.content, self.sha256 = content, sha256
        self.fail: Exception | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import types

        names = ["GatedRepo", "LocalEntryNotFound", "RepositoryNotFound", "EntryNotFound"]
        names += ["HFValidation", "HfHubHTTP"]
        errors = types.SimpleNamespace(**{f"{n}Error": type(f"{n}Error", (Exception,), {}) for n in names})
        found = types.SimpleNamespace(size=len(self.content), etag=self.sha256)
        module = types.SimpleNamespace(
            errors=errors,
            hf_hub_url=lambda repo, path: f"{repo}/{path}",
            get_hf_file_metadata=lambda _: found,
            hf_hub_download=self.download,
        )
        self.errors = errors

        class Tqdm:
            def __init__(self, *args: object, disable: bool = False, **kwargs: object) -> None:
                assert disable

        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Tqdm))

    def download(self, repo: str, path: str, *, local_dir: Path, tqdm_class: Any) -> str:
        bar = tqdm_class(total=len(self.content), name="x")
        if self.fail:
            raise self.fail
        local_dir.mkdir()
        target = local_dir / Path(path).name
        for at in range(0, len(self.content), 1000):
            with target.open("ab") as file:
                file.write(self.content[at : at + 1000])
            bar.update(len(self.content[at : at + 1000]))
        return str(target)


def test_a_file_from_the_hub(gguf: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, done = EventBus(), list[int]()
    bus.subscribe(lambda event: done.append(event.done) if isinstance(event, PullProgress) else None)
    content = gguf.bytes()
    hub = FakeHub(content, hashlib.sha256(content).hexdigest())
    hub.install(monkeypatch)
    card = card_from_uri("hf:owner/repo/sub/Tiny-Q4.gguf")
    assert (card.name, card.bytes, card.sha256) == ("tiny-q4", len(content), hub.sha256)
    path = pull(card, home, bus=bus)
    assert path.read_bytes() == content
    assert done[-1] == len(content)
    assert [p.suffix for p in (home / "models" / ".staging").iterdir()] == [".lock"]
    assert sources.describe(card, read_gguf(path)).context_length == 1024


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("GatedRepo", "DownloadFailed", "grants access"),
        ("LocalEntryNotFound", "DownloadFailed", "cannot be reached"),
        ("RepositoryNotFound", "ModelNotFound", "no such file"),
        ("EntryNotFound", "ModelNotFound", "no such file"),
        ("HfHubHTTP", "DownloadFailed", "the hub's own words"),
    ],
)
def test_the_hubs_failures(
    name: str, kind: str, said: str, gguf: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(gguf.bytes(), "")
    hub.install(monkeypatch)
    card = card_from_uri("hf:owner/repo/tiny.gguf")
    hub.fail = getattr(hub.errors, f"{name}Error")("the hub's own words")
    with pytest.raises(SageError, match=said) as caught:
        pull(card, home)
    assert caught.value.name == kind


def test_without_the_hub_client_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BackendMissing) as caught:
        card_from_uri("hf:owner/repo/tiny.gguf")
    assert caught.value.mend == "pip install 'sage-kernel[hub]'"
