"""Models that a server runs, through OpenAI's API: vLLM, Ollama, llama-server, LM Studio, another SAGE.

Owns: the connection: whom it may reach, how long it waits, what it accepts.
Must not know: which model should answer, or what the answer is for.
It lives in a worker process as every backend does, so what hangs in spite of the limits here can be killed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from sage.errors import ContextTooLong, RemoteFailed, UsageError, WeightsMissing, did_you_mean
from sage.types import Completion, GenerationRequest
from sage.zoo.backends import EngineOptions, OnText
from sage.zoo.backends.openai_refusal import LOOK, Refusals
from sage.zoo.backends.openai_wire import StreamedAnswer, parse_json, request_body
from sage.zoo.backends.sse import BadStream, server_events
from sage.zoo.remote import check_host, is_loopback, key_from, server_from

__all__ = ["OpenAIHttpEngine", "ServedModel", "find_served", "served_models"]

LIST_BYTES = 8 << 20
"""The longest list of models; a hub of thousands needs less."""

NAME_LENGTH = 256
"""Characters of a model's name; what has more, or what no terminal shows, is not offered."""

REFUSAL_BYTES = 64 << 10

IDLE_S = 2.0
"""How long an idle connection is kept. Servers keep theirs longer, so that none closes as it is used."""

SHARE_OF_SILENCE = 0.8
"""Of the silence that the parent allows its worker: the worker tells of it before it is killed for it."""

INSTEAD: Mapping[str, str] = {"logprobs": "", "stream_options": "", "max_tokens": "max_completion_tokens"}
"""What some servers refuse, and what they take in its place; what has no such name can be left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A model that a server offers. ``context`` in tokens, 0 where the server does not say."""

    name: str
    context: int


class OpenAIHttpEngine:
    """Implements ``Engine``. Loading it asks the server which models it has."""

    def __init__(self, options: EngineOptions) -> None:
        """``options.extra`` is made by ``sage.zoo.remote.remote_options``.

        Raises:
            ConfigError: the host may not be asked, or the key is not there.
            RemoteFailed, RateLimited: nobody answers there, or not as a server of models does.
            WeightsMissing: the server has no model of that name.
        """
        extra = options.extra
        self._model = str(extra["model"])
        self._silence_s = float(extra["silence_s"]) * SHARE_OF_SILENCE
        self._connection = _Connection(
            str(extra["url"]), str(extra["key_env"]), list(extra["hosts"]), float(extra["connect_s"])
        )
        find_served(self._connection.models(), self._model, self._connection.url)
        self._refused: set[str] = set()

    def generate(self, request: GenerationRequest, on_text: OnText) -> Completion:
        """Answer. Besides what ``Engine`` says, raises RemoteFailed and RateLimited."""
        patience = min(self._silence_s, request.deadline_s or self._silence_s)
        while True:
            answer = StreamedAnswer(on_text, self._connection.refusals)
            try:
                self._connection.stream(self._body(request), answer, patience)
            except (UsageError, RemoteFailed) as error:
                # Words like these also stand where a limit is exceeded, or a prompt is too long.
                final = self._connection.status not in (400, 422) or isinstance(error, ContextTooLong)
                if final or not self._learn(error.message):
                    raise
            else:
                return answer.completion()

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body = request_body(self._model, request)
        for name in self._refused:
            value = body.pop(name)
            if INSTEAD[name]:
                body[INSTEAD[name]] = value
        return body

    def _learn(self, refusal: str) -> bool:
        """Whether the server refused something that it need not be sent again."""
        fresh = {name for name in INSTEAD if re.search(rf"\b{name}\b", refusal)} - self._refused
        self._refused |= fresh
        return bool(fresh)


def served_models(url: str, key_env: str, hosts: list[str], connect_s: float) -> tuple[ServedModel, ...]:
    """What a server offers; ``connect_s`` seconds are allowed for each step of asking.

    Raises:
        ConfigError, RemoteFailed, RateLimited: as when a model of it is loaded.
    """
    with closing(_Connection(url, key_env, hosts, connect_s)) as connection:
        return connection.models()


def find_served(offered: tuple[ServedModel, ...], name: str, url: str) -> ServedModel:
    """The model of that name; Ollama's ``:latest`` may be left out.

    Raises:
        WeightsMissing: the server does not have it.
    """
    by_name = {model.name: model for model in offered}
    found = by_name.get(name) or by_name.get(f"{name}:latest")
    if not found:
        raise WeightsMissing(
            f"{url} has no model {name!r}.{did_you_mean(name, by_name)}",
            mend=f"It offers: {', '.join(sorted(by_name)[:10]) or 'none; load one there first'}",
        )
    return found


