"""A model that does what its script says: for tests, demonstrations and `sage doctor`.

Owns: scripted answers and scripted failures. Must not know: that it is not real.

Script keys, all optional: ``answer`` (text; default echoes the prompt), ``answers`` (one per request, the
last one repeats), ``logprob`` (per token, default -0.1), ``load_s``, ``token_s`` (seconds per token),
``load_error`` (message), ``crash_after`` (tokens, then the process ends as a segfault would),
``hang_after`` (tokens, then silence), ``error`` (message of a failing request), ``resident_mb`` (memory
to really take), ``device_mb`` (memory that it says lies on a GPU, as much again with each answer),
``scores`` (log probability of each text that is scored; others: -1 a word), ``ignore_schema`` (true: answers
as scripted though a schema was asked for), ``noise`` (text written to descriptor 1 with each answer, as
chatty native libraries do).

A card in ``SAGE_HOME/catalog.toml`` makes one; SAGE can be tried with it before any weights are pulled:

    [[model]]
    name = "parrot"
    source = "fake"
    backend = "fake"
    bytes = 1_000_000          # what a load is priced at
    license = "MIT"
    context_length = 4096
    prior = { "*" = 0.6 }
    script = { answer = "Paris.", token_s = 0.05 }
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from sage.errors import ContextTooLong, Interrupted, LoadFailed, UsageError
from sage.types import Completion, GenerationRequest
from sage.zoo.backends import EngineOptions, OnText, Score

__all__ = ["FakeEngine"]


class FakeEngine:
    """Implements ``Engine``, ``OnDevice`` and ``Scorer``; words are its tokens."""

    def __init__(self, options: EngineOptions) -> None:
        self._script = options.extra
        self._context = options.context
        self._served = 0
        self._asked = 0
        time.sleep(float(self._script.get("load_s", 0.0)))
        if "load_error" in self._script:
            raise LoadFailed(str(self._script["load_error"]))
        self._ballast = bytearray(int(self._script.get("resident_mb", 0)) * 1_000_000)

    def generate(self, request: GenerationRequest, on_text: OnText) -> Completion:
        self._asked += 1
        if "error" in self._script:
            raise UsageError(str(self._script["error"]))
        prompt_tokens = sum(len(m.content.split()) for m in request.messages)
        if prompt_tokens >= self._context:
            raise ContextTooLong(f"{prompt_tokens} tokens do not fit into {self._context}")
        os.write(1, str(self._script.get("noise", "")).encode())
        tokens = self._answer(request).split(" ")
        made: list[str] = []
        finish = "length" if len(tokens) > request.max_tokens else "stop"
        for index, token in enumerate(tokens[: request.max_tokens]):
            self._misbehave(index)
            time.sleep(float(self._script.get("token_s", 0.0)))
            piece = token if index == 0 else " " + token
            made.append(piece)
            if on_text(piece):
                finish = "cancelled"
                break
        self._misbehave(len(made))
        return Completion(
            text="".join(made),
            prompt_tokens=prompt_tokens,
            completion_tokens=len(made),
            finish_reason=finish,
            logprobs=(float(self._script.get("logprob", -0.1)),) * len(made),
        )

    def score(
        self, prompt: str, continuations: Sequence[str], should_stop: Callable[[], bool]
    ) -> tuple[Score, ...]:
        if "error" in self._script:
            raise UsageError(str(self._script["error"]))
        if len(prompt.split()) >= self._context:
            raise ContextTooLong(f"The prompt does not fit into {self._context} tokens")
        scripted = self._script.get("scores", {})
        scores: list[Score] = []
        for text in continuations:
            if should_stop():
                raise Interrupted("Stopped while texts were scored.")
            self._misbehave(len(scores))
            time.sleep(float(self._script.get("token_s", 0.0)))
            words = len(text.split())
            scores.append(Score(logprob=float(scripted.get(text, -words)), tokens=words))
        return tuple(scores)

    def device_bytes(self) -> int:
        return int(self._script.get("device_mb", 0)) * 1_000_000 * (1 + self._asked)

    def _answer(self, request: GenerationRequest) -> str:
        answers: list[str] = list(self._script.get("answers", ()))
        if answers:
            self._served += 1
            return answers[min(self._served, len(answers)) - 1]
        if request.schema is not None and not self._script.get("ignore_schema"):
            return json.dumps(_instance(request.schema))
        prompt = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        return str(self._script.get("answer", f"You said: {prompt}"))

    def _misbehave(self, tokens_made: int) -> None:
        if tokens_made == self._script.get("crash_after"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if tokens_made == self._script.get("hang_after"):
            time.sleep(3600)


def _instance(schema: Any) -> Any:
    """The plainest value of the simple schemas that tests use."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {key: _instance(sub) for key, sub in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return []
    return {"integer": 0, "number": 0, "boolean": False, "null": None}.get(str(schema.get("type")), "text")
