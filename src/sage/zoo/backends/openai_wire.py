"""The chat completions of OpenAI's API: how a request is written, and how a streamed answer is read.

Owns: that format. Must not know: connections, or how refusals are told.
The format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from sage.types import Completion, GenerationRequest
from sage.zoo.backends import OnText
from sage.zoo.backends.openai_refusal import LOOK, Refusals
from sage.zoo.backends.sse import ServerEvent

__all__ = ["StreamedAnswer", "parse_json", "request_body"]

ENDS: Mapping[str, str] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
}
"""Reasons to end that leave a whole answer, by ours. Any other means that something else came of it."""


def request_body(model: str, request: GenerationRequest) -> dict[str, Any]:
    """The request as JSON says it."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["seed"] = request.seed
    if request.schema is not None:
        wanted = {"name": "answer", "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    return body


def parse_json(text: str | bytes) -> Any:
    """Strict JSON: no NaN, no Infinity, nothing nested deeper than Python can follow.

    Raises:
        ValueError: it is none.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


class StreamedAnswer:
    """Collects the events of one answer. Whatever does not have the right form is an error."""

    def __init__(self, on_text: OnText, refusals: Refusals) -> None:
        self._on_text = on_text
        self._refusals = refusals
        self._pieces: list[str] = []
        self._logprobs: list[float] = []
        self._usage: Mapping[str, Any] = {}
        self._finish = ""
        self._done = False
        self.progress = 0
        """Events so far that said something; a stream may be kept open with some that do not."""

    @property
    def whole(self) -> bool:
        """Whether the server has said that the answer is at its end, or the caller wants no more of it."""
        return bool(self._finish) or self._done

    def take(self, event: ServerEvent) -> bool:
        """One event; True where no more is wanted.

        Raises:
            RemoteFailed: it is garbage, or tells of a failure. ContextTooLong, RateLimited: it says so.
        """
        if event.data.strip() == "[DONE]":
            self._done = True
            return True
        try:
            chunk = parse_json(event.data)
        except ValueError as error:
            raise self._refusals.failed(f"sent what is no JSON: {error}") from error
        if not isinstance(chunk, Mapping):
            raise self._refusals.failed("sent an event that is no object")
        if chunk.get("error") or event.name == "error" or chunk.get("object") == "error":
            raise self._refusals.of_event(chunk.get("error") or chunk)
        if "error_message" in chunk:
            raise self._refusals.of_event(chunk)
        try:
            text, thought = self._read(chunk)
        except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise self._refusals.failed("sent an event of a form that answers do not have") from error
        # A thought is no part of the answer, but a sign of life, and a chance to be stopped.
        if (text or thought) and self._on_text(text):
            self._finish = "cancelled"
        return self._finish == "cancelled"

    def _read(self, chunk: Mapping[str, Any]) -> tuple[str, bool]:
        """The text of a chunk, and whether it held a thought."""
        made, thoughts = "", False
        if isinstance(usage := chunk.get("usage"), Mapping):
            self._usage = usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            if not thought:
                tokens = (choice.get("logprobs") or {}).get("content") or ()
                self._logprobs += [_logprob(token["logprob"]) for token in tokens]
            reason, text = choice.get("finish_reason"), delta.get("content") or ""
            if reason:
                self._end(str(reason))
            if not isinstance(text, str):
                raise TypeError("the content is no text")
            if text:
                self._pieces.append(text)
                made += text
            thoughts = thoughts or bool(thought)
            self.progress += bool(text or thought or reason)
        return made, thoughts

    def _end(self, reason: str) -> None:
        if reason not in ENDS:
            raise self._refusals.failed(f"ended its answer for the reason {reason!r}")
        self._finish = ENDS[reason]

    def completion(self) -> Completion:
        """The answer, once ``take`` said so or the stream ended.

        Raises:
            RemoteFailed: the stream ended before the answer did, or there is no text in it.
        """
        text = "".join(self._pieces).strip()
        if not self.whole:
            raise self._refusals.failed(f"cut its answer off after {len(text)} characters", mend=LOOK)
        if not text and self._finish != "cancelled":
            raise self._refusals.failed(
                "answered with nothing",
                mend="The prompt may be too long for it, or --max-tokens too few for its thoughts",
            )
        return Completion(
            text=text,
            prompt_tokens=_count(self._usage, "prompt_tokens"),
            cached_tokens=_count(self._usage.get("prompt_tokens_details"), "cached_tokens"),
            # A stream that was cancelled ends without its usage.
            completion_tokens=_count(self._usage, "completion_tokens")
            or len(self._logprobs)
            or len(self._pieces),
            finish_reason=self._finish or "stop",
            logprobs=tuple(self._logprobs),
        )


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a log probability is no number")
    return min(0.0, float(value))


def _count(usage: object, name: str) -> int:
    """A count of the usage; 0 where it does not say."""
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31 else 0
