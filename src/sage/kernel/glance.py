"""What was found about a model's files, kept for a moment, and no longer than they stay as they are.

Owns: how long such an answer holds. Must not know: what was asked about the files, or what is in them.

Every decision asks about every model that is here. Looking through a hundred folders takes 15 ms, a ``stat``
of each instead 0.2 ms. What a decision gets wrong by this is seen when the model is loaded: its files
are looked at again then.
"""

from __future__ import annotations

import copy
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sage.clock import Clock
from sage.errors import SageError
from sage.zoo.card import ModelCard
from sage.zoo.sources import model_path

__all__ = ["HOLDS_S", "Glance"]

HOLDS_S: Final = 1.0
"""A file that comes or goes changes the time of its folder and is seen at once; one that is written over in
its place is seen after so many seconds."""

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    marks: tuple[Any, ...]
    until: float
    value: Any
    error: SageError | None


class Glance:
    """One question about a card (``look``), asked anew when the answer is old or what lies at the card's
    place, or at its base's, was replaced or changed its time. What has no files of its own is always
    asked anew."""

    def __init__(self, home: Path, catalog: Mapping[str, ModelCard], clock: Clock) -> None:
        self._home, self._catalog, self._clock = home, catalog, clock
        self._places: dict[tuple[str, str, str], tuple[str, ...]] = {}

    def at(self, look: Callable[[ModelCard], Found]) -> Callable[[ModelCard], Found]:
        """``look``, which may raise a SageError, with its answers kept."""
        kept: dict[str, _Answer] = {}

        def glance(card: ModelCard) -> Found:
            if card.remote or card.backend == "fake":
                return look(card)
            marks, now = (card.bytes, *map(_mark, self._where(card))), self._clock.monotonic()
            answer = kept.get(card.name)
            if answer is None or answer.marks != marks or not now < answer.until:
                answer = kept[card.name] = _ask(look, card, marks, now + _holds_s(card.name))
            if answer.error is not None:
                # A copy for each, or the tracebacks of many threads would grow into one.
                raise copy.copy(answer.error).with_traceback(None)
            found: Found = answer.value
            return found

        return glance

    def _where(self, card: ModelCard) -> tuple[str, ...]:
        key = (card.name, card.source, card.base)
        if key not in self._places:
            base = self._catalog.get(card.base) if card.base else None
            cards = (card, base) if base else (card,)
            self._places[key] = tuple(str(model_path(each, self._home)) for each in cards)
        return self._places[key]


def _holds_s(name: str) -> float:
    """Half of ``HOLDS_S`` to all of it, by name: else one decision a second would look at all files."""
    return HOLDS_S * (1.0 + zlib.crc32(name.encode()) / 2**32) / 2.0


def _ask(look: Callable[[ModelCard], Any], card: ModelCard, marks: tuple[Any, ...], until: float) -> _Answer:
    try:
        return _Answer(marks=marks, until=until, value=look(card), error=None)
    except SageError as error:
        return _Answer(marks=marks, until=until, value=None, error=error)


def _mark(place: str) -> tuple[int, ...]:
    """What changes when a file does, or what is in a folder; empty where there is nothing."""
    try:
        found = os.stat(place)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
