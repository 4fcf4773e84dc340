"""Whether the servers that run models can be asked now: all at the same time, and none for a word.

Owns: the time that is given to them. Must not know: how a server is spoken with, or what follows from it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sage.errors import RemoteFailed, SageError
from sage.zoo.backends.openai_http import ServedModel, find_served, served_models
from sage.zoo.remote import check_reach, server_from

if TYPE_CHECKING:
    from sage.config import ModelSettings
    from sage.zoo.card import ModelCard

__all__ = ["WAIT_S", "ask_servers"]

WAIT_S = 2.0
"""For all servers together; one on the own network answers in a hundredth of that."""


def ask_servers(
    cards: Iterable[ModelCard], settings: ModelSettings, wait_s: float = WAIT_S
) -> dict[str, SageError | None]:
    """Why each of these models, which servers run, cannot be asked now; None where it can.

    Only the lists of models are asked for, each server's once, and ``wait_s`` seconds are allowed in all.
    """
    failures, models = dict[str, SageError | None](), list[tuple[str, str, tuple[str, str]]]()
    for card in cards:
        try:
            check_reach(card, settings)
        except SageError as error:
            failures[card.name] = error
            continue
        server = server_from(card.source)
        models.append((card.name, server.model, (server.url, card.key_env)))
    answers = dict[tuple[str, str], tuple[ServedModel, ...] | SageError]()

    def ask(url: str, key_env: str) -> None:
        try:
            answers[url, key_env] = served_models(url, key_env, list(settings.remote_hosts), wait_s)
        except SageError as error:
            answers[url, key_env] = error

    # No pool: a process that ends waits for the threads of one, and a server may hang.
    threads = [threading.Thread(target=ask, args=at, daemon=True) for at in {at for _, _, at in models}]
    until = time.monotonic() + wait_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    for name, model, at in models:
        failures[name] = _failure(answers.get(at), model, at[0], wait_s)
    return failures


def _failure(
    answer: tuple[ServedModel, ...] | SageError | None, model: str, url: str, wait_s: float
) -> SageError | None:
    if answer is None:
        return RemoteFailed(f"{url} does not answer within {wait_s:g} s", mend="Look after that server")
    if isinstance(answer, SageError):
        return answer
    try:
        find_served(answer, model, url)
    except SageError as error:
        return error
    return None
