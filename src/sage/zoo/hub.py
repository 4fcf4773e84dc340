"""Files from the Hugging Face hub, through its own client (the extra ``hub``).

Owns: the client's calls and errors. Must not know: staging, cards, or who waits.
Works with any server the client is pointed at (``HF_ENDPOINT``), and with its own token file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage.errors import BackendMissing, DownloadFailed, ModelNotFound, UsageError

__all__ = [
    "HubFile",
    "HubFolder",
    "describe_hub_file",
    "fetch_hub_file",
    "is_folder",
    "list_hub_folder",
    "split_hub_uri",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """What the hub says of a file before it is fetched. ``sha256`` is empty where it gives none."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFolder:
    """All files of a repository, by their paths, as they stand at one commit (``revision``)."""

    repo: str
    revision: str
    files: Mapping[str, HubFile]


def is_folder(uri: str) -> bool:
    """Whether ``uri`` names a whole repository, ``hf:OWNER/REPO`` or ``hf:OWNER/REPO@REVISION``."""
    return uri.startswith("hf:") and uri.partition("@")[0].count("/") == 1


def split_hub_uri(uri: str) -> tuple[str, str]:
    """``hf:OWNER/REPO/PATH`` -> (``OWNER/REPO``, ``PATH``).

    Raises:
        UsageError: a part is missing.
    """
    owner, _, rest = uri.removeprefix("hf:").partition("/")
    repo, _, path = rest.partition("/")
    if not (owner and repo and path):
        raise UsageError(f"{uri!r} does not name a file", mend="hf:OWNER/REPO/FILE.gguf")
    return f"{owner}/{repo}", path


@contextmanager
def _client(uri: str) -> Iterator[Any]:
    """The client library, with its errors turned into ours."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise BackendMissing(
            "Models from the hub need huggingface_hub", mend="pip install 'sage-kernel[hub]'"
        ) from error
    try:
        yield hub
    except errors.GatedRepoError as error:
        raise DownloadFailed(
            f"{uri}: its owner grants access one by one", mend="Ask on its page, then: hf auth login"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        # A subclass of EntryNotFoundError, but it means that the network failed.
        raise DownloadFailed(
            f"{uri}: the hub cannot be reached", mend="Check the connection and pull again."
        ) from error
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError, errors.HFValidationError) as error:
        raise ModelNotFound(f"{uri}: the hub has no such file", mend="Check the name on its page.") from error
    except (errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise DownloadFailed(f"{uri}: {reason}", mend="Check the connection and pull again.") from error
    except Exception as error:
        # The client lets its HTTP library's own exceptions through, and which library that is has changed.
        if not type(error).__module__.startswith(("http", "requests", "hf_xet")):
            raise
        raise DownloadFailed(
            f"{uri}: the hub cannot be reached ({error})", mend="Check the connection and pull again."
        ) from error


def describe_hub_file(uri: str) -> HubFile:
    """Size and hash, by one small request.

    Raises:
        BackendMissing, DownloadFailed, ModelNotFound, UsageError.
    """
    repo, path = split_hub_uri(uri)
    with _client(uri) as hub:
        found = hub.get_hf_file_metadata(hub.hf_hub_url(repo, path))
    etag = found.etag or ""
    # Large files are named by their SHA-256; small ones by a git hash, which is of no use here.
    sha256 = etag if len(etag) == 64 else ""
    if not found.size:
        raise DownloadFailed(f"{uri}: the hub does not say how large it is")
    return HubFile(bytes=found.size, sha256=sha256)


def list_hub_folder(uri: str) -> HubFolder:
    """What a repository holds at the revision that ``uri`` names (the newest where none), by one request.

    Raises:
        BackendMissing, DownloadFailed, ModelNotFound.
    """
    repo, _, revision = uri.removeprefix("hf:").partition("@")
    with _client(uri) as hub:
        found = hub.HfApi().model_info(repo, revision=revision or None, files_metadata=True)
    files = {
        str(one.rfilename): HubFile(bytes=one.size or 0, sha256=str(one.lfs.sha256) if one.lfs else "")
        for one in found.siblings or ()
    }
    return HubFolder(repo=repo, revision=str(found.sha), files=files)


def fetch_hub_file(uri: str, folder: Path, on_bytes: Callable[[int], None], *, revision: str = "") -> Path:
    """Download into ``folder``, going on with what an earlier call left; ``on_bytes`` gets each increment.

    Raises:
        BackendMissing, DownloadFailed, ModelNotFound, UsageError.
    """
    repo, path = split_hub_uri(uri)
    with _client(uri) as hub:
        from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

        class Bar(tqdm):  # type: ignore[misc, unused-ignore]
            """The client's own bar, drawn by nobody: it only passes the increments on."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs.pop("name", None)
                super().__init__(*args, **(kwargs | {"disable": True}))
                on_bytes(int(kwargs.get("initial") or 0))

            def update(self, n: float | None = 1) -> bool | None:
                on_bytes(int(n or 0))
                return None

        pinned = {"revision": revision} if revision else {}
        return Path(hub.hf_hub_download(repo, path, local_dir=folder, tqdm_class=Bar, **pinned))
