"""What is a schema, what keeps to one, and how long either may take to say."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sage.errors import UsageError
from sage.zoo.schema import CHECK_S, MOST_DEPTH, check_schema, keeps_schema

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"n": 3}', True),
        (' {"n": 3}\n', True),
        ('{"n": "3"}', False),
        ("{}", False),
        ('{"n": 3', False),
        ('Here it is: {"n": 3}', False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_schema(text: str, kept: bool) -> None:
    assert keeps_schema(text, SCHEMA) is kept
    assert keeps_schema(text, None)


def test_a_schema_may_refer_to_its_own_parts_and_fetches_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"$defs": {"n": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/n"}}}
    assert keeps_schema('{"n": 1}', own)
    assert not keeps_schema('{"n": "1"}', own)

    def fetch(*_args: object, **_more: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr("urllib.request.urlopen", fetch)
    with pytest.raises(UsageError, match=r"refers to http://a\.test/x"):
        keeps_schema('{"n": 1}', {"properties": {"n": {"$ref": "http://a.test/x"}}})


def test_a_pattern_that_takes_for_ever_is_not_kept() -> None:
    started = time.monotonic()
    assert not keeps_schema('"' + "a" * 34 + '!"', {"type": "string", "pattern": "^(a+)+$"})
    assert time.monotonic() - started < 10 * CHECK_S


def test_a_number_without_end_is_no_failure_of_the_check() -> None:
    assert not keeps_schema("Infinity", {"multipleOf": 0.5})


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"properties": {"x": schema}}
    return schema


def test_a_schema_within_the_limits_is_checked() -> None:
    check_schema(nested(MOST_DEPTH // 2 - 1))


@pytest.mark.parametrize(
    "schema",
    [
        nested(MOST_DEPTH),
        nested(5_000),
        {"enum": ["x" * 70_000]},
        {"type": "nonsense"},
        {"properties": []},
        {"default": object()},
    ],
    ids=["deep", "very deep", "large", "type", "properties", "no JSON"],
)
def test_what_is_no_schema_or_too_large_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="schema"):
        check_schema(schema)
