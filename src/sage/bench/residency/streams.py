"""Requests one after another: which question, and when it is asked.

Owns: the four kinds of stream. Must not know: policies, memory.

  bursty       one topic after another, on average ``BURST`` questions each
  uniform      any question at any time
  alternating  two topics whose best models differ the most and, where there are such, do not fit together,
               one to three questions each in turn: what makes a router swap back and forth
  day          bursts that come often by day and seldom at night, for three days

Questions are drawn again and again from those given. Arrivals are random (exponential gaps), ``gap_s``
apart on average, by ``day`` at noon.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sage.bench.route_data import Floats, Ints

__all__ = ["STREAMS", "Stream", "StreamKind", "make_stream"]

StreamKind = Literal["bursty", "uniform", "alternating", "day"]

STREAMS: tuple[StreamKind, ...] = get_args(StreamKind)

BURST = 25.0
DAYS = 3.0
DAY_S = 86_400.0
NIGHT = 0.02
"""Of the requests by noon, how many come at midnight."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stream:
    """``rows`` of the questions and ``at``, seconds from the start, both (requests,)."""

    kind: StreamKind
    rows: Ints
    at: Floats


def make_stream(
    kind: StreamKind,
    rows: Ints,
    categories: Sequence[str],
    expected: Floats,
    sizes: Sequence[int],
    *,
    budget: int,
    gap_s: float,
    requests: int,
    random: np.random.Generator,
) -> Stream:
    """``rows`` may be asked; ``categories`` (all questions); ``expected`` (all questions, models) says who is
    best in a topic; ``gap_s`` seconds from one request to the next."""
    topics = [rows[np.array([categories[row] == name for row in rows])] for name in _names(rows, categories)]
    if kind == "uniform":
        chosen = random.choice(rows, requests)
    elif kind == "alternating":
        pair = _rivals(topics, expected, sizes, budget)
        chosen = _in_turn(pair, requests, random)
    else:
        chosen = _bursts(topics, requests, random)
    at = _by_day(requests, gap_s, random) if kind == "day" else np.cumsum(random.exponential(gap_s, requests))
    return Stream(kind=kind, rows=chosen, at=at)


def _names(rows: Ints, categories: Sequence[str]) -> list[str]:
    return sorted({categories[row] for row in rows})


def _bursts(topics: Sequence[Ints], requests: int, random: np.random.Generator) -> Ints:
    share = np.array([len(topic) for topic in topics], float)
    asked: list[Ints] = []
    while sum(map(len, asked)) < requests:
        topic = topics[int(random.choice(len(topics), p=share / share.sum()))]
        asked.append(random.choice(topic, int(random.geometric(1.0 / BURST))))
    return np.concatenate(asked)[:requests]


def _rivals(topics: Sequence[Ints], expected: Floats, sizes: Sequence[int], budget: int) -> tuple[Ints, Ints]:
    """The two topics that lose the most by each other's best model, those that do not fit together first."""
    best = (-1.0, -1.0)
    found = (topics[0], topics[-1])
    for one, other in itertools.combinations(topics, 2):
        mean_one, mean_other = expected[one].mean(0), expected[other].mean(0)
        a, b = int(mean_one.argmax()), int(mean_other.argmax())
        lost = float(mean_one[a] - mean_one[b] + mean_other[b] - mean_other[a])
        apart = float(a != b and sizes[a] + sizes[b] > budget)
        if (apart, lost) > best:
            best, found = (apart, lost), (one, other)
    return found


def _in_turn(pair: tuple[Ints, Ints], requests: int, random: np.random.Generator) -> Ints:
    asked: list[Ints] = []
    for topic in itertools.cycle(pair):
        asked.append(random.choice(topic, int(random.integers(1, 4))))
        if sum(map(len, asked)) >= requests:
            break
    return np.concatenate(asked)[:requests]


def _by_day(requests: int, gap: float, random: np.random.Generator) -> Floats:
    """Arrivals whose density follows the sun; they fill the days, and come no closer than ``gap`` at noon,
    where they are twice as dense as on average.

    A unit-rate process is bent by the inverse of the density's integral, read from a table.
    """
    length = max(DAYS * DAY_S, 2.0 * gap * requests)
    clock = np.linspace(0.0, length, 24 * 60)
    light = 0.5 * (1.0 - np.cos(2.0 * math.pi * clock * DAYS / length))
    done = np.concatenate([[0.0], np.cumsum(NIGHT + (1.0 - NIGHT) * light[1:])])
    unit = np.cumsum(random.exponential(1.0, requests))
    at: Floats = np.interp(unit / unit[-1], done / done[-1], clock)
    return at