class _Connection:
    """One server. Redirects are not followed, certificates are checked, nothing is unpacked."""

    def __init__(self, url: str, key_env: str, hosts: list[str], connect_s: float) -> None:
        server = server_from(f"openai:{url}#any")
        check_host(server.host, hosts)
        key = key_from(key_env, server)
        self.url = url
        self.status = 0
        """Of the last response."""
        self.refusals = Refusals(url=url, key_env=key_env, key=key)
        self._connect_s = connect_s
        headers = {"accept-encoding": "identity", "user-agent": "sage"}
        self._client = httpx2.Client(
            headers=headers | ({"authorization": f"Bearer {key}"} if key else {}),
            follow_redirects=False,
            # A proxy would be asked for its own loopback, and would read a key that is not encrypted.
            trust_env=not is_loopback(server.host) and not (key and not url.startswith("https:")),
            limits=httpx2.Limits(max_connections=1, keepalive_expiry=IDLE_S),
            timeout=httpx2.Timeout(connect_s),
        )

    def close(self) -> None:
        """Let go of the server."""
        self._client.close()

    def models(self) -> tuple[ServedModel, ...]:
        """What the server offers."""
        with self._failures(self._connect_s), self._client.stream("GET", f"{self.url}/models") as response:
            self._check(response, schema=False)
            body = self._body(response, LIST_BYTES)
        try:
            offered = parse_json(body)["data"] or ()  # null where there are none
            return tuple(
                ServedModel(name=item["id"], context=_context(item)) for item in offered if _named(item["id"])
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.refusals.failed(
                "did not name its models as a server of OpenAI's API does",
                mend="Check the address, which mostly ends in /v1",
            ) from error

    def stream(self, body: dict[str, Any], answer: StreamedAnswer, patience: float) -> None:
        """Ask, and hand the events over until the answer wants no more. Leaving closes the connection, which
        is how a server learns that nobody listens."""
        timeout = httpx2.Timeout(patience, connect=self._connect_s)
        path = f"{self.url}/chat/completions"
        with (
            self._failures(patience, answer),
            self._client.stream(
                "POST", path, json=body, timeout=timeout, headers={"accept": "text/event-stream"}
            ) as response,
        ):
            self._check(response, schema="response_format" in body)
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                raise self._no_stream(kind, self._body(response, REFUSAL_BYTES))
            for event in server_events(self._chunks(response, answer, patience)):
                if answer.take(event):
                    return

    def _chunks(self, response: httpx2.Response, answer: StreamedAnswer, patience: float) -> Iterator[bytes]:
        """The bytes as they come, while the answer goes on: comments alone do not keep it alive."""
        progress, heard = answer.progress, time.monotonic()
        for chunk in response.iter_raw():
            yield chunk
            now = time.monotonic()
            if answer.progress > progress:
                progress, heard = answer.progress, now
            elif now - heard > patience:
                raise httpx2.ReadTimeout("")

    def _body(self, response: httpx2.Response, most: int) -> bytes:
        """The whole body, in twice the time of one step."""
        until, body = time.monotonic() + 2 * self._connect_s, bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > most:
                raise self.refusals.failed(f"sent more than the {most} bytes that this answer may have")
            if time.monotonic() > until:
                raise httpx2.ReadTimeout("")
        return bytes(body)

    def _check(self, response: httpx2.Response, *, schema: bool) -> None:
        self.status = response.status_code
        if response.headers.get("content-encoding", "identity") != "identity":
            raise self.refusals.failed("packs its answers, though it was told not to")
        if response.status_code != 200:
            body = self._body(response, REFUSAL_BYTES)
            raise self.refusals.of_status(response.status_code, response.headers, body, schema=schema)

    def _no_stream(self, kind: str, body: bytes) -> Exception:
        if kind == "application/json":
            try:
                value = parse_json(body)
            except ValueError:
                value = None
            if isinstance(value, Mapping) and value.get("error"):
                return self.refusals.of_event(value["error"])
        return self.refusals.failed(
            f"answered with {kind or 'something unnamed'}, not with a stream of events",
            mend="Check the address, which mostly ends in /v1",
        )

    @contextmanager
    def _failures(self, patience: float, answer: StreamedAnswer | None = None) -> Iterator[None]:
        """Failures of the connection as ours: a silence is one of ``patience`` seconds. One that comes after
        the whole answer did does not matter."""
        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL, BadStream) as error:
            if answer and answer.whole and not isinstance(error, BadStream):
                return
            raise self._failure(error, begun=bool(answer and answer.progress), patience=patience) from error

    def _failure(self, error: Exception, *, begun: bool, patience: float) -> RemoteFailed:
        if isinstance(error, BadStream):
            return self.refusals.failed(f"sent {error}")
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return self.refusals.failed(
                f"cannot be reached: {error or 'no connection in time'}",
                mend="Start that server",
                silent_s=self._connect_s if isinstance(error, httpx2.ConnectTimeout) else 0.0,
            )
        if isinstance(error, httpx2.TimeoutException):
            what = "fell silent in the middle of its answer" if begun else "does not answer"
            mend = "Look after that server, or allow models.silence_timeout_s"
            return self.refusals.failed(what, mend=mend, silent_s=patience)
        what = "cut its answer off" if begun else "broke the connection"
        return self.refusals.failed(f"{what}: {error}", mend=LOOK)


def _named(value: object) -> bool:
    """Whether it can be a model's name: it goes onto terminals and cards."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) <= NAME_LENGTH


def _context(item: Mapping[str, Any]) -> int:
    """The tokens that a listed model holds, as vLLM, llama-server and others say it."""
    meta = item.get("meta")
    for value in (
        item.get("max_model_len"),
        item.get("context_length"),
        meta.get("n_ctx") if isinstance(meta, Mapping) else None,
        meta.get("n_ctx_train") if isinstance(meta, Mapping) else None,
    ):
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
            return value
    return 0
