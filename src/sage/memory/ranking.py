"""Which messages answer a question: signs of a fit, weighed.

Owns: the score of every candidate and the weights. Must not know: where anything is stored, what is done with
it.

The weights are plain numbers chosen on LoCoMo's development conversations (docs/measured.md), none fitted to
the tenth. What two people's chats show (who is named, who was asked) counts nothing where it does not occur.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sage.memory.index import ASKS, FIRST_PERSON, NAMES_AT, TIME, Index
from sage.memory.lexical import Asked

__all__ = ["Floats", "around", "lexical_scores", "score"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

AFTER, BEFORE, REACH = 0.7, 0.5, 4
"""A word counts for the messages around it too, less with each step: more for those after it, because the
words of a question stand in what was asked just before the answer."""

COMMON = 0.05
"""A word in more than this share of a large memory counts where it stands only."""

LARGE = 20_000

WEIGHTS = {
    "lexical": 3.0,
    "meaning": 12.0,
    "session": 3.0,
    "speaker": 1.5,
    "length": 0.2,
    "answers": 0.35,
    "time": 1.0,
    "own": 0.25,
    "names": 0.15,
}
"""``lexical`` and ``session`` are shares of the question's words (0..1), ``meaning`` a difference of cosines,
``length`` counts e-folds, ``names`` up to three, the others are yes or no."""


def lexical_scores(index: Index, asked: Asked) -> tuple[Floats, float, float]:
    """(rows of the index,): the idf of the question's words found at or around each message; how much all its
    words that occur anywhere weigh together, and how much with those that do not."""
    count = len(index.records)
    total, most = np.zeros(count, np.float32), 0.0
    unknown = float(np.log(1 + (count + 0.5) / 0.5))
    missing = 0
    for at, weights in index.postings(asked.terms):
        missing += not len(at)
        if len(at):
            idf = float(np.log(1 + (count - len(at) + 0.5) / (len(at) + 0.5)))
            most += idf
            found = np.zeros(count, np.float32)
            found[at] = weights
            if count < LARGE or len(at) < COMMON * count:
                for link, fade in ((index.behind, AFTER), (index.before, BEFORE)):
                    near, strength = at, weights
                    for _ in range(REACH):
                        near = link[near]
                        kept = near >= 0
                        near, strength = near[kept], strength[kept] * np.float32(fade)
                        found[near] = np.maximum(found[near], strength)
            total += np.float32(idf) * found
    for date in _dates(index, asked):
        idf = float(np.log(1 + (count - date.sum() + 0.5) / (date.sum() + 0.5)))
        most += idf
        total += np.float32(idf) * date
    return total, most, most + missing * unknown


def _dates(index: Index, asked: Asked) -> list[Floats]:
    """For each part of a date that the question names, the messages said then."""
    if not (asked.months or asked.years):
        return []
    days = (index.records["at"] // 86400).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    result = []
    if asked.months:
        result.append(np.isin(months.astype(np.int64) % 12 + 1, list(asked.months)))
    if asked.years:
        result.append(np.isin(months.astype("datetime64[Y]").astype(np.int64) + 1970, list(asked.years)))
    if asked.days:
        result.append(np.isin((days - months).astype(np.int64) + 1, list(asked.days)))
    return [part.astype(np.float32) for part in result if part.any()]


def around(values: Floats, rows: Ints, index: Index) -> Floats:
    """(candidates, pieces): each value or what a neighbour among the candidates has of it, faded."""
    place = np.full(len(index.records) + 1, -1, np.int64)
    place[rows] = np.arange(len(rows))
    best = values.copy()
    for link, fade in ((index.before, AFTER), (index.behind, BEFORE)):
        near = rows
        for step in range(1, REACH):
            near = np.where(near >= 0, link[near], -1)
            held = place[near]
            there = np.flatnonzero(held >= 0)
            best[there] = np.maximum(best[there], values[held[there]] * np.float32(fade**step))
    return best


def score(
    index: Index, asked: Asked, rows: Ints, lexical: Floats, meaning: Floats | None, *, who: frozenset[int]
) -> Floats:
    """(candidates,): how well each fits.

    ``lexical`` is the share of the question's words for every candidate; ``meaning`` is (candidates, pieces),
    NaN where it is not known, or None where there is no sentence model; ``who`` are keys of the speakers whom
    the question names.
    """
    records = index.records[rows]
    traits = records["traits"]
    before = index.before[rows]
    asked_before = (before >= 0) & (index.records["traits"][before] & ASKS > 0)
    result = WEIGHTS["lexical"] * lexical + WEIGHTS["session"] * _by_session(records["session"], lexical)
    result = result + WEIGHTS["length"] * np.log1p(np.minimum(records["length"], 60))
    result += WEIGHTS["answers"] * asked_before + WEIGHTS["own"] * (traits & FIRST_PERSON > 0)
    result += WEIGHTS["names"] * (traits >> NAMES_AT)
    if asked.when:
        result += WEIGHTS["time"] * (traits & TIME > 0)
    if len(who) == 1:
        result += WEIGHTS["speaker"] * np.isin(records["speaker"], list(who))
    if meaning is not None and not np.isnan(meaning).all():
        centre = np.nanmean(meaning, axis=0, keepdims=True)
        above = np.maximum(np.nan_to_num(meaning - centre), 0)
        result += WEIGHTS["meaning"] * around(above, rows, index).mean(1)
    return np.asarray(result, np.float32)


def _by_session(sessions: Ints, values: Floats) -> Floats:
    """For each candidate the mean of the three best values of its session."""
    order = np.lexsort((-values, sessions))
    held = sessions[order]
    starts = np.flatnonzero(np.concatenate([[True], held[1:] != held[:-1]]))
    group = np.cumsum(np.concatenate([[True], held[1:] != held[:-1]])) - 1
    rank = np.arange(len(order)) - starts[group]
    best = np.bincount(group, np.where(rank < 3, values[order], 0.0)) / 3
    result = np.zeros(len(values), np.float32)
    result[order] = best[group]
    return result
