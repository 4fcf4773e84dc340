"""Where models already lie on this machine: how other programs lay out what they downloaded.

Owns: the layouts of the Hugging Face cache, of Ollama and of plain folders, and walking them. Must not know:
what is in a model's file, or what becomes of it. Nothing is written, copied or followed round in circles.

    Hugging Face  models--OWNER--REPO/refs/main names a commit; snapshots/COMMIT/ holds links to blobs/
    Ollama        manifests/HOST/NAMESPACE/MODEL/TAG is JSON whose layers name blobs/sha256-HEX
    LM Studio     PUBLISHER/REPO/FILE.gguf, a plain folder
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

__all__ = ["Place", "Spot", "Walk", "known_places", "place_of", "spots"]

Layout = Literal["hugging face", "ollama", "folder"]

MOST_ENTRIES = 200_000
"""Files and folders looked at in one place. A store of models has some thousands."""

MOST_DEPTH = 12
MOST_MANIFEST_BYTES = 1 << 20
LICENCE_BYTES = 4096

PARTS = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
COMMIT = re.compile(r"[0-9a-f]{6,64}")

NO_NAMES = {"model", "final", "final_model", "merged", "weights", "adapter", "latest"}
"""Folders called so are named after the folder around them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A folder to look in; ``store`` is what people call it."""

    store: str
    layout: Layout
    root: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """Something that looks like a model: a GGUF file or a folder. ``problem`` says why it cannot be one.

    ``parts`` are the files of a model that was split, in order; ``license`` is what the store says.
    """

    path: Path
    name: str
    store: str
    license: str = ""
    parts: tuple[Path, ...] = ()
    problem: str = ""


@dataclass(kw_only=True, slots=True)
class Walk:
    """What came up on the way: entries looked at, what could not be read, where looking was cut short."""

    on_progress: Callable[[int, Path], None] = lambda _count, _path: None
    entries: int = 0
    unread: list[tuple[Path, str]] = field(default_factory=list)
    cut_short: list[Path] = field(default_factory=list)

    def names(self, folder: Path) -> list[os.DirEntry[str]]:
        """The entries of a folder by name; none, and a note, where it cannot be read."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(islice(found, MOST_ENTRIES), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            self.unread.append((folder, error.strerror or str(error)))
            return []
        self.entries += len(entries)
        self.on_progress(self.entries, folder)
        return entries


def known_places(env: Mapping[str, str], user_home: Path) -> list[Place]:
    """Where the Hugging Face cache, Ollama and LM Studio keep models here, as far as those folders exist."""
    cache = Path(env.get("XDG_CACHE_HOME") or user_home / ".cache")
    hub = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    hub_root = Path(hub) if hub else Path(env.get("HF_HOME") or cache / "huggingface") / "hub"
    places = [Place(store="Hugging Face", layout="hugging face", root=hub_root)]
    own = env.get("OLLAMA_MODELS")
    ollama = (
        [Path(own)] if own else [user_home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]
    )
    places += [Place(store="Ollama", layout="ollama", root=root) for root in ollama]
    studio = (user_home / ".lmstudio" / "models", user_home / ".cache" / "lm-studio" / "models")
    places += [Place(store="LM Studio", layout="folder", root=root) for root in studio]
    return [
        Place(store=place.store, layout=place.layout, root=place.root.expanduser())
        for place in places
        if _is_folder(place.root.expanduser())
    ]


def place_of(path: Path) -> Place:
    """A path that the user names; the layout is told by what is in it."""
    for root in (path, path / "models"):
        if _is_folder(root / "manifests") and _is_folder(root / "blobs"):
            return Place(store="Ollama", layout="ollama", root=root)
    for root in (path, path / "hub"):
        if any(root.glob("models--*")):
            return Place(store="Hugging Face", layout="hugging face", root=root)
    return Place(store="folder", layout="folder", root=path)


def spots(place: Place, walk: Walk) -> Iterator[Spot]:
    """Everything in ``place`` that looks like a model, broken things included."""
    if place.layout == "ollama":
        yield from _ollama(place, walk)
    elif place.layout == "hugging face":
        yield from _hub_cache(place, walk)
    elif place.root.is_file():
        yield Spot(path=place.root, name=place.root.stem, store=place.store)
    else:
        yield from _folder(place.root, place, walk, name=_name_of(place.root))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _name_of(folder: Path) -> str:
    folder = folder.absolute()
    return folder.parent.name if folder.name.lower() in NO_NAMES else folder.name


