"""A model that a server runs: its address, whether it may be asked, and what its worker must know.

Owns: the form ``openai:URL#MODEL``, the list of hosts that may be asked, and where a key comes from.
Must not know: HTTP, or what such a server answers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sage.errors import ConfigError

if TYPE_CHECKING:  # the worker reads this module too, and has no use for the settings' library
    from sage.config import ModelSettings
    from sage.zoo.card import ModelCard

__all__ = [
    "WORKER_BYTES",
    "Server",
    "check_host",
    "check_reach",
    "is_loopback",
    "is_private",
    "key_from",
    "remote_options",
    "server_from",
]

WORKER_BYTES = 35_000_000
"""What the worker of such a model takes: Python, the HTTP library, certificates, the check of schemas."""

LOCAL_ENDS = (".localhost", ".local", ".internal", ".home.arpa")
"""Names that no public network has. Sources: RFC 6761, RFC 6762, ICANN 2024, RFC 8375."""

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
"""Capitals only: a key that was put where the name of its variable belongs hardly ever looks like this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Where a model is served: ``url`` up to and without ``/models``, and what it is called there."""

    url: str
    model: str
    host: str


def server_from(source: str) -> Server:
    """Read ``openai:URL#MODEL``.

    Raises:
        ConfigError: it is not of that form, or the URL holds a password or a query, which would be shown.
    """
    url, _, model = source.removeprefix("openai:").partition("#")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    plain = host and url.isascii() and url.isprintable() and not {" ", "@", "?"} & set(url)
    if not plain or parts.scheme not in ("http", "https") or not model.strip() or not model.isprintable():
        # Not repeated: what is wrong with it may be that it holds a password.
        raise ConfigError(
            "A model on a server needs a source such as openai:http://127.0.0.1:11434/v1#llama3.2",
            mend="Give http or https, a host, a path, '#' and the model; keys belong into key_env",
        )
    return Server(url=url.rstrip("/"), model=model, host=host)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by its name alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_private(host: str) -> bool:
    """Whether the host is on no public network, by its name or number alone; a name without a dot is one of
    the own network."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(LOCAL_ENDS)


def check_host(host: str, allowed: Iterable[str]) -> None:
    """Whether the host is on the list.

    Raises:
        ConfigError: it is not.
    """
    known = [name.strip("[]").lower() for name in allowed]
    if host.lower() not in known:
        listed = ", ".join(f'"{name}"' for name in (*known, host))
        raise ConfigError(
            f"{host} is not among the hosts that may be asked", mend=f"models.remote_hosts = [{listed}]"
        )


def key_from(variable: str, server: Server) -> str:
    """The key for that server in that environment variable; empty where none is named. It never appears in
    an error.

    Raises:
        ConfigError: the name cannot be one, the variable is not set, its value cannot be sent, or all on the
            way could read it.
    """
    if not variable:
        return ""
    if not server.url.startswith("https:") and not is_private(server.host):
        raise ConfigError(
            f"A key would go to {server.host} in clear, for all on the way to read",
            mend=f"Use https:// for {server.host}, or ask it without a key",
        )
    if not VARIABLE.fullmatch(variable):
        raise ConfigError(
            "key_env is not the name of an environment variable",
            mend="Put the key into a variable, and name it: --key-env MY_SERVER_KEY (key_env on a card)",
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"the key in {variable} is not set", mend=f"export {variable}=...")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the key in {variable} cannot be sent", mend=f"Set {variable} to the key alone")
    return key


def check_reach(card: ModelCard, settings: ModelSettings) -> None:
    """Whether this card's server may be asked from here; nothing is sent.

    Raises:
        ConfigError: a wrong address or key, a host that is not allowed, or ``models.offline``.
    """
    server = server_from(card.source)
    check_host(server.host, settings.remote_hosts)
    if settings.offline and not is_loopback(server.host):
        raise ConfigError(
            f"models.offline forbids asking {server.host}",
            mend="Choose a model of this machine, or SAGE_MODELS__OFFLINE=false",
        )
    key_from(card.key_env, server)


def remote_options(card: ModelCard, settings: ModelSettings) -> dict[str, Any]:
    """What the worker is told of the server; of the key, only the name of its variable.

    Raises:
        ConfigError: as ``check_reach``.
    """
    check_reach(card, settings)
    server = server_from(card.source)
    return {
        "url": server.url,
        "model": server.model,
        "key_env": card.key_env,
        "hosts": list(settings.remote_hosts),
        "connect_s": settings.remote_connect_s,
        "silence_s": settings.silence_timeout_s,
    }
