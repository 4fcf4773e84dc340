"""GGUF models through llama.cpp (the xllamacpp binding), inside a worker process.

Owns: how a request becomes a llama.cpp request, and its answer ours.
Must not know: which model should answer, or what the answer is for.

The file is vetted here once more, just before it is loaded, and must be the same when it is loaded: it may
have been replaced since somebody looked, or be replaced while nobody does.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xllamacpp

from sage.errors import ContextTooLong, LoadFailed, SageError, UnsafeFile, UsageError, WeightsMissing
from sage.hardware.probe import usable_cores
from sage.types import Completion, GenerationRequest
from sage.zoo.backends import EngineOptions, OnText
from sage.zoo.backends.base_model import QA_STOP, qa_prompt
from sage.zoo.vet import vet_gguf

__all__ = ["LlamaCppEngine"]

COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How llguidance is told that JSON stands on one line. Free to indent, a small model that nobody asked
for JSON wrote spaces and line ends until its tokens were used up."""


class LlamaCppEngine:
    """Implements ``Engine``. One generation at a time."""

    def __init__(self, options: EngineOptions) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(options.path)
        params.n_ctx = options.context
        params.n_parallel = 1
        # Two threads that spin collapse when another program wants a core; prompts gain from both.
        params.cpuparams.n_threads = options.threads
        params.cpuparams_batch.n_threads = max(options.threads, min(options.threads + 1, usable_cores()))
        params.warmup = False
        # Caches of past prompts would grow outside the memory estimate; the slot's own cache stays.
        params.cache_ram_mib = 0
        params.n_ctx_checkpoints = 0
        params.verbosity = 0
        # The binding opens a loopback port that nobody here uses: keep strangers out of it.
        params.api_keys = [secrets.token_hex(16)]
        self._chat = options.prompt_style == "chat"
        with _unchanged(options.path):
            vet_gguf(options.path)
            try:
                self._server = xllamacpp.Server(params)
            except Exception as error:
                raise LoadFailed(f"llama.cpp could not load {options.path.name}: {error}") from error

    def generate(self, request: GenerationRequest, on_text: OnText) -> Completion:
        body: dict[str, Any] = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            "logprobs": True if self._chat else 1,
            "stop": [*request.stop],
        }
        if self._chat:
            body["top_logprobs"] = 1
            body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
        else:
            body["prompt"] = qa_prompt(request.messages)
            if request.schema is None:  # a grammar ends its answer itself
                body["stop"] += QA_STOP
        if request.schema is not None:
            body["grammar"] = _grammar(request.schema)
        if request.seed is not None:
            body["seed"] = request.seed
        answer = _Answer(on_text)
        try:
            if self._chat:
                self._server.handle_chat_completions(body, answer.take)
            else:
                self._server.handle_completions(body, answer.take)
        except ValueError as error:
            raise UsageError(f"llama.cpp refused the request: {error}") from error
        return answer.completion()


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """Raises UnsafeFile where the file is another at the end, or was written to; WeightsMissing for none."""
    before = _seen(path)
    yield
    if _seen(path) != before:
        raise UnsafeFile(
            f"{path.name} was changed while it was loaded", mend="Ask again, once nothing writes to it"
        )


def _seen(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        raise WeightsMissing(f"{path.name} cannot be read: {error.strerror}") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _grammar(schema: Mapping[str, Any]) -> str:
    try:
        grammar: str = xllamacpp.json_schema_to_grammar({"x-guidance": COMPACT, **schema})
    except Exception as error:
        raise UsageError(f"llama.cpp cannot keep this schema: {error}") from error
    return grammar


class _Answer:
    """Collects the chunks of one stream."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._pieces: list[str] = []
        self._logprobs: list[float] = []
        self._usage: Mapping[str, Any] = {}
        self._finish = ""
        self._error: SageError | None = None

    def take(self, chunk: Mapping[str, Any]) -> bool:
        """One chunk; True stops the generation."""
        if "error" in chunk:
            self._error = _error(chunk["error"])
            return True
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices", ()):
            self._finish = choice.get("finish_reason") or self._finish
            self._logprobs += [t["logprob"] for t in (choice.get("logprobs") or {}).get("content", ())]
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if text:
                self._pieces.append(text)
                if self._on_text(text):
                    self._finish = "cancelled"
                    return True
        return False

    def completion(self) -> Completion:
        if self._error:
            raise self._error
        return Completion(
            text="".join(self._pieces).strip(),
            prompt_tokens=self._usage.get("prompt_tokens", 0),
            cached_tokens=(self._usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            # A stream that was cancelled ends without its usage.
            completion_tokens=self._usage.get("completion_tokens", len(self._logprobs)),
            finish_reason=self._finish or "stop",
            logprobs=tuple(self._logprobs),
        )


def _error(error: Mapping[str, Any]) -> SageError:
    message = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        need, room = error.get("n_prompt_tokens"), error.get("n_ctx")
        return ContextTooLong(
            f"The prompt takes {need} tokens, the context holds {room}.",
            mend="Shorten the prompt, or raise models.context",
        )
    return UsageError(f"llama.cpp refused the request: {message}")
