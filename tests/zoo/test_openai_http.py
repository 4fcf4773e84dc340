"""The backend of servers: what it asks, what it reads, whom it trusts with a key."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sage.errors import (
    ConfigError,
    ContextTooLong,
    RateLimited,
    RemoteFailed,
    SageError,
    WeightsMissing,
)
from sage.types import Completion, GenerationRequest
from sage.zoo.backends.openai_http import served_models

from .model_server import (
    END,
    HOSTS,
    QUESTION,
    ModelHandler,
    ModelServer,
    Open,
    Reply,
    answering,
    ask,
    delta,
    opening,
    serving,
)

SECRET = "sk-5up3r-s3cret"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as served:
        yield served


@pytest.fixture
def engine(server: ModelServer) -> Iterator[Open]:
    with opening(server.url) as load:
        yield load


# What is asked, and what is read


def test_a_request_says_everything_that_was_asked_for(server: ModelServer, engine: Open) -> None:
    schema = {"type": "object"}
    ask(engine(), max_tokens=9, temperature=0.5, seed=0, stop=("END",), schema=schema)
    assert server.asked == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Capital of France?"}],
            "max_tokens": 9,
            "temperature": 0.5,
            "seed": 0,
            "stop": ["END"],
            "stream": True,
            "stream_options": {"include_usage": True},
            "logprobs": True,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            },
        }
    ]


def test_an_answer_comes_in_pieces_with_its_counts(server: ModelServer, engine: Open) -> None:
    completion, pieces = ask(engine())
    assert pieces == ["Paris", "."]
    assert completion == Completion(text="Paris.", prompt_tokens=7, completion_tokens=2, finish_reason="stop")


def test_log_probabilities_and_cached_tokens_are_read(server: ModelServer, engine: Open) -> None:
    def reply(handler: ModelHandler) -> None:
        handler.begin()
        handler.event(delta("Pa", logprobs={"content": [{"token": "Pa", "logprob": -0.25}]}))
        handler.event(delta("ris", logprobs={"content": [{"token": "ris", "logprob": 1e-9}]}))
        usage = {"prompt_tokens": 20, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 15}}
        handler.event(END | {"usage": usage})

    server.reply = reply
    completion, _ = ask(engine())
    assert completion.logprobs == (-0.25, 0.0)  # a probability above one is a rounding error
    assert (completion.prompt_tokens, completion.cached_tokens) == (20, 15)


def test_the_text_of_thoughts_is_left_out_and_its_log_probabilities_too(
    server: ModelServer, engine: Open
) -> None:
    def reply(handler: ModelHandler) -> None:
        handler.begin()
        thought = {"delta": {"reasoning_content": "Hm."}, "logprobs": {"content": [{"logprob": -3.0}]}}
        handler.event({"choices": [thought]})
        handler.event(delta("Paris", logprobs={"content": [{"logprob": -0.5}]}))
        handler.event(END)

    server.reply = reply
    completion, pieces = ask(engine())
    assert (completion.text, completion.logprobs, pieces) == ("Paris", (-0.5,), ["", "Paris"])


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("stop", "stop"), ("eos_token", "stop"), ("length", "length"), ("max_tokens", "length")],
)
def test_reasons_to_end(server: ModelServer, engine: Open, reason: str, ours: str) -> None:
    def reply(handler: ModelHandler) -> None:
        handler.begin()
        handler.event(delta("Paris"))
        handler.event({"choices": [{"delta": {}, "finish_reason": reason}]})

    server.reply = reply  # it ends without [DONE], but not before the answer does
    assert ask(engine())[0].finish_reason == ours


def test_an_answer_that_ends_with_done_alone_is_whole(server: ModelServer, engine: Open) -> None:
    def reply(handler: ModelHandler) -> None:
        handler.begin()
        handler.event(delta("Paris"))
        handler.event(b"[DONE]")

    server.reply = reply
    assert ask(engine())[0].finish_reason == "stop"


def test_stopping_closes_the_stream_so_that_the_server_stops(server: ModelServer, engine: Open) -> None:
    left: list[int] = []

    def reply(handler: ModelHandler) -> None:
        handler.begin()
        for number in range(1000):
            try:
                handler.event(delta(f"{number} "))
            except OSError:
                left.append(number)
                return
            time.sleep(0.005)

    server.reply = reply
    request = GenerationRequest(messages=QUESTION)
    completion = engine().generate(request, lambda _text: True)
    assert (completion.text, completion.finish_reason, completion.completion_tokens) == ("0", "cancelled", 1)
    end = time.monotonic() + 3
    while not left and time.monotonic() < end:
        time.sleep(0.01)
    assert left
    assert left[0] < 100


@pytest.mark.parametrize("name", ["logprobs", "stream_options", "max_tokens"])
def test_what_a_server_refuses_and_can_do_without_is_not_sent_again(
    server: ModelServer, engine: Open, name: str
) -> None:
    def reply(handler: ModelHandler) -> None:
        if name in server.asked[-1]:
            handler.say(400, {"error": {"message": f"Unsupported parameter: '{name}'"}})
        else:
            answering("Paris")(handler)

    server.reply = reply
    loaded = engine()
    assert [ask(loaded, max_tokens=5)[0].text for _ in range(2)] == ["Paris", "Paris"]
    assert [name in body for body in server.asked] == [True, False, False]
    assert ("max_completion_tokens" in server.asked[-1]) == (name == "max_tokens")


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (429, "Too many tokens: lower max_tokens", RateLimited),
        (500, "logprobs failed", RemoteFailed),
        (400, "This model's maximum context length is 9; you asked for max_tokens", ContextTooLong),
    ],
)
def test_what_refuses_no_parameter_is_not_asked_anew(
    server: ModelServer, engine: Open, status: int, words: str, kind: type[SageError]
) -> None:
    server.reply = lambda handler: handler.say(status, {"error": {"message": words}})
    with pytest.raises(kind):
        ask(engine())
    assert len(server.asked) == 1


def test_the_loopback_of_ipv6(engine: Open) -> None:
    with serving(ModelServer(socket.AF_INET6)) as server:
        assert ask(engine(url=server.url))[0].text == "Paris."


# Loading


def test_loading_names_the_model_that_was_meant(server: ModelServer, engine: Open) -> None:
    server.models = ["llama3.2-3b", "phi"]
    with pytest.raises(WeightsMissing, match=r"Did you mean 'llama3.2-3b'\?") as caught:
        engine(model="llama3.2")
    assert "phi" in caught.value.mend


def test_names_that_could_steer_a_terminal_or_fill_it_are_not_offered(
    server: ModelServer, engine: Open
) -> None:
    names: list[object] = [1, ["a"], None, "", " ", "\x1b]0;pwned\x07", "a\nb", "\u202eevil", "A" * 257]
    items = [{"id": name} for name in [*names, "A" * 256, "good"]]
    server.listing = lambda handler: handler.say(200, {"data": items})
    assert [each.name for each in served_models(server.url, "", HOSTS, 1.0)] == ["A" * 256, "good"]
    with pytest.raises(WeightsMissing, match="no model 'm'"):
        engine()


def test_a_tag_of_ollama_may_be_left_out(server: ModelServer, engine: Open) -> None:
    server.models = ["llama3.2:latest"]
    ask(engine(model="llama3.2"))
    assert server.asked[0]["model"] == "llama3.2"


def test_a_server_tells_how_long_its_contexts_are(server: ModelServer) -> None:
    items = [
        {"id": "vllm", "max_model_len": 8192},
        {"id": "llama", "meta": {"n_ctx_train": 2048}},
        {"id": "liar", "max_model_len": -5, "context_length": "many"},
        {"id": "mute"},
    ]
    server.listing = lambda handler: handler.say(200, {"data": items})
    found = served_models(server.url, "", HOSTS, 1.0)
    assert [(each.name, each.context) for each in found] == [
        ("vllm", 8192),
        ("llama", 2048),
        ("liar", 0),
        ("mute", 0),
    ]


@pytest.mark.parametrize(
    ("listing", "error", "said"),
    [
        (lambda handler: handler.say(200, b"<html>hello", "text/html"), RemoteFailed, "name its models"),
        (lambda handler: handler.say(200, {"data": [{"name": "m"}]}), RemoteFailed, "name its models"),
        (lambda handler: handler.say(200, ["m"]), RemoteFailed, "name its models"),
        (lambda handler: handler.say(200, b"[" * 100_000), RemoteFailed, "name its models"),
        (lambda handler: handler.say(200, {"data": None}), WeightsMissing, "no model"),
        (lambda handler: handler.say(404, b""), RemoteFailed, "404"),
        (lambda handler: handler.say(503, {"error": {"message": "Loading model"}}), RemoteFailed, "Loading"),
        (lambda handler: handler.say(302, b"", location="http://127.0.0.1:1/"), RemoteFailed, "elsewhere"),
        (lambda handler: handler.say(200, b" " * (9 << 20)), RemoteFailed, "more than the"),
        (lambda handler: handler.begin(200, "x", content_encoding="gzip"), RemoteFailed, "packs"),
        (lambda handler: handler.server.over.wait(5), RemoteFailed, "does not answer"),
    ],
)
def test_a_list_of_models_that_is_none(
    server: ModelServer, engine: Open, listing: Reply, error: type[SageError], said: str
) -> None:
    server.listing = listing
    with pytest.raises(error, match=said):
        engine(connect_s=0.3)


def test_nobody_at_that_address(engine: Open) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(RemoteFailed, match="cannot be reached") as caught:
            engine(url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
    assert caught.value.mend == "Start that server"


def test_a_host_that_is_not_on_the_list_is_not_asked(server: ModelServer, engine: Open) -> None:
    with pytest.raises(ConfigError, match=r"^127.0.0.1 is not among") as caught:
        engine(hosts=["localhost"])
    assert caught.value.mend == 'models.remote_hosts = ["localhost", "127.0.0.1"]'
    assert not server.keys


# Keys


def test_the_key_is_sent_from_the_environment(
    server: ModelServer, engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", f" {SECRET}\n")
    ask(engine(key_env="MY_KEY"))
    assert server.keys == [f"Bearer {SECRET}"] * 2


def test_no_key_is_sent_where_none_is_named(server: ModelServer, engine: Open) -> None:
    ask(engine())
    assert server.keys == [None, None]


@pytest.mark.parametrize(
    ("variable", "value"), [("MY_KEY", ""), ("MY_KEY", "two words"), ("MY_KEY", "schlüssel"), (SECRET, "")]
)
def test_a_key_that_is_none(
    server: ModelServer, engine: Open, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError) as caught:
        engine(key_env=variable)
    assert not server.keys
    assert SECRET not in f"{caught.value.message} {caught.value.mend}"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_and_not_shown(
    server: ModelServer, engine: Open, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    server.reply = lambda handler: handler.say(
        status, {"error": f"Bad key {handler.headers['authorization']}"}
    )
    with pytest.raises(RemoteFailed, match=r"Bad key Bearer \*\*\*$") as caught:
        ask(engine(key_env="MY_KEY"))
    assert caught.value.mend == "Check the key in MY_KEY"


def test_proxies_of_the_environment_are_not_asked_for_loopback(
    server: ModelServer, engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask(engine())[0].text == "Paris."


@pytest.mark.parametrize("key_env", ["", "MY_KEY"])
def test_no_proxy_sees_a_key_in_clear(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, key_env: str
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    with suppress(RemoteFailed):  # nobody is there
        served_models("http://10.255.255.1:9/v1", key_env, ["10.255.255.1"], 0.3)
    assert server.keys == ([] if key_env else [None])
