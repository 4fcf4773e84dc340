"""A server that takes a request and never answers: one caller waits for it, the next ones do not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sage.config import ModelSettings
from sage.errors import DeadlineExceeded, LoadFailed, RateLimited, RemoteFailed
from sage.types import GenerationRequest
from sage.zoo.card import ModelCard
from sage.zoo.host import Host

from .model_server import QUESTION, ModelHandler, ModelServer, answering, serving

SILENCE_S = 1.0
REQUEST = GenerationRequest(messages=QUESTION)
UNANSWERED = (RemoteFailed, DeadlineExceeded)
"""Whether the worker or its parent notices first that a deadline has passed is a matter of milliseconds."""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as served:
        served.reply = hangs
        yield served


@pytest.fixture
def host(home: Path) -> Iterator[Host]:
    settings = ModelSettings(silence_timeout_s=SILENCE_S / 0.8, remote_connect_s=20.0, stop_timeout_s=0.5)
    made = Host(home, settings, free_bytes=lambda: 10**9, estimate=lambda _card: 10**8)
    yield made
    made.close()
    assert psutil.Process().children() == []


def hangs(handler: ModelHandler) -> None:
    handler.server.over.wait(20)


def far(server: ModelServer) -> ModelCard:
    return ModelCard(
        name="far",
        source=f"openai:{server.url}#m",
        sha256="",
        bytes=0,
        license="not stated",
        context_length=4096,
        backend="openai_http",
    )


def ask(host: Host, server: ModelServer, deadline_s: float | None = None) -> str:
    request = GenerationRequest(messages=QUESTION, deadline_s=deadline_s)
    return host.ask(far(server), request, lambda _text: None).completion.text


def refused_at_once(host: Host, server: ModelServer) -> LoadFailed:
    began = time.monotonic()
    with pytest.raises(LoadFailed) as caught:
        ask(host, server)
    assert time.monotonic() - began < 0.5
    return caught.value


def test_only_the_first_waits_and_the_rest_is_as_long_as_the_wait(host: Host, server: ModelServer) -> None:
    host.load(far(server))
    assert host.resident()
    with pytest.raises(RemoteFailed, match="does not answer") as caught:
        ask(host, server)
    assert caught.value.silent_s == pytest.approx(SILENCE_S)
    assert host.resting()["far"] > 0.9 * SILENCE_S
    assert "far failed once and rests" in refused_at_once(host, server).message
    assert host.resident() == {}  # it is no warm model, which would be chosen for that


def test_a_wait_that_the_deadline_cut_counts_too(host: Host, server: ModelServer) -> None:
    host.load(far(server))
    with pytest.raises(UNANSWERED):
        ask(host, server, deadline_s=0.3)
    assert 0.2 < host.resting()["far"] <= 2.0
    refused_at_once(host, server)


def test_a_server_that_does_not_name_its_models_in_time_rests(host: Host, server: ModelServer) -> None:
    server.listing = hangs
    with pytest.raises(DeadlineExceeded, match="not loaded in time"):
        ask(host, server, deadline_s=1.5)
    until = time.monotonic() + 5.0
    while not host.resting():  # its worker has to end first
        assert time.monotonic() < until
        time.sleep(0.01)
    refused_at_once(host, server)


def test_who_stops_before_the_first_word_says_nothing_about_the_server(
    host: Host, server: ModelServer
) -> None:
    host.load(far(server))
    with pytest.raises(UNANSWERED):
        ask(host, server, deadline_s=0.2)
    time.sleep(host.resting()["far"])
    over = time.monotonic() + 1.0
    stopped = host.ask(far(server), REQUEST, lambda _text: None, should_stop=lambda: time.monotonic() > over)
    assert stopped.completion.finish_reason == "cancelled"
    with pytest.raises(UNANSWERED):
        ask(host, server, deadline_s=0.2)
    assert "failed 2 times in a row" in refused_at_once(host, server).message


def test_a_server_that_is_back_is_asked_again(host: Host, server: ModelServer) -> None:
    with pytest.raises(UNANSWERED):
        ask(host, server, deadline_s=1.0)
    time.sleep(max(host.resting().values(), default=0.0))
    server.reply = answering("Paris")
    assert ask(host, server) == "Paris"
    assert set(host.resident()) == {"far"}


def test_a_server_that_asks_for_patience_keeps_its_worker(host: Host, server: ModelServer) -> None:
    server.reply = lambda handler: handler.say(429, {}, retry_after="17")
    with pytest.raises(RateLimited):
        ask(host, server)
    assert 16 < host.resting()["far"] <= 17
    assert set(host.resident()) == {"far"}
