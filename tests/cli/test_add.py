"""``sage models add`` as a user meets it: a model known twice, servers that fail, keys that are not named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..zoo.model_server import ModelHandler, ModelServer, delta, serving


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as served:
        yield served


def test_nothing_is_asked_of_the_model_itself(run_sage: Any, server: ModelServer) -> None:
    assert run_sage("models", "add", "far", "--url", server.url).returncode == 0
    assert server.asked == [], "a billed server asks for money"


def test_one_model_under_two_names_is_noted(run_sage: Any, server: ModelServer) -> None:
    assert run_sage("models", "add", "far", "--url", server.url).stderr == ""
    assert run_sage("models", "add", "far", "--url", server.url).stderr == "", "its own name is no other"
    done = run_sage("models", "add", "away", "--url", f"{server.url}/")
    assert done.returncode == 0
    assert "the same model as far" in done.stderr
    assert "sage models rm far" in done.stderr


def _cut(handler: ModelHandler) -> None:
    handler.begin(200, "application/json", content_length="100")
    handler.wfile.write(b'{"data": [')


@pytest.mark.parametrize(
    ("listing", "said", "mend"),
    [
        (lambda handler: handler.say(401, {"error": "no"}), "refused the key", "--key-env VARIABLE"),
        (lambda handler: handler.say(500, {"error": "oh"}), "status 500: oh", "that server's log"),
        (_cut, "broke the connection", "that server's log"),
        (lambda handler: handler.say(404, {}), "status 404", "ends in /v1"),
        (lambda handler: handler.say(200, b"<html>", "text/html"), "did not name", "ends in /v1"),
    ],
)
def test_a_server_that_fails_says_what_to_do(
    run_sage: Any, server: ModelServer, listing: Any, said: str, mend: str
) -> None:
    server.listing = listing
    done = run_sage("models", "add", "far", "--url", server.url)
    assert done.returncode == 4
    assert said in done.stderr
    assert mend in done.stderr.partition("fix: ")[2]


def test_a_key_in_place_of_its_variable(run_sage: Any, server: ModelServer) -> None:
    done = run_sage("models", "add", "far", "--url", server.url, "--key-env", "sk-secret")
    assert done.returncode == 2
    assert "--key-env MY_SERVER_KEY" in done.stderr
    assert "sk-secret" not in done.stderr + done.stdout


def test_an_answer_that_is_cut_says_where_to_look(run_sage: Any, server: ModelServer) -> None:
    def reply(handler: ModelHandler) -> None:
        handler.begin()
        handler.event(delta("Par"))

    assert run_sage("models", "add", "far", "--url", server.url).returncode == 0
    for reply_, said in ((reply, "before its answer"), (lambda h: h.say(500, {"error": "oh"}), "status 500")):
        server.reply = reply_
        done = run_sage("ask", "--model", "far", "Hello")
        assert done.returncode == 4
        assert "that server's log" in done.stderr, said
