"""A repository of the hub as a folder: only what is needed of it, of one commit, checked, then in place.

Owns: which files are fetched and how they become one folder. Must not know: the hub's client, or who asks.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from sage.errors import UnsafeFile
from sage.zoo import hub
from sage.zoo.card import ModelCard
from sage.zoo.folder import vet_folder, wanted, weight_files
from sage.zoo.staging import Staging, need_space, sha256_of, tree_bytes

__all__ = ["fetch_folder", "folder_card", "folder_sha256"]

MEND = "Pull it again, from a source you trust."


def folder_sha256(path: Path) -> str:
    """One hash for all files of weights: of the lines ``HASH  NAME`` in the order of the names."""
    return _joint({file.name: sha256_of(file) for file in weight_files(path)})


def _joint(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def _shards(files: Mapping[str, hub.HubFile]) -> dict[str, hub.HubFile]:
    """Those that will count as its weights: as ``weight_files`` finds them on disk."""
    for name in ("adapter_model.safetensors", "model.safetensors"):
        if name in files:
            return {name: files[name]}
    return {n: f for n, f in files.items() if n.startswith("model-") and n.endswith(".safetensors")}


def folder_card(uri: str, name: str) -> ModelCard:
    """The card of a repository, pinned to the weights it holds now; the rest is told by the folder itself.

    Raises:
        UnsafeFile: it has no safetensors. BackendMissing, DownloadFailed, ModelNotFound: from the hub.
    """
    shards = _shards(hub.list_hub_folder(uri).files)
    if not shards:
        raise UnsafeFile(
            f"{uri} has no safetensors", mend="Get a GGUF file of this model: hf:OWNER/REPO/FILE"
        )
    hashed = all(file.sha256 for file in shards.values())
    return ModelCard(
        name=name,
        source=uri,
        sha256=_joint({n: f.sha256 for n, f in shards.items()}) if hashed else "",
        bytes=sum(file.bytes for file in shards.values()),
        license="not stated",
        context_length=2048,
        backend="transformers",
    )


def fetch_folder(card: ModelCard, staging: Staging, final: Path, progress: Callable[[int], None]) -> None:
    """Fetch, check every file, and put the folder in place of what was there. ``progress`` gets the sum.

    Raises:
        NoDiskSpace: before anything is fetched. DownloadFailed, ModelNotFound, BackendMissing: from the hub.
        UnsafeFile: what arrived is not what the hub or the card stated, or not safe to load.
    """
    there = hub.list_hub_folder(card.source)
    files = {name: file for name, file in there.files.items() if wanted(name)}
    total = sum(file.bytes for file in files.values())
    need_space(card, staging, max(0, total - tree_bytes(staging.hub)))
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done)

    for name in sorted(files):
        hub.fetch_hub_file(f"hf:{there.repo}/{name}", staging.hub, more, revision=there.revision)
    try:
        for path in staging.hub.iterdir():
            if path.name in files:
                _check_file(path, files[path.name])
            elif path.is_dir() and not path.is_symlink():  # the client's own notes
                shutil.rmtree(path)
            else:
                path.unlink()
        vet_folder(staging.hub)
        if card.bytes and sum(file.stat().st_size for file in weight_files(staging.hub)) != card.bytes:
            raise UnsafeFile(
                f"{card.name}: its weights do not have the {card.bytes} bytes on the card", mend=MEND
            )
        if card.sha256 and folder_sha256(staging.hub) != card.sha256:
            raise UnsafeFile(f"{card.name}: its weights do not have the hash on the card", mend=MEND)
    except UnsafeFile:
        staging.clear()
        raise
    _put_in_place(staging, final)


def _check_file(path: Path, stated: hub.HubFile) -> None:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != stated.bytes:
        raise UnsafeFile(f"{path.name} does not have the {stated.bytes} bytes that the hub states", mend=MEND)
    if stated.sha256 and sha256_of(path) != stated.sha256:
        raise UnsafeFile(f"{path.name} does not have the hash that the hub states", mend=MEND)


def _put_in_place(staging: Staging, final: Path) -> None:
    """Rename, once every byte is on the disk; a folder cannot replace another, so that one steps aside."""
    for path in (*staging.hub.iterdir(), staging.hub):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    aside = staging.wheel  # free: a folder comes from no wheel
    shutil.rmtree(aside, ignore_errors=True)
    if final.exists():
        os.rename(final, aside)
    os.rename(staging.hub, final)
    staging.clear()
