"""The fewest loads that a sequence of chosen models can be served with, by who knows the future.

Owns: Belady's bound with sizes. Must not know: how the sequence came about.

With models of one size the bound is Belady's rule: whoever is needed last goes first (Belady 1966). With
sizes the rule is not optimal, and the problem is NP-hard in general; zoos are small, so the sets of models
that could be in memory are walked through one by one (dynamic programming). A set that stands worse than
another by as many loads as would turn the one into the other can be dropped. Where more than ``MOST_SETS``
are left, where a set could shrink in more than ``MOST_ROOMS`` ways, or once ``MOST_STEPS`` were looked at,
only the most promising go on, and the figure is what a clairvoyant reached, no bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

__all__ = ["Bound", "fewest_loads", "rooms"]

MOST_SETS = 2000
"""Sets of models that are followed at once; 14 models of which 3 fit at a time make 469."""

FEW_SETS = 50
"""How many are followed once the figure is no bound any more."""

MOST_ROOMS = 64
"""Ways in which one set makes room for one model: those that keep what is needed soonest."""

MOST_STEPS = 3_000_000
"""From one set to the next, in all: some seconds."""

COMPARED = 8
"""Of the best sets, how many the others are held against."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """``loads``: when a model was loaded, as positions in the sequence; ``held``: the models in memory after
    each of these, one bit a model; ``exact``: there is no way with fewer loads."""

    loads: tuple[int, ...]
    held: tuple[int, ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """How a set of models came to be in memory: the last load, and the way before it."""

    loads: int
    position: int = -1
    held: int = 0
    before: _Way | None = None


def fewest_loads(sequence: Sequence[int], sizes: Sequence[int], budget: int) -> Bound:
    """The fewest loads for these requests, from an empty memory. ``sizes`` and ``budget`` in bytes.

    A clairvoyant may keep whom it likes but has to have the model of each request in memory; it gains nothing
    from unloading or loading before it must.

    Raises:
        ValueError: a model of the sequence is larger than the budget.
    """
    if too_large := {model for model in sequence if sizes[model] > budget}:
        raise ValueError(f"models {sorted(too_large)} are larger than {budget} bytes")
    # A request for the model that was asked for last changes nothing.
    turns = [at for at, model in enumerate(sequence) if not at or sequence[at - 1] != model]
    ahead = _next_uses([sequence[at] for at in turns])
    best: dict[int, _Way] = {0: _Way(0)}
    exact, steps = True, 0
    for number, position in enumerate(turns):
        model, soon = sequence[position], ahead[number]
        after: dict[int, _Way] = {}
        for held, way in best.items():
            if held >> model & 1:
                _keep_better(after, held, way)
                continue
            found = rooms(held, sizes, budget - sizes[model], soon)
            for rest in islice(found, MOST_ROOMS):
                steps += 1
                grown = rest | 1 << model
                _keep_better(after, grown, _Way(way.loads + 1, position, grown, way))
            exact = exact and next(found, None) is None
        best = _sifted(after)
        exact = exact and len(best) <= MOST_SETS and steps <= MOST_STEPS
        if not exact and len(best) > FEW_SETS:
            best = _most_promising(best, soon)
    ways = list(_loads(min(best.values(), key=lambda way: way.loads)))[::-1]
    return Bound(loads=tuple(way.position for way in ways), held=tuple(way.held for way in ways), exact=exact)


def rooms(held: int, sizes: Sequence[int], room: int, soon: Mapping[int, int]) -> Iterator[int]:
    """The largest subsets of ``held`` (one bit a model) that fit into ``room`` (0 or more bytes): none could
    keep one more. First come those that keep what is needed soonest (``soon``: in how many turns)."""
    members = [model for model in range(len(sizes)) if held >> model & 1]
    members.sort(key=lambda model: soon.get(model, math.inf))
    after = [*accumulate((sizes[model] for model in reversed(members)), initial=0)][::-1]

    def walk(start: int, kept: int, left: int, least_out: float) -> Iterator[int]:
        if least_out <= left - after[start]:
            return  # who is out would fit, whoever else is kept
        if after[start] <= left:
            yield kept | sum(1 << model for model in members[start:])
            return
        size = sizes[members[start]]
        if size <= left:
            yield from walk(start + 1, kept | 1 << members[start], left - size, least_out)
        yield from walk(start + 1, kept, left, min(least_out, size))

    yield from walk(0, 0, room, math.inf)


def _keep_better(ways: dict[int, _Way], held: int, way: _Way) -> None:
    if held not in ways or way.loads < ways[held].loads:
        ways[held] = way


def _sifted(ways: Mapping[int, _Way]) -> dict[int, _Way]:
    """Without sets that one of the best could be turned into with no more loads than they are behind."""
    least = min(way.loads for way in ways.values())
    best = [held for held, way in ways.items() if way.loads == least][:COMPARED]
    return {
        held: way
        for held, way in ways.items()
        if way.loads == least or all((held & ~other).bit_count() > way.loads - least for other in best)
    }


def _most_promising(ways: Mapping[int, _Way], soon: Mapping[int, int]) -> dict[int, _Way]:
    """The sets with the fewest loads whose models are needed soonest."""

    def order(held: int) -> tuple[int, float]:
        return ways[held].loads, -sum(1.0 / at for model, at in soon.items() if held >> model & 1)

    return {held: ways[held] for held in sorted(ways, key=order)[:FEW_SETS]}


def _next_uses(models: Sequence[int]) -> list[dict[int, int]]:
    """For each turn, in how many turns each model is asked for again."""
    when: dict[int, int] = {}
    uses = []
    for number in range(len(models) - 1, -1, -1):
        uses.append({model: at - number for model, at in when.items()})
        when[models[number]] = number
    return uses[::-1]


def _loads(way: _Way | None) -> Iterator[_Way]:
    """The loads, last first."""
    while way is not None and way.before is not None:
        yield way
        way = way.before
