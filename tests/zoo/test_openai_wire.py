"""Whatever a server sends becomes an answer or a typed error, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sage.errors import SageError
from sage.zoo.backends.openai_refusal import Refusals
from sage.zoo.backends.openai_wire import StreamedAnswer
from sage.zoo.backends.sse import ServerEvent

KEYS = (
    *("choices", "index", "delta", "content", "reasoning", "logprobs", "logprob", "finish_reason"),
    *("usage", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens"),
    *("error", "error_message", "message", "code", "type", "object"),
)

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["stop", "é", "", "length"])

VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def nested(keys: list[str], value: Any) -> Any:
    """The value below these keys, in lists where an answer has lists."""
    for key in reversed(keys):
        value = {key: [value] if key == "choices" or (key == "content" and len(keys) > 3) else value}
    return value


PATHS = st.sampled_from(
    [
        [],
        ["choices"],
        ["choices", "delta"],
        ["choices", "delta", "content"],
        ["choices", "finish_reason"],
        ["choices", "logprobs", "content", "logprob"],
        ["usage", "prompt_tokens"],
        ["usage", "prompt_tokens_details"],
        ["error"],
    ]
)


@given(st.lists(st.tuples(PATHS, VALUES), max_size=4), st.sampled_from(["", "error"]))
def test_any_event_is_read_or_refused(parts: list[tuple[list[str], Any]], name: str) -> None:
    said: list[str] = []
    answer = StreamedAnswer(lambda text: bool(said.append(text)), Refusals(url="http://there/v1"))
    try:
        for path, value in parts:
            answer.take(ServerEvent(name, json.dumps(nested(path, value))))
        completion = answer.completion()
    except SageError:
        return
    assert completion.text == "".join(said).strip() != ""
    assert completion.finish_reason in ("stop", "length")
    assert completion.prompt_tokens >= 0
    assert completion.completion_tokens >= 0
    assert all(value <= 0 for value in completion.logprobs)


def test_the_shapes_above_do_reach_an_answer() -> None:
    answer = StreamedAnswer(lambda _text: False, Refusals(url="http://there/v1"))
    for path, value in (
        (["choices", "delta", "content"], "Paris"),
        (["choices", "logprobs", "content", "logprob"], -0.5),
        (["choices", "finish_reason"], "stop"),
    ):
        answer.take(ServerEvent("", json.dumps(nested(path, value))))
    assert answer.completion().logprobs == (-0.5,)
