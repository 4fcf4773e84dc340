"""Why a model that is known cannot be run here, now; or that nothing is in its way.

Owns: the order in which obstacles are named. Must not know: memory, budgets, or who asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sage.errors import BackendMissing, ModelNotFound, SageError, UnsafeFile, WeightsMissing
from sage.zoo.card import ModelCard
from sage.zoo.sources import check_size

__all__ = ["as_one", "how_to_get", "obstacle", "obstacles", "status", "stored_bits"]

LIBRARIES = {"transformers": (("torch", "transformers"), "pip install 'sage-kernel[neural]'")}
"""Python modules of a backend that is not part of every installation, and the command that brings them."""

OF_BASE = "of its base"

MORE_THAN_CLAIMED = 1.25
"""Stored bits above this many times the claimed ones contradict the claim; scales and finer layers do not."""


def obstacle(card: ModelCard, home: Path, catalog: Mapping[str, ModelCard]) -> SageError | None:
    """The first reason why ``card`` cannot be loaded, as the error to raise; None where there is none.

    Headers and hashes are not read, so a file that is here may still turn out to be damaged. ``UnsafeFile``:
    unfit as published, or another size than on the card. ``BackendMissing``: a Python module is lacking.
    ``ModelNotFound``, ``WeightsMissing``: its base is no known model, or weights are not here.
    """
    return next(_obstacles(card, home, catalog), None)


def obstacles(card: ModelCard, home: Path, catalog: Mapping[str, ModelCard]) -> tuple[SageError, ...]:
    """Every reason why ``card`` cannot be loaded, so that nobody mends one to be told the next."""
    return tuple(_obstacles(card, home, catalog))


def as_one(found: Iterable[SageError]) -> SageError | None:
    """Several obstacles as one error: of the kind of the first, with every message and every mend. Of those
    with the same mend (a library that a model and its base need) the first speaks for all."""
    by_mend = dict[str, SageError]()
    for error in found:
        by_mend.setdefault(error.mend, error)
    if not by_mend:
        return None
    errors = tuple(by_mend.values())
    return type(errors[0])("; ".join(error.message for error in errors), mend=" && ".join(by_mend))


def _obstacles(card: ModelCard, home: Path, catalog: Mapping[str, ModelCard]) -> Iterator[SageError]:
    if card.unfit:  # nothing else would help
        yield UnsafeFile(f"it cannot be run: {card.unfit}", mend=f"sage models show {card.name}")
        return
    modules, mend = LIBRARIES.get(card.backend, ((), ""))
    if lacking := [name for name in modules if not _installed(name)]:
        yield BackendMissing(f"it needs {', '.join(lacking)}", mend=mend)
    if lacking := [name for name in card.requires if not _installed(name)]:
        packages = " ".join(name.replace("_", "-") for name in lacking)
        yield BackendMissing(f"it needs {', '.join(lacking)}", mend=f"pip install {packages}")
    if card.base:
        yield from _obstacles_of_base(card, home, catalog)
    if card.backend == "fake" or card.remote:
        return
    try:
        check_size(card, home)
    except UnsafeFile as error:
        yield error
    except WeightsMissing:
        yield WeightsMissing("its weights are not here", mend=how_to_get(card))


def _obstacles_of_base(card: ModelCard, home: Path, catalog: Mapping[str, ModelCard]) -> Iterator[SageError]:
    base = catalog.get(card.base)
    show = f"sage models show {card.name}"
    if base is None:
        yield ModelNotFound(f"{OF_BASE} {card.base} nothing is known", mend=show)
    # An adapter on an adapter is refused: two cards that name each other would go round for ever.
    elif base.base:
        yield UnsafeFile(f"{OF_BASE} {base.name}: it is an adapter itself", mend=show)
    else:
        for found in _obstacles(base, home, catalog):
            yield type(found)(f"{OF_BASE} {base.name}: {found.message}", mend=found.mend)


def how_to_get(card: ModelCard) -> str:
    """The command that brings a model's weights, or finds them anew."""
    if card.source == "unpublished" or card.source.startswith("path:"):
        return "sage models discover --add FOLDER"
    return f"sage models pull {card.name}"


def status(card: ModelCard, found: SageError | None) -> str:
    """One or two words for ``obstacle``'s answer, for a column of a table."""
    if found is None:
        return "scripted" if card.backend == "fake" else "server" if card.remote else "on disk"
    if card.unfit:
        return "unfit"
    if isinstance(found, BackendMissing):
        return f"needs {found.message.rpartition(' needs ')[2]}"
    if isinstance(found, WeightsMissing) and not found.message.startswith(OF_BASE):
        return "unpublished" if card.source == "unpublished" else "not pulled"
    return "base missing" if card.base and OF_BASE in found.message else "damaged"


def stored_bits(card: ModelCard) -> tuple[float, bool] | None:
    """Bits on disk for each weight, to a tenth, and whether the card claims as much; None where either is
    unknown."""
    size = card.expected_bytes
    if not (size and card.parameters and card.bits):
        return None
    stored = size * 8 / card.parameters
    return round(stored, 1), stored <= card.bits * MORE_THAN_CLAIMED


@cache
def _installed(module: str) -> bool:
    """Looked up once a process: a search of all folders for a module that is not there takes 0.1 ms."""
    return bool(re.fullmatch(r"[A-Za-z_]\w*", module)) and find_spec(module) is not None
