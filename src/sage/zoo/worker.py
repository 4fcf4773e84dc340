"""The worker process: one model, spoken to in JSON lines over its standard streams.

Owns: the child's side of the pipe. Must not know: budgets, decisions, or the database.

In:  {"op": "load", ...} once, {"op": "generate", "id", "request"}, {"op": "score", "id", "prompt",
     "continuations"}, {"op": "cancel", "id"}, end of file.
Out: {"ev": "loaded", "device_bytes", ...}, {"ev": "text", "id", "text"}, {"ev": "error", ...},
     {"ev": "done", "id", "device_bytes", ...}.

When the parent goes, standard input ends and so does the worker, even in the middle of native code.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sage.errors import SageError, UsageError
from sage.types import GenerationRequest, Message
from sage.zoo.backends import Engine, EngineOptions, OnDevice, Scorer, open_engine
from sage.zoo.schema import keeps_schema

__all__ = ["main", "request_from_json"]


def request_from_json(value: dict[str, Any]) -> GenerationRequest:
    """The inverse of ``dataclasses.asdict`` on a request."""
    messages = tuple(Message(**message) for message in value["messages"])
    return GenerationRequest(**{**value, "messages": messages, "stop": tuple(value["stop"])})


class _Pipe:
    """The parent's end: orders come in on a thread, so that a cancel is seen during a generation."""

    def __init__(self) -> None:
        # Libraries print to descriptor 1; the protocol keeps a private copy and gives them stderr.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self.cancelled: set[str] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            order = json.loads(line)
            if order["op"] == "cancel":
                self.cancelled.add(order["id"])
            else:
                self.orders.put(order)
        os._exit(0)

    def say(self, **event: Any) -> None:
        self._out.write(json.dumps(event) + "\n")


def main() -> None:
    """Load as ordered, then answer until standard input ends."""
    pipe = _Pipe()
    order = pipe.orders.get()
    options = EngineOptions(
        path=Path(order["path"]),
        context=order["context"],
        threads=order["threads"],
        prompt_style=order["prompt_style"],
        extra=order["extra"],
    )
    started = time.monotonic()
    try:
        engine = open_engine(order["backend"], options)
    except Exception as error:
        pipe.say(ev="error", **_describe(error, unexpected="LoadFailed"))
        return
    pipe.say(ev="loaded", seconds=time.monotonic() - started, device_bytes=_device_bytes(engine))
    while True:
        _serve(pipe, engine, pipe.orders.get())


def _serve(pipe: _Pipe, engine: Engine, order: dict[str, Any]) -> None:
    """Answer one order; whatever goes wrong becomes an event."""
    turn = order["id"]
    try:
        done = {"generate": _generate, "score": _score}[order["op"]](pipe, engine, order)
    except Exception as error:
        pipe.say(ev="error", id=turn, **_describe(error, unexpected="WorkerDied"))
    else:
        pipe.say(ev="done", id=turn, device_bytes=_device_bytes(engine), **done)
    pipe.cancelled.discard(turn)


def _generate(pipe: _Pipe, engine: Engine, order: dict[str, Any]) -> dict[str, Any]:
    turn = order["id"]
    began = time.monotonic()
    first: list[float] = []

    def on_text(text: str) -> bool:
        if not first:
            first.append(time.monotonic() - began)
        pipe.say(ev="text", id=turn, text=text)
        return turn in pipe.cancelled

    request = request_from_json(order["request"])
    completion = engine.generate(request, on_text)
    seconds = time.monotonic() - began
    valid = keeps_schema(completion.text, request.schema)
    completion = replace(completion, run_s=seconds, first_text_s=first[0] if first else 0.0, valid=valid)
    return {"completion": asdict(completion)}


def _score(pipe: _Pipe, engine: Engine, order: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(engine, Scorer):
        raise UsageError(
            "The backend of this model cannot score texts", mend="Score with a model of transformers"
        )
    turn = order["id"]
    scores = engine.score(order["prompt"], order["continuations"], lambda: turn in pipe.cancelled)
    return {"scores": [asdict(score) for score in scores]}


def _device_bytes(engine: Engine) -> int:
    return engine.device_bytes() if isinstance(engine, OnDevice) else 0


def _describe(error: Exception, *, unexpected: str) -> dict[str, Any]:
    if isinstance(error, SageError):
        seconds = {name: value for name, value in vars(error).items() if isinstance(value, float)}
        return {"error": error.name, "message": error.message, "mend": error.mend, **seconds}
    return {"error": unexpected, "message": f"{type(error).__name__}: {error}", "mend": ""}


if __name__ == "__main__":
    main()
