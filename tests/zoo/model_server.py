"""A server of models on loopback that answers as a test tells it: well, badly, or not at all."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sage.types import Completion, GenerationRequest, Message
from sage.zoo.backends import EngineOptions, open_engine
from sage.zoo.backends.openai_http import OpenAIHttpEngine

Reply = Callable[["ModelHandler"], None]


class ModelHandler(BaseHTTPRequestHandler):
    """Answers as its server was told; speaks HTTP/1.0, where the end of the connection ends an answer."""

    server: ModelServer

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["authorization"])
        if self.server.listing:
            self.server.listing(self)
        else:
            self.say(200, {"object": "list", "data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        self.server.keys.append(self.headers["authorization"])
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.server.reply(self)

    def say(self, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.begin(status, kind, content_length=str(len(raw)), **headers)
        self.wfile.write(raw)

    def begin(
        self, status: int = 200, kind: str = "text/event-stream; charset=utf-8", **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, item in headers.items():
            self.send_header(name.replace("_", "-"), item)
        self.end_headers()

    def event(self, item: Any, end: bytes = b"\n\n") -> None:
        raw = item if isinstance(item, bytes) else json.dumps(item).encode()
        self.wfile.write(b"data: " + raw + end)

    def log_message(self, *args: Any) -> None:
        """Nothing on stderr."""


class ModelServer(ThreadingHTTPServer):
    """A server of models on loopback, as kind or as broken as ``reply`` makes it."""

    daemon_threads = True

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.address_family = family
        super().__init__(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), ModelHandler)
        self.models = ["m"]
        self.listing: Reply | None = None
        self.reply: Reply = answering("Paris", ".")
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        host = "[::1]" if self.address_family == socket.AF_INET6 else "127.0.0.1"
        return f"http://{host}:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what many tests are about."""


def delta(text: str, **more: Any) -> dict[str, Any]:
    """One chunk of an answer."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **more}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def answering(*pieces: str) -> Reply:
    """A sound answer of these pieces."""

    def reply(handler: ModelHandler) -> None:
        handler.begin()
        handler.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for piece in pieces:
            handler.event(delta(piece))
        handler.event(END)
        handler.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(pieces)}})
        handler.event(b"[DONE]")

    return reply


@contextmanager
def serving(server: ModelServer) -> Iterator[ModelServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


QUESTION = (Message(role="user", content="Capital of France?"),)
HOSTS = ["127.0.0.1", "::1"]

Open = Callable[..., OpenAIHttpEngine]


@contextmanager
def opening(url: str) -> Iterator[Open]:
    """Loads models of the server there; keywords replace what their worker would be told."""
    opened: list[OpenAIHttpEngine] = []

    def load(**changes: Any) -> OpenAIHttpEngine:
        extra = {"url": url, "model": "m", "key_env": "", "hosts": HOSTS, "connect_s": 1.0, "silence_s": 0.5}
        options = EngineOptions(path=Path(), context=100, threads=1, extra=extra | changes)
        made = open_engine("openai_http", options)
        assert isinstance(made, OpenAIHttpEngine)
        opened.append(made)
        return made

    yield load
    for each in opened:
        each._connection.close()


def ask(engine: OpenAIHttpEngine, **changes: Any) -> tuple[Completion, list[str]]:
    """An answer, and the pieces it came in."""
    pieces: list[str] = []
    request = GenerationRequest(messages=QUESTION, **changes)
    return engine.generate(request, lambda text: bool(pieces.append(text))), pieces
