"""Rules about the code itself: size, public names, purity of start-up, nothing dangerous."""

from __future__ import annotations

import ast
import importlib
import statistics
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SOURCES = sorted((REPO / "src" / "sage").rglob("*.py"))
MODULES = [path for path in SOURCES if path.name not in ("__init__.py", "__main__.py")]
LONGEST, MEDIAN = 500, 150


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(REPO / "src").with_suffix("").parts)


def test_files_stay_short() -> None:
    every = [*SOURCES, *(REPO / "tests").rglob("*.py")]
    assert {str(p.relative_to(REPO)): lines(p) for p in every if lines(p) > LONGEST} == {}
    assert statistics.median(lines(path) for path in MODULES) <= MEDIAN


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_names(path: Path) -> None:
    """``__all__`` is sorted, complete, and everything in it has a docstring or is a plain value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = importlib.import_module(name_of(path))
    assert ast.get_docstring(tree), "a module says what it owns"
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    missing = {node.name for node in public} - set(module.__all__)
    # Commands are reached through their app, and a module's main through ``python -m``.
    commands = {node.name for node in public if node.decorator_list or node.name == "main"}
    assert missing <= commands
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert list(module.__all__) == sorted(module.__all__, key=_as_ruff_sorts)
    for node in public:
        if node.name in module.__all__:
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_nothing_dangerous_is_called() -> None:
    """No pickle, eval or exec anywhere, and no shell."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads"), path
                assert not any(k.arg == "shell" for k in node.keywords), path
                assert not any(k.arg == "trust_remote_code" for k in node.keywords), path


def test_the_tree_speaks_of_the_project_alone() -> None:
    """No path of a developer's machine in any tracked file."""
    listing = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    tracked = listing.stdout.split()
    for name in tracked:
        path = REPO / name
        if path.suffix in (".py", ".md", ".toml", ".txt", ".yaml", ".json") and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert str(REPO.parent) + "/" not in text, name


def test_example_settings_are_complete() -> None:
    from sage.config import example_toml

    assert (REPO / "sage.example.toml").read_text(encoding="utf-8") == example_toml()


def test_every_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    names = {want.split(">")[0].split("=")[0].lower().replace("_", "-") for want in wanted}
    names -= {name for name in names if name.split("[")[0] == project["name"]}  # its own extras
    assert names <= pinned
