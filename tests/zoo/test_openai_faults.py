"""Every way in which a server of models can fail: a typed error each time, and never half an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from sage.errors import ContextTooLong, RateLimited, RemoteFailed, SageError, UsageError
from sage.zoo.backends.openai_refusal import retry_after_s

from .model_server import END, ModelHandler, ModelServer, Open, Reply, answering, ask, delta, opening, serving


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as served:
        yield served


@pytest.fixture
def engine(server: ModelServer) -> Iterator[Open]:
    with opening(server.url) as load:
        yield load


def failing(status: int, body: Any, kind: str = "application/json", **headers: str) -> Reply:
    return lambda handler: handler.say(status, body, kind, **headers)


def sending(*events: Any) -> Reply:
    """A stream that begins well, goes on with these, and ends as the connection does."""

    def reply(handler: ModelHandler) -> None:
        handler.begin()
        handler.event(delta("Par"))
        for item in events:
            handler.event(item)

    return reply


def raw(data: bytes, times: int = 1) -> Reply:
    def reply(handler: ModelHandler) -> None:
        handler.begin()
        for _ in range(times):
            handler.wfile.write(data)

    return reply


def cut_in_a_chunk(handler: ModelHandler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.close_connection = True
    handler.begin(transfer_encoding="chunked")
    handler.wfile.write(b"ff\r\ndata: {")


def dripping(handler: ModelHandler) -> None:
    handler.begin()
    handler.event(delta("Par"))
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b": still here\n\n")


def silent(handler: ModelHandler) -> None:
    handler.begin()
    handler.event(delta("Par"))
    handler.server.over.wait(5)


TOO_LONG = "This model's maximum context length is 1024 tokens."

FAULTS: dict[str, tuple[Reply, type[SageError], str]] = {
    "hangs before the headers": (lambda h: bool(h.server.over.wait(5)), RemoteFailed, "does not answer"),
    "hangs in mid-stream": (silent, RemoteFailed, "fell silent"),
    "only comments": (dripping, RemoteFailed, "fell silent"),
    "a web page": (failing(200, b"<html>Welcome", "text/html"), RemoteFailed, "text/html"),
    "no type": (failing(200, b"data: [DONE]\n\n", ""), RemoteFailed, "something unnamed"),
    "an answer in one piece": (failing(200, {"choices": []}), RemoteFailed, "application/json"),
    "an error with 200": (failing(200, {"error": {"message": "out of luck"}}), RemoteFailed, "out of luck"),
    "404": (failing(404, {"error": {"message": "model 'm' not found"}}), RemoteFailed, "404.*'m' not found"),
    "401 without a key": (failing(401, b""), RemoteFailed, "refused the key"),
    "500": (failing(500, {"detail": "boom"}), RemoteFailed, "500: boom"),
    "502 of a proxy": (failing(502, b"<html>Bad", "text/html"), RemoteFailed, "502.*web page"),
    "400": (failing(400, {"error": {"message": "bad stop"}}), UsageError, "refused the request: bad stop"),
    "a redirect": (failing(307, b"", location="/elsewhere"), RemoteFailed, "elsewhere"),
    "ends at once": (raw(b""), RemoteFailed, "cut its answer off after 0"),
    "ends in mid-answer": (sending(delta("is")), RemoteFailed, "cut its answer off after 5"),
    "ends in mid-event": (raw(b"data: [DONE]"), RemoteFailed, "cut its answer off"),
    "ends in mid-chunk": (cut_in_a_chunk, RemoteFailed, "broke the connection|cut its answer"),
    "nothing": (raw(b"data: [DONE]\n\n"), RemoteFailed, "answered with nothing"),
    "garbage": (sending(b"{broken"), RemoteFailed, "no JSON"),
    "NaN": (sending(b'{"choices": NaN}'), RemoteFailed, "no JSON"),
    "nested": (sending(b"[" * 100_000), RemoteFailed, "no JSON"),
    "no object": (sending(["a", 1]), RemoteFailed, "no object"),
    "choices are numbers": (sending({"choices": [1]}), RemoteFailed, "of a form"),
    "content is a list": (sending({"choices": [{"delta": {"content": ["a"]}}]}), RemoteFailed, "of a form"),
    "a huge log probability": (
        sending(delta("a", logprobs={"content": [{"logprob": 10**400}]})),
        RemoteFailed,
        "of a form",
    ),
    "no UTF-8": (raw(b"data: \xff\n\n"), RemoteFailed, "not UTF-8"),
    "an endless line": (raw(b"data: " + b"x" * (1 << 16), 20), RemoteFailed, "a line of more than"),
    "an endless event": (raw(b"data: " + b"x" * (1 << 16) + b"\n", 20), RemoteFailed, "an event of more"),
    "a huge body": (raw(b":" + b"x" * 1_000_000 + b"\n", 70), RemoteFailed, "more than 67108864 bytes"),
    "an error in the stream": (sending({"error": {"message": "no memory"}}), RemoteFailed, "no memory"),
    "an error in words": (sending({"error": "no memory"}), RemoteFailed, "no memory"),
    "an error by name": (raw(b'event: error\ndata: {"message": "no luck"}\n\n'), RemoteFailed, "no luck"),
    "an error of another form": (sending({"error_message": "no luck"}), RemoteFailed, "no luck"),
    "withheld": (
        sending({"choices": [{"delta": {}, "finish_reason": "content_filter"}]}),
        RemoteFailed,
        "content_filter",
    ),
    "too long, by its words": (failing(400, {"error": {"message": TOO_LONG}}), ContextTooLong, "1024"),
    "too long, by its code": (
        failing(400, {"error": {"message": "no", "code": "context_length_exceeded"}}),
        ContextTooLong,
        "no",
    ),
    "too long, by its type": (
        failing(500, {"error": {"message": "no", "type": "exceed_context_size_error"}}),
        ContextTooLong,
        "no",
    ),
    "too long, in the stream": (sending({"error": {"message": TOO_LONG}}), ContextTooLong, "1024"),
    "too large": (failing(413, b"too large"), ContextTooLong, "too large"),
    "429": (failing(429, {"error": {"message": "slow down"}}), RateLimited, "for a while: slow down"),
    "429 in the stream": (
        sending({"error": {"code": 429, "message": "slow down"}}),
        RateLimited,
        "slow down",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_typed_error_and_never_an_answer(server: ModelServer, engine: Open, fault: str) -> None:
    server.reply, error, said = FAULTS[fault]
    loaded = engine()
    began = time.monotonic()
    with pytest.raises(error, match=said) as caught:
        ask(loaded)
    assert type(caught.value) is error
    assert len(caught.value.message) < 500
    assert time.monotonic() - began < 8
    server.reply = answering("Paris")  # and the next is answered, whatever became of this one
    assert ask(loaded)[0].text == "Paris"


def test_a_schema_that_a_server_does_not_keep_is_its_failure(server: ModelServer, engine: Open) -> None:
    server.reply = failing(400, {"error": {"message": "response_format is not supported"}})
    with pytest.raises(RemoteFailed, match="not supported") as caught:
        ask(engine(), schema={"type": "object"})
    assert "schemas" in caught.value.mend


def test_what_a_server_says_cannot_write_to_a_terminal(server: ModelServer, engine: Open) -> None:
    server.reply = failing(500, {"error": {"message": "\x1b[31mred\x07\nline"}})
    with pytest.raises(RemoteFailed, match=r"500: \[31mred line$"):
        ask(engine())


# Patience


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_a_server_says_how_long_to_wait(server: ModelServer, engine: Open, status: int, dated: bool) -> None:
    wait = formatdate(time.time() + 30, usegmt=True) if dated else "30"
    server.reply = failing(status, {}, retry_after=wait)
    with pytest.raises(RateLimited) as caught:
        ask(engine())
    assert caught.value.retry_after_s == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("999999999", 86_400.0),
        ("-5", 0.0),
        ("nan", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),  # past
        ("Thu, 01 Jan 1970 00:10:00 GMT", 500.0),
        ("Fri, 99 Foo 99999 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    now = 100.0 if "1970" in value else None
    assert retry_after_s(value, now) == seconds


def test_what_breaks_after_the_answer_does_not_matter(server: ModelServer, engine: Open) -> None:
    def reply(handler: ModelHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = True
        handler.begin(transfer_encoding="chunked")
        for item in (delta("Paris"), END):
            data = b"data: " + json.dumps(item).encode() + b"\n\n"
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.write(b"ff\r\nbroken off")

    server.reply = reply
    assert ask(engine())[0].text == "Paris"


def test_a_deadline_ends_the_wait_for_a_silent_server(server: ModelServer, engine: Open) -> None:
    server.reply = FAULTS["hangs before the headers"][0]
    loaded = engine(silence_s=60.0)
    began = time.monotonic()
    with pytest.raises(RemoteFailed, match="does not answer"):
        ask(loaded, deadline_s=0.3)
    assert time.monotonic() - began < 3
