"""Server-sent events, whatever the pieces they come in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.zoo.backends.sse import BadStream, ServerEvent, server_events

STREAM = (
    "\ufeff: hello\r\n\r\nretry: 5\n\nid: 1\ndata: é\r\ndata:two\n\n"
    "event: error\rdata\rdata:  x: y\r\rdata: [DONE]\n\n: ping\n\ndata: cut off"
).encode()

EVENTS = [ServerEvent("", "é\ntwo"), ServerEvent("error", "\n x: y"), ServerEvent("", "[DONE]")]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_do_not_depend_on_where_the_bytes_are_parted(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in pairwise(places)]
    assert list(server_events(chunks)) == EVENTS


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_events_or_a_bad_stream(chunks: list[bytes]) -> None:
    try:
        events = list(server_events(chunks))
    except BadStream:
        return
    assert sum(len(event.data) for event in events) <= len(b"".join(chunks))


def test_an_event_is_there_as_soon_as_it_is_whole() -> None:
    events = server_events(iter([b"data: a\r\n\r", b"never read"]))
    assert next(events) == ServerEvent("", "a")


def test_a_line_that_comes_byte_by_byte_takes_no_longer() -> None:
    """A quadratic reader would need minutes for a megabyte."""
    with pytest.raises(BadStream, match="a line of more"):
        list(server_events(b"x" for _ in range(1 << 21)))


def test_endless_events_end() -> None:
    with pytest.raises(BadStream, match="more than 200000 events"):
        list(server_events(b"data:\n\n" * 1000 for _ in range(201)))
