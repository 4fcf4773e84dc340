"""Two views of a text that need no model: its words and its characters, hashed into fixed widths.

Owns: tokens, n-grams, the hash. Must not know: models, files, what the vectors are used for.

Feature hashing with signs (Weinberger and others 2009): words and pairs of words, and runs of one to four
characters, each with weight 1 + log of its count. Inverse document frequency and more than 512 buckets were
tried and changed nothing. Arithmetic is in unsigned 64-bit numbers over little-endian code points, so a text
has the same vector on every machine and in every run: centroids that were shipped must keep their meaning.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

__all__ = ["HASHED_VIEWS", "HashingEmbedder", "hash_characters", "hash_words"]

WIDTH = 512
"""Buckets of one view."""

HASHED_VIEWS: Mapping[str, int] = MappingProxyType({"word": WIDTH, "char": WIDTH})
"""Name and width of each view."""

LONGEST = 4000
"""Characters that are read: half from the beginning, half from the end, because what is asked stands at
one of them. The share of each n-gram has settled by then, and time stays bounded for a text of any length."""

GRAMS = 4
"""The longest run of characters."""

_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]")
_DIGIT = re.compile(r"[0-9]")

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]

# Of a linear congruential generator (Knuth's MMIX) for runs, and of the finaliser of SplitMix64.
_TIMES, _PLUS = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_PAIR = np.uint64(0x9E3779B97F4A7C15)


class HashingEmbedder:
    """Both views. Needs nothing but numpy; about a tenth of a millisecond for a short text."""

    name = "hashing"
    views = HASHED_VIEWS

    def embed(self, texts: Sequence[str]) -> dict[str, Floats]:
        """``word`` and ``char``, each (n, 512), unit rows; a text without any word is a zero row."""
        found = {view: np.zeros((len(texts), width), np.float32) for view, width in self.views.items()}
        for row, text in enumerate(texts):
            found["word"][row] = hash_words(text)
            found["char"][row] = hash_characters(text)
        return found


def hash_words(text: str) -> Floats:
    """(512,): words, single digits and signs, and neighbouring pairs of them; case does not count."""
    tokens = _WORD.findall(_ends(text).lower())
    single = np.array([zlib.crc32(token.encode("utf-8", "surrogatepass")) for token in tokens], np.uint64)
    pairs = single[:-1] * _PAIR + single[1:] + _PLUS
    return _unit(np.concatenate([single, pairs]))


def hash_characters(text: str) -> Floats:
    """(512,): runs of one to four characters. Every digit is a 0 here: numbers differ, their shape tells."""
    words = _DIGIT.sub("0", " ".join(_ends(text).lower().split()))
    if not words:
        return np.zeros(WIDTH, np.float32)
    points = np.frombuffer(f" {words} ".encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    runs = [points * _TIMES + _PLUS]
    for length in range(1, GRAMS):
        before = runs[-1][: len(points) - length]
        runs.append((before + points[length:]) * _TIMES + _PLUS)
    return _unit(np.concatenate(runs))


def _ends(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} {text[-LONGEST // 2 :]}"


def _unit(hashes: Hashes) -> Floats:
    """One bucket and one sign for each distinct hash, weighted by its count, scaled to length 1."""
    if not len(hashes):
        return np.zeros(WIDTH, np.float32)
    hashes.sort()
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
    counts = np.diff(starts, append=len(hashes))
    mixed = hashes[starts]
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    sign = 1.0 - 2.0 * ((mixed >> np.uint64(40)) & np.uint64(1)).astype(np.float64)
    bucket = (mixed % np.uint64(WIDTH)).astype(np.intp)
    vector = np.bincount(bucket, sign * (1.0 + np.log(counts)), WIDTH)
    length = float(np.sqrt(vector @ vector))
    return (vector / length if length > 0.0 else vector).astype(np.float32)
