"""The tree drawn in ``sage.errors`` is the tree there is."""

from __future__ import annotations

import inspect
import re

import pytest

import sage.errors
from sage.errors import SageError, did_you_mean

LINE = re.compile(r"^(?P<indent>[│ ]*)[├└]── (?P<name>\w+) +(?P<exit>\d+)  (?P<status>\d+)")


def drawn() -> dict[str, tuple[str, int, int]]:
    """Name -> (parent, exit code, HTTP status), as the docstring draws it."""
    tree: dict[str, tuple[str, int, int]] = {}
    above: list[str] = ["SageError"]
    for line in (sage.errors.__doc__ or "").splitlines():
        if found := LINE.match(line):
            depth = (len(found["indent"]) - 4) // 4  # the whole drawing is indented by four
            del above[depth + 1 :]
            tree[found["name"]] = (above[-1], int(found["exit"]), int(found["status"]))
            above.append(found["name"])
    return tree


def defined() -> dict[str, type[SageError]]:
    return {
        name: item
        for name, item in inspect.getmembers(sage.errors, inspect.isclass)
        if issubclass(item, SageError) and item is not SageError
    }


def test_every_class_is_drawn_as_it_is() -> None:
    classes = defined()
    assert len(classes) > 15
    assert drawn() == {
        name: (item.__base__.__name__, item.exit_code, item.http_status) for name, item in classes.items()
    }


def test_every_class_is_public() -> None:
    assert {*defined(), "SageError", "Terminated", "did_you_mean"} == set(sage.errors.__all__)


@pytest.mark.parametrize("kind", defined().values(), ids=lambda kind: kind.__name__)
def test_every_error_carries_what_and_what_to_do(kind: type[SageError]) -> None:
    error = kind("It broke.", mend="Mend it")
    assert (str(error), error.message, error.mend, error.name) == (
        "It broke.",
        "It broke.",
        "Mend it",
        kind.__name__,
    )
    assert kind("It broke.").mend == ""
    assert kind.__doc__


def test_did_you_mean() -> None:
    assert did_you_mean("tiyn", ["tiny", "huge"]) == " Did you mean 'tiny'?"
    assert did_you_mean("zzz", ["tiny", "huge"]) == ""
    assert did_you_mean("tiny", []) == ""
