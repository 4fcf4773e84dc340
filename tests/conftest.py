"""What every test gets: its own SAGE_HOME, no settings from outside, and no colour.

``real_home`` is the folder that holds the two default models, pulled once and kept between runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

REPO = Path(__file__).resolve().parent.parent

TEST_HOME = Path(os.environ.get("SAGE_TEST_HOME") or REPO / ".sage-test").absolute()

# Before any session fixture runs; a developer's own settings must not decide what a test sees.
for _name in [name for name in os.environ if name.upper().startswith("SAGE_")]:
    del os.environ[_name]


# A shell starts background jobs with Ctrl-C ignored, and children inherit that: tests of Ctrl-C need it back.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class RunSage(Protocol):
    def __call__(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 (subprocess.run calls it so)
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh SAGE_HOME, with the real models in it if the test asks for ``real_home``."""
    folder = tmp_path / "home"
    folder.mkdir()
    if "real_home" in request.fixturenames:
        models: Path = request.getfixturevalue("real_home") / "models"
        (folder / "models").symlink_to(models, target_is_directory=True)
    for name in [name for name in os.environ if name.upper().startswith("SAGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SAGE_HOME", str(folder))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The command sets handlers for the process it ends; run inside a test, it must not keep them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def real_home() -> Path:
    """The folder with the two default models, pulled on first use (about 350 MB)."""
    from sage.zoo.catalog import default_cards, load_catalog
    from sage.zoo.sources import present, pull

    TEST_HOME.mkdir(parents=True, exist_ok=True)
    for card in default_cards(load_catalog(TEST_HOME)):
        if not present(card, TEST_HOME):
            pull(card, TEST_HOME)
    return TEST_HOME


@pytest.fixture
def run_sage(home: Path, tmp_path: Path) -> RunSage:
    """Run the command ``sage`` in a process of its own; stdout and stderr come back as text."""

    def run(
        *args: str,
        input: str | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sage", *args],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env={**os.environ, **(env or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    return run


class Lockable:
    """A folder that can be made read-only for a while, for root too."""

    NOBODY = 65534

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.chmod(0o755)

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Nothing in the folder can be written inside. Root may write anywhere, so it becomes nobody."""
        paths = [self.folder, *self.folder.rglob("*")]
        modes = [path.stat().st_mode for path in paths]
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode & 0o555)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(self.NOBODY)
        try:
            yield self.folder
        finally:
            if was_root:
                os.seteuid(0)
            for path, mode in zip(paths, modes, strict=True):
                path.chmod(mode)


@pytest.fixture
def lockable() -> Iterator[Lockable]:
    """Not below pytest's own temporary folder, which only its owner may enter."""
    with tempfile.TemporaryDirectory(prefix="sage-lockable-") as folder:
        yield Lockable(Path(folder))