def _folder(root: Path, place: Place, walk: Walk, *, name: str) -> Iterator[Spot]:
    """GGUF files and Hugging Face folders below ``root``; links to folders are followed, each folder once."""
    limit = walk.entries + MOST_ENTRIES
    seen, todo = set[tuple[int, int]](), [(root, name, 0)]
    while todo:
        folder, name, depth = todo.pop()
        try:
            found = folder.stat()
        except OSError as error:
            walk.unread.append((folder, error.strerror or str(error)))
            continue
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        if walk.entries >= limit:
            walk.cut_short.append(folder)
            return
        files, folders = dict[str, Path](), list[Path]()
        for entry in walk.names(folder):
            kind = _kind(entry)
            if kind == "folder" and not entry.name.startswith("."):
                folders.append(Path(entry.path))
            elif kind != "folder":
                files[entry.name] = Path(entry.path)
            if kind == "broken" and entry.name.lower().endswith(".gguf"):
                problem = "a link to nothing"
                yield Spot(
                    path=Path(entry.path), name=Path(entry.path).stem, store=place.store, problem=problem
                )
                del files[entry.name]
        yield from _files(folder, files, place, name)
        if depth < MOST_DEPTH:
            todo += [(inner, _name_of(inner), depth + 1) for inner in reversed(folders)]


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "broken"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def _files(folder: Path, files: Mapping[str, Path], place: Place, name: str) -> Iterator[Spot]:
    """What the files of one folder make: a model in the Hugging Face form, and each GGUF file."""
    weights = any(each.endswith((".safetensors", ".bin", ".pt", ".pth")) for each in files)
    if weights and ("config.json" in files or "adapter_config.json" in files):
        yield Spot(path=folder, name=name, store=place.store)
    split = dict[tuple[str, int], dict[int, Path]]()
    for each, path in files.items():
        if not each.lower().endswith(".gguf"):
            continue
        if match := PARTS.fullmatch(each):
            split.setdefault((match[1], int(match[3])), {})[int(match[2])] = path
        else:
            yield Spot(path=path, name=path.stem, store=place.store)
    for (stem, count), parts in split.items():
        paths = tuple(parts[number] for number in sorted(parts))
        missing = count - len(parts)
        problem = f"{missing} of its {count} parts are missing" if missing else ""
        yield Spot(path=paths[0], name=stem, store=place.store, parts=paths, problem=problem)


def _hub_cache(place: Place, walk: Walk) -> Iterator[Spot]:
    for entry in walk.names(place.root):
        if not entry.name.startswith("models--"):
            continue
        repo = Path(entry.path)
        name = entry.name.rpartition("--")[2]
        snapshot = _snapshot(repo, walk)
        if snapshot is None:
            yield Spot(path=repo, name=name, store=place.store, problem="no finished download")
        else:
            yield from _folder(snapshot, place, walk, name=name)


def _snapshot(repo: Path, walk: Walk) -> Path | None:
    """The snapshot that ``main`` names, else the newest."""
    try:
        commit = (repo / "refs" / "main").read_bytes()[:64].decode("ascii", "replace").strip()
    except OSError:
        commit = ""
    if COMMIT.fullmatch(commit) and _is_folder(repo / "snapshots" / commit):
        return repo / "snapshots" / commit
    whole = [entry for entry in walk.names(repo / "snapshots") if _kind(entry) == "folder"]
    newest = max(whole, key=lambda entry: entry.stat().st_mtime, default=None)
    return Path(newest.path) if newest else None


def _ollama(place: Place, walk: Walk) -> Iterator[Spot]:
    manifests = place.root / "manifests"
    todo = [(manifests, 0)]
    while todo:
        folder, depth = todo.pop()
        for entry in walk.names(folder):
            kind, path = _kind(entry), Path(entry.path)
            if kind == "folder" and depth < MOST_DEPTH and not entry.is_symlink():
                todo.append((path, depth + 1))
            elif kind == "file" and not entry.name.startswith("."):
                yield _manifest(path, path.relative_to(manifests).parts, place)


def _manifest(path: Path, words: tuple[str, ...], place: Place) -> Spot:
    """One tag: the blob of its model's layer."""
    model, tag = (words[-2] if len(words) > 1 else "", words[-1])
    owner = words[-3] if len(words) > 2 and words[-3] != "library" else ""
    name = "-".join(word for word in (owner, model, "" if tag == "latest" else tag) if word)

    def spot(at: Path, problem: str = "", licence: str = "") -> Spot:
        return Spot(path=at, name=name, store=place.store, problem=problem, license=licence)

    layers = _layers(path)
    if layers is None:
        return spot(path, "its manifest cannot be read")
    model_blob = _blob(layers, "model", place.root)
    if model_blob is None:
        return spot(path, "its manifest names no GGUF file")
    if not model_blob.is_file():
        return spot(model_blob, "its file is missing")
    if _blob(layers, "adapter", place.root):
        return spot(model_blob, "it is a model with an adapter, and without that it would be another model")
    return spot(model_blob, licence=_licence(_blob(layers, "license", place.root)))


def _layers(path: Path) -> list[Mapping[str, Any]] | None:
    try:
        with path.open("rb") as file:
            tree = json.loads(file.read(MOST_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    layers = tree.get("layers") if isinstance(tree, dict) else None
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else None


def _blob(layers: list[Mapping[str, Any]], kind: str, root: Path) -> Path | None:
    """The file of the first layer of that kind. Its name is a hash, so it cannot lead out of the store."""
    for layer in layers:
        digest = DIGEST.fullmatch(str(layer.get("digest")))
        if layer.get("mediaType") == f"application/vnd.ollama.image.{kind}" and digest:
            return root / "blobs" / f"sha256-{digest[1]}"
    return None


def _licence(path: Path | None) -> str:
    """The first line of a licence's text."""
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            text = file.read(LICENCE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return next((line.strip()[:60] for line in text.splitlines() if line.strip()), "")
