"""What the NAME of a command stands for: a model's card, the home it is in, and what was measured of it.

Owns: the arguments that the commands about models share. Must not know: the commands.
Only light imports at the top; the rest is imported when a command runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from sage.zoo.card import ModelCard

__all__ = ["AsJson", "Name", "check_runnable", "find_model", "measured_rates"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model; see: sage models list")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def find_model(name: str) -> tuple[ModelCard, Path]:
    """The card of this name, and SAGE_HOME.

    Raises:
        ModelNotFound: no card has this name.
    """
    from sage.config import sage_home
    from sage.zoo.catalog import every_card, find_card

    home = sage_home()
    return find_card(every_card(home), name), home


def check_runnable(card: ModelCard, home: Path) -> None:
    """Whether nothing is in this model's way.

    Raises:
        UnsafeFile, BackendMissing, ModelNotFound, WeightsMissing: what is, all of it; the kind is that of
        the first.
    """
    from sage.zoo.card_status import as_one, obstacles
    from sage.zoo.catalog import every_card

    if found := as_one(obstacles(card, home, every_card(home))):
        raise type(found)(f"{card.name}: {found.message}", mend=found.mend)


def measured_rates(home: Path, name: str) -> dict[str, float]:
    """The rates measured on this machine, by name; nothing where there is no database yet."""
    from sage.clock import SystemClock
    from sage.config import load_settings
    from sage.kernel.session import open_stores

    if not (home / "sage.db").exists():
        return {}
    with open_stores(home, load_settings(), SystemClock()) as stores:
        return stores.books.rates().get(name, {})
