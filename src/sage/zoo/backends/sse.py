"""Server-sent events, read from a peer that may be broken or hostile.

Owns: lines, events, and how much of them is accepted. Must not know: what the events mean.
The format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["BadStream", "ServerEvent", "server_events"]

EVENT_BYTES = 1 << 20
"""The longest line, and the most data of one event. One token with its probabilities takes a kilobyte."""

STREAM_BYTES = 64 << 20

EVENTS = 200_000
"""More than the tokens of the longest answers there are."""


class BadStream(Exception):  # noqa: N818  the reader makes a failure of it, with the server's name
    """The stream is longer than anything sensible, or no text."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name, empty where it has none, and its data."""

    name: str
    data: str


def server_events(chunks: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The events with data, each as soon as it is whole; one that the end cuts off is dropped.

    Raises:
        BadStream: over a limit, or not UTF-8.
    """
    name, data, size, count = "", list[str](), 0, 0
    for line in _lines(chunks):
        if not line:
            if data:
                count += 1
                if count > EVENTS:
                    raise BadStream(f"more than {EVENTS} events")
                yield ServerEvent(name, "\n".join(data))
            name, data, size = "", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            size += len(value) + 1
            if size > EVENT_BYTES:
                raise BadStream(f"an event of more than {EVENT_BYTES} characters")
            data.append(value)
        elif field == "event":
            name = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines without their ends, which are LF, CR LF or CR."""
    held: list[bytes] = []
    size = total = 0
    after_cr = False
    for chunk in chunks:
        total += len(chunk)
        if total > STREAM_BYTES:
            raise BadStream(f"more than {STREAM_BYTES} bytes")
        whole = chunk[1:] if after_cr and chunk.startswith(b"\n") else chunk
        after_cr = chunk.endswith(b"\r") if chunk else after_cr
        for piece in whole.splitlines(keepends=True):
            held.append(piece)
            size += len(piece)
            if size > EVENT_BYTES:
                raise BadStream(f"a line of more than {EVENT_BYTES} bytes")
            if piece.endswith((b"\n", b"\r")):
                yield _text(b"".join(held)).removeprefix("\ufeff")
                held, size = [], 0


def _text(line: bytes) -> str:
    try:
        return line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadStream("bytes that are not UTF-8") from error
