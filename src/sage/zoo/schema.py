"""JSON schemas from outside: checked before any work, and kept to by answers, within limits.

Owns: how large a schema may be and how long a check may take. Must not know: who asks or answers.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any

from sage.errors import UsageError

__all__ = ["check_schema", "keeps_schema"]

MOST_CHARACTERS = 65_536
MOST_DEPTH = 64
"""Far above what people write, far below what overflows a recursive checker."""

CHECK_S = 1.0
"""A pattern such as ^(a+)+$ can take for ever on a short text; an answer that cannot be checked in this
time does not count as keeping the schema."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise UsageError for what is no JSON schema, or one beyond the limits."""
    import jsonschema

    plain = dict(schema)
    try:
        if len(json.dumps(plain)) > MOST_CHARACTERS or _deeper(plain, MOST_DEPTH):
            raise UsageError(
                f"The schema is larger than {MOST_CHARACTERS} characters or deeper than {MOST_DEPTH} levels.",
                mend="Use a smaller schema",
            )
        jsonschema.validators.validator_for(plain).check_schema(plain)
    except jsonschema.SchemaError as error:
        raise UsageError(f"This is not a JSON schema: {error.message}", mend="Correct the schema") from error
    except (RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"This is not a JSON schema: {error}", mend="Correct the schema") from error


def keeps_schema(text: str, schema: Mapping[str, Any] | None) -> bool:
    """Whether the text is JSON that meets the schema; true where none was asked for.

    Call it on the main thread of a worker process: only there can a check that takes too long be stopped.

    Raises:
        UsageError: the schema refers to another document, which is never fetched.
    """
    if schema is None:
        return True
    import jsonschema
    import referencing

    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, CHECK_S)
    try:
        # An empty registry: the default one would fetch a remote "$ref".
        jsonschema.validate(json.loads(text), dict(schema), registry=referencing.Registry())
    except referencing.exceptions.Unresolvable as error:
        raise UsageError(
            f"The schema refers to {error.ref}, which is not in it.", mend="Put it under $defs of the schema"
        ) from error
    except (ValueError, OverflowError, RecursionError, TimeoutError, jsonschema.ValidationError):
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    return True


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_deeper(item, levels - 1) for item in inner)
