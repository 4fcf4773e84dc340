"""A model on a server as a user and the kernel meet it: added, asked, failing, and passed over."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sage.config import ModelSettings, SelectorSettings, Settings
from sage.errors import ConfigError, RateLimited, RemoteFailed
from sage.kernel.sense import Request
from sage.kernel.session import memory_need, open_kernel
from sage.kernel.turn import Reply
from sage.types import GenerationRequest, Message
from sage.zoo.card import ModelCard
from sage.zoo.catalog import load_catalog
from sage.zoo.launch import worker_limits, worker_spec
from sage.zoo.process import Worker
from sage.zoo.remote import Server, check_reach, server_from
from sage.zoo.sources import pull, state

from .model_server import QUESTION, ModelHandler, ModelServer, delta, serving

SECRET = "sk-5up3r-s3cret"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as served:
        yield served


def card(url: str, **changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "name": "far",
        "source": f"openai:{url}#m",
        "sha256": "",
        "bytes": 0,
        "license": "not stated",
        "context_length": 4096,
        "backend": "openai_http",
        "prior": {"*": 0.9},
    }
    return ModelCard(**values | changes)


NEAR = ModelCard(
    name="near",
    source="fake",
    backend="fake",
    sha256="",
    bytes=1_000_000,
    license="MIT",
    context_length=4096,
    prior={"*": 0.2},
    script={"answer": "Lyon."},
)


@pytest.fixture
def worker(server: ModelServer, home: Path) -> Iterator[Worker]:
    settings = ModelSettings(silence_timeout_s=2.0, stop_timeout_s=0.5)
    served = card(server.url)
    made = Worker(worker_spec(home, served, settings), worker_limits(served, settings))
    yield made
    made.close()


REQUEST = GenerationRequest(messages=QUESTION)


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("http://api.example.com/v1", False),
        ("http://8.8.8.8/v1", False),
        ("http://[2001:4860:4860::8888]/v1", False),
        ("https://api.example.com/v1", True),
        ("http://127.0.0.1:1/v1", True),
        ("http://192.168.1.7/v1", True),
        ("http://100.64.0.7/v1", True),
        ("http://[fd00::7]/v1", True),
        ("http://gpu/v1", True),
        ("http://gpu.local/v1", True),
    ],
)
def test_a_key_goes_to_no_public_host_in_clear(url: str, fine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    server = server_from(f"openai:{url}#m")
    settings = ModelSettings(remote_hosts=(server.host,))
    check_reach(card(url), settings)  # without a key, any of them may be asked
    if fine:
        check_reach(card(url, key_env="MY_KEY"), settings)
        return
    with pytest.raises(ConfigError, match="in clear") as caught:
        check_reach(card(url, key_env="MY_KEY"), settings)
    assert SECRET not in f"{caught.value.message} {caught.value.mend}"


# In a worker process


def test_a_worker_answers_and_takes_as_little_as_is_said(
    worker: Worker, home: Path, server: ModelServer
) -> None:
    assert worker.ask(REQUEST, lambda _text: None).text == "Paris."
    took = worker.resident_bytes()
    assert took <= memory_need(home, card(server.url), 4096) <= 2 * took


def test_the_seconds_to_wait_arrive_with_the_error(worker: Worker, server: ModelServer) -> None:
    server.reply = lambda handler: handler.say(429, {}, retry_after="17")
    with pytest.raises(RateLimited) as caught:
        worker.ask(REQUEST, lambda _text: None)
    assert caught.value.retry_after_s == 17.0
    assert worker.alive


def test_a_hanging_server_is_a_failure_of_its_own_and_not_of_the_worker(
    worker: Worker, server: ModelServer
) -> None:
    server.reply = lambda handler: bool(handler.server.over.wait(10))
    with pytest.raises(RemoteFailed, match="does not answer"):
        worker.ask(REQUEST, lambda _text: None)
    assert worker.alive


LONG_QUESTION = GenerationRequest(messages=(Message(role="user", content="word " * 2000),))


def test_a_long_prompt_makes_nobody_wait_longer_for_a_silent_server(
    worker: Worker, server: ModelServer
) -> None:
    server.reply = lambda handler: bool(handler.server.over.wait(10))
    began = time.monotonic()
    with pytest.raises(RemoteFailed, match="does not answer"):
        worker.ask(LONG_QUESTION, lambda _text: None)
    assert time.monotonic() - began < 2.5


def test_a_long_prompt_buys_time_only_for_models_of_this_machine() -> None:
    settings = ModelSettings(silence_timeout_s=2.0)
    assert worker_limits(card("http://127.0.0.1:1/v1"), settings).prefill_s == 0
    assert worker_limits(NEAR, settings).prefill_s > 0


def test_an_answer_that_is_stopped_in_silence_ends_with_its_worker(
    worker: Worker, server: ModelServer
) -> None:
    def reply(handler: ModelHandler) -> None:
        handler.begin()
        handler.event(delta("Par"))
        handler.server.over.wait(10)

    server.reply = reply
    pieces: list[str] = []
    began = time.monotonic()
    completion = worker.ask(REQUEST, pieces.append, should_stop=lambda: bool(pieces))
    assert (completion.text, completion.finish_reason) == ("Par", "cancelled")
    assert time.monotonic() - began < 2


def test_the_key_is_in_no_command_line_and_in_no_order(
    server: ModelServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    served = card(server.url, key_env="MY_KEY")
    spec = worker_spec(home, served, ModelSettings())
    assert SECRET not in repr(spec)
    worker = Worker(spec, worker_limits(served, ModelSettings()))
    try:
        assert SECRET not in " ".join(psutil.Process(worker.pid).cmdline())
    finally:
        worker.close()
    assert server.keys == [f"Bearer {SECRET}"]


# In the kernel


STEADY = Settings(selector=SelectorSettings(explore_share=0.0))


def ask(home: Path, *cards: ModelCard) -> tuple[Reply, list[str]]:
    """The reply, and the answers that are stored as given."""
    catalog = {each.name: each for each in cards}
    with open_kernel(home=home, settings=STEADY, catalog=catalog) as kernel:
        reply = kernel.tick(Request(messages=QUESTION, session="s"))
        return reply, [turn.answer for turn in kernel.store.turns()]


def test_the_kernel_asks_it_as_any_other(server: ModelServer, home: Path) -> None:
    assert ask(home, card(server.url))[1] == ["Paris."]


def test_an_answer_that_is_cut_off_is_not_given_and_another_model_is_asked(
    server: ModelServer, home: Path
) -> None:
    def cut_off(handler: ModelHandler) -> None:
        handler.begin()
        handler.event(delta("Paris is"))

    server.reply = cut_off
    reply, answers = ask(home, card(server.url), NEAR)
    assert answers == ["Lyon."]
    assert [failure.error for failure in reply.decision.failures] == ["RemoteFailed"]


def test_a_server_that_may_not_be_asked_is_left_out_with_the_reason(home: Path) -> None:
    reply, answers = ask(home, card("http://gpu.example/v1"), NEAR)
    assert answers == ["Lyon."]
    assert "gpu.example is not among the hosts" in reply.decision.excluded["far"]


# Cards


def test_a_card_needs_no_file_and_no_size(home: Path) -> None:
    (home / "catalog.toml").write_text(
        '[[model]]\nname = "far"\nsource = "openai:http://localhost:1/v1#a#b"\nbackend = "openai_http"\n'
        'license = "not stated"\ncontext_length = 2048\nkey_env = "MY_KEY"\n'
    )
    found = load_catalog(home)["far"]
    assert (found.bytes, found.key_env, state(found, home)) == (0, "MY_KEY", "present")
    pull(found, home)  # nothing to do, and no failure
    assert server_from(found.source) == Server(url="http://localhost:1/v1", model="a#b", host="localhost")


@pytest.mark.parametrize(
    "source",
    [
        "openai:",
        "openai:http://127.0.0.1/v1",
        "openai:http://127.0.0.1/v1#",
        "openai:ftp://127.0.0.1/v1#m",
        "openai:file:///etc/passwd#m",
        "openai:http://#m",
        "openai:http://[::1/v1#m",
        "openai:http://host:99999/v1#m",
        "openai:http://user:sk-5up3r-s3cret@host/v1#m",
        "openai:http://host/v1?key=sk-5up3r-s3cret#m",
        "openai:http://host/v1\n#m",
        "openai:http://hôst/v1#m",
        "openai:http://host/v1#m\n",
    ],
)
def test_an_address_that_is_none(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server_from(source)
    assert SECRET not in f"{caught.value.message} {caught.value.mend}"


@pytest.mark.parametrize(
    "host", ["127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "[::2]"]
)
def test_only_listed_hosts_are_reached(host: str) -> None:
    with pytest.raises(ConfigError, match="is not among the hosts"):
        check_reach(card(f"http://{host}/v1"), ModelSettings())


def test_a_listed_host_may_be_asked_unless_offline() -> None:
    far = card("https://GPU.example/v1")
    check_reach(far, ModelSettings(remote_hosts=("gpu.example",)))
    check_reach(card("http://[::1]:8080/v1"), ModelSettings(remote_hosts=("[::1]",), offline=True))
    with pytest.raises(ConfigError, match="offline"):
        check_reach(far, ModelSettings(remote_hosts=("gpu.example",), offline=True))


# The command


def test_a_server_is_added_checked_and_asked(run_sage: Any, server: ModelServer, home: Path) -> None:
    server.listing = lambda handler: handler.say(200, {"data": [{"id": "m", "max_model_len": 8192}]})
    done = run_sage("models", "add", "far", "--url", f"{server.url}/")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"far: {server.url} has m, 8192 tokens of context (as the server says)" in done.stdout
    assert run_sage("ask", "--model", "far", "Capital of France?").stdout.strip() == "Paris."
    assert "server" in next(
        line for line in run_sage("models", "list").stdout.splitlines() if line.startswith("far")
    )
    shown = run_sage("models", "show", "far").stdout
    assert "a server runs it" in shown
    assert "fits" in run_sage("models", "estimate", "far").stdout
    assert "nothing to pull" in run_sage("models", "pull", "far").stdout
    assert run_sage("models", "rm", "far").returncode == 0
    assert "far" not in load_catalog(home)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--model", "n"), 3, "has no model 'n'"),
        (("--url", "http://gpu.example/v1"), 2, "models.remote_hosts"),
        (("--url", "http://127.0.0.1:1/v1"), 4, "cannot be reached"),
        (("--url", "gpu.example"), 2, "needs a source such as"),
        (("--key-env", "NO_SUCH_KEY"), 2, "export NO_SUCH_KEY"),
        ((), 2, "offers 2 models"),
    ],
)
def test_a_server_that_cannot_be_added(
    run_sage: Any, server: ModelServer, home: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    server.models = ["m", "mm"]
    done = run_sage("models", "add", "far", "--url", server.url, *options)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert not (home / "catalog.toml").exists()


def test_the_name_of_another_model_is_not_taken(run_sage: Any, server: ModelServer) -> None:
    done = run_sage("models", "add", "gemma-3-270m", "--url", server.url)
    assert done.returncode == 2
    assert "already the name" in done.stderr


def test_no_event_and_no_error_holds_the_key(run_sage: Any, server: ModelServer, home: Path) -> None:
    env = {"MY_KEY": SECRET}
    assert (
        run_sage("models", "add", "far", "--url", server.url, "--key-env", "MY_KEY", env=env).returncode == 0
    )
    server.reply = lambda handler: handler.say(401, {"error": handler.headers["authorization"]})
    done = run_sage("ask", "--model", "far", "--json", "Hello", env=env)
    assert json.loads(done.stdout)["error"]["mend"] == "Check the key in MY_KEY"
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert SECRET.encode() not in written + done.stdout.encode() + done.stderr.encode()
    assert os.environ.get("MY_KEY") is None
