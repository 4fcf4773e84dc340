"""``sage models add``: a model that a server runs becomes one of the models to choose from.

Owns: this command's words. Must not know: how a server is asked, or how a card is kept.
Only light imports at the top; the rest is imported when the command runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sage.zoo.backends.openai_http import ServedModel

__all__ = ["add"]

UNTOLD_CONTEXT = 4096
"""Tokens of context where neither the server nor the user says: what the smaller servers default to."""


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it here.")],
    url: Annotated[
        str, typer.Option("--url", help="The server's address, as http://127.0.0.1:11434/v1.", metavar="URL")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="What the server calls it; may be left out where it has only one.",
            metavar="MODEL",
        ),
    ] = "",
    key_env: Annotated[
        str, typer.Option("--key-env", help="The environment variable that holds the key.", metavar="VAR")
    ] = "",
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, help="Tokens it holds; left out: what the server says."),
    ] = None,
) -> None:
    """Add a model that a server runs.

    The server (vLLM, Ollama, llama-server, LM Studio, another SAGE) is asked for its list of models.
    """
    from dataclasses import replace

    from sage.cli.render import console, notes
    from sage.config import load_settings, sage_home
    from sage.errors import UsageError
    from sage.zoo.backends.openai_http import find_served, served_models
    from sage.zoo.card import ModelCard
    from sage.zoo.catalog import add_user_card, check_name, every_card
    from sage.zoo.remote import check_reach, server_from

    home, settings = sage_home(), load_settings().models
    catalog = every_card(home)
    known = catalog.get(check_name(name))
    if known and not known.remote:
        raise UsageError(f"{name!r} is already the name of another model", mend="Choose another NAME")
    card = ModelCard(
        name=name,
        source=f"openai:{url}#{model or 'any'}",
        sha256="",
        bytes=0,
        license="not stated",
        context_length=UNTOLD_CONTEXT,
        backend="openai_http",
        key_env=key_env,
    )
    check_reach(card, settings)
    url = server_from(card.source).url
    offered = served_models(url, key_env, list(settings.remote_hosts), settings.remote_connect_s)
    found = find_served(offered, model or _only_one(offered, url), url)
    tokens = context or found.context or UNTOLD_CONTEXT
    card = replace(card, source=f"openai:{url}#{found.name}", context_length=tokens)
    twins = [other.name for other in catalog.values() if other.source == card.source and other.name != name]
    add_user_card(home, card)
    who = "as you say" if context else "as the server says" if found.context else "assumed; see --context"
    console().print(
        f"{name}: {url} has {found.name}, {tokens} tokens of context ({who}). "
        f"Its card is in {home / 'catalog.toml'}",
        markup=False,
        soft_wrap=True,
    )
    if twins:
        notes().print(
            f"It is the same model as {', '.join(twins)}, and what is learned of one stays unknown of the "
            f"other. To keep one: sage models rm {twins[0]}",
            markup=False,
            soft_wrap=True,
        )


def _only_one(offered: tuple[ServedModel, ...], url: str) -> str:
    from sage.errors import UsageError

    if len(offered) != 1:
        names = ", ".join(sorted(each.name for each in offered)[:10]) or "none; load one there first"
        raise UsageError(
            f"{url} offers {len(offered)} models: say which with --model", mend=f"It has: {names}"
        )
    return offered[0].name
