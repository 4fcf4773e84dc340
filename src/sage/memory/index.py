"""Where each word was said: the index of one namespace, in blocks that never change.

Owns: the tables ``recall_blocks`` and ``recall_postings``, and what is remembered of them in this process.
Must not know: how a question is answered from it.

A block holds ``BLOCK`` passages: a record of each, and for each term the passages it occurs in with its
weight there. A recall reads the records once a process (31 bytes a passage) and then only the postings of its
own words. What is in no block yet is read as it was said. When a passage is forgotten its block goes with it
(a trigger) and is made again from what is left.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sage.errors import StoreError
from sage.memory.db import Database
from sage.memory.lexical import glance, name_key, term_key, terms
from sage.memory.passages import Passage, PassageStore

__all__ = ["Index", "Ints", "Records"]

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]
Floats = npt.NDArray[np.float32]
Postings = tuple[Ints, Floats]

BLOCK = 512
"""Passages of one block: more make the unindexed rest slower to read, fewer make more rows to look up."""

RECORD = np.dtype(
    [
        ("id", "<i8"),
        ("session", "<i8"),
        ("at", "<f8"),
        ("speaker", "<u4"),
        ("length", "<u2"),
        ("traits", "u1"),
    ]
)
FIRST_PERSON, ASKS, TIME, CHANGE, NAMES_AT = 1, 2, 4, 8, 4
"""Bits of ``traits``: it speaks of its speaker, asks, names a time, says that something changed; from bit 4
on, how many names it has."""

SATURATION, LENGTH_SHARE, USUAL_TERMS = 0.6, 0.3, 16.0
"""BM25's k1 and b, fitted on messages rather than documents, and a fixed usual length: so that a weight that
was stored stays right whatever is said later."""

FORGOTTEN = "passages.forgotten"


class Index:
    """One namespace. Not safe to call from two threads at once; rows count its passages in the order of
    ids."""

    def __init__(self, db: Database, namespace: str) -> None:
        self._db = db
        self._namespace = namespace
        self._store = PassageStore(db)
        self._seen: str | None = None
        self._whole: str | None = None
        self._clear()

    def refresh(self) -> None:
        """Take in what was said or forgotten since the last time, by this or another process; make blocks
        first where much is in none."""
        self._read()
        if len(self.records) - self._blocked > 2 * BLOCK:
            with contextlib.suppress(StoreError):  # without, it is only slower
                if self.seal():
                    self._seen = None
                    self._read()

    def _read(self) -> None:
        with self._db.transaction(write=False):
            seen = self._forgotten()
            if self._seen != seen:
                self._clear()
                self._load()
                self._seen = seen
            last = int(self.records["id"][-1]) if len(self.records) else 0
            while new := self._store.after(last, namespace=self._namespace, limit=4 * BLOCK):
                self._append(new)
                last = new[-1].id

    def seal(self, *, most: int | None = None) -> int:
        """Make blocks (``most``, or all there can be) of whatever is in none, where there is enough; returns
        how many were made."""
        made = 0
        if self._db.read_only:
            return made
        while made != most:
            with self._db.transaction():
                gap = next(self._gaps(), None)
                if gap is None:
                    return made
                self._store_block(gap)
            made += 1
        return made

    def postings(self, wanted: Sequence[str]) -> list[Postings]:
        """For each term the rows it occurs in, growing, and its weight (0..1] there."""
        keys = [term_key(term) for term in wanted]
        parts: dict[int, list[tuple[int, bytes]]] = {key: [] for key in keys}
        if self._starts and keys:
            marks = ", ".join("?" * len(keys))
            rows = self._db.execute(
                "SELECT p.block, p.term, p.data FROM recall_blocks b CROSS JOIN recall_postings p"  # noqa: S608
                f" ON p.block = b.id AND p.term IN ({marks}) WHERE b.namespace = ? ORDER BY b.first",
                (*keys, self._namespace),
            )
            for block, key, data in rows:
                if block in self._starts:  # else it was made after these records were read
                    parts[key].append((self._starts[block], data))
        return [_joined(parts[key], self._rest.get(key, ([], []))) for key in keys]

    def _clear(self) -> None:
        self.records: Records = np.zeros(0, RECORD)
        self.before: Ints = np.zeros(0, np.int64)
        """Row of the message before in the same session, -1 where there is none."""
        self.behind: Ints = np.zeros(0, np.int64)
        """Row of the message after."""
        self._blocked = 0
        self._starts: dict[int, int] = {}
        self._rest: dict[int, tuple[list[int], list[float]]] = {}
        self._newest: dict[int, int] = {}

    def _load(self) -> None:
        """Records of the blocks up to the first gap; what comes after one is read as it was said."""
        parts, last = [], 0
        for block, first, end, data in self._db.execute(
            "SELECT id, first, last, columns FROM recall_blocks WHERE namespace = ? ORDER BY first",
            (self._namespace,),
        ):
            if self._between(last, first):
                break
            self._starts[block] = self._blocked
            parts.append(np.frombuffer(data, RECORD))
            self._blocked += len(parts[-1])
            last = end
        if parts:
            self._link(np.concatenate(parts))

    def _between(self, low: int, high: int) -> bool:
        sql = "SELECT 1 FROM passages WHERE namespace = ? AND id > ? AND id < ? LIMIT 1"
        return bool(self._db.execute(sql, (self._namespace, low, high)))

    def _link(self, records: Records) -> None:
        self.records = records
        order = np.argsort(records["session"], kind="stable")
        same = records["session"][order[1:]] == records["session"][order[:-1]]
        self.before, self.behind = np.full(len(records), -1), np.full(len(records), -1)
        self.before[order[1:][same]] = order[:-1][same]
        self.behind[order[:-1][same]] = order[1:][same]
        ends = order[np.append(~same, True)] if len(order) else order
        self._newest = dict(zip(records["session"][ends].tolist(), ends.tolist(), strict=True))

    def _append(self, new: Sequence[Passage]) -> None:
        start = len(self.records)
        read = [terms(passage.text) for passage in new]
        added = _records(new, read)
        for row, found in enumerate(read, start=start):
            for key, weight in _weights(found).items():
                at, weights = self._rest.setdefault(key, ([], []))
                at.append(row)
                weights.append(weight)
        self.records = np.concatenate([self.records, added])
        self.before = np.concatenate([self.before, np.full(len(new), -1)])
        self.behind = np.concatenate([self.behind, np.full(len(new), -1)])
        for row, session in enumerate(added["session"].tolist(), start=start):
            if (last := self._newest.get(session)) is not None:
                self.before[row], self.behind[last] = last, row
            self._newest[session] = row

    def _forgotten(self) -> str:
        """How many passages were ever forgotten: it changes whenever a block may have gone."""
        rows = self._db.execute("SELECT value FROM facts WHERE name = ?", (FORGOTTEN,))
        return str(rows[0][0]) if rows else ""

    def _gaps(self) -> Iterator[list[Passage]]:
        """Passages that should become a block: a full one at the end, or all that lies between two blocks."""
        forgotten, last = self._forgotten(), 0
        ranges = self._db.execute(
            "SELECT first, last FROM recall_blocks WHERE namespace = ? ORDER BY first", (self._namespace,)
        )
        if ranges and forgotten == self._whole:  # only what is forgotten makes a hole
            ranges, last = [], ranges[-1][1]
        for first, end in ranges:
            if self._between(last, first):
                found = self._store.after(last, namespace=self._namespace, limit=BLOCK)
                yield [passage for passage in found if passage.id < first]
            last = end
        found = self._store.after(last, namespace=self._namespace, limit=BLOCK)
        self._whole = forgotten
        if len(found) == BLOCK:
            yield found

    def _store_block(self, passages: Sequence[Passage]) -> None:
        read = [terms(passage.text) for passage in passages]
        block = self._db.execute(
            "INSERT INTO recall_blocks (namespace, first, last, columns) VALUES (?, ?, ?, ?) RETURNING id",
            (self._namespace, passages[0].id, passages[-1].id, _records(passages, read).tobytes()),
        )[0][0]
        rows: dict[int, tuple[list[int], list[int]]] = {}
        for row, found in enumerate(read):
            for key, weight in _weights(found).items():
                at, weights = rows.setdefault(key, ([], []))
                at.append(row)
                weights.append(max(1, round(255 * weight)))
        for key in sorted(rows):
            at, weights = rows[key]
            data = np.array(at, "<u2").tobytes() + bytes(weights)
            self._db.execute("INSERT INTO recall_postings VALUES (?, ?, ?)", (block, key, data))


def _joined(parts: Sequence[tuple[int, bytes]], rest: tuple[list[int], list[float]]) -> Postings:
    """What blocks say of a term, each with its first row, and what is in none."""
    counts = [len(data) // 3 for _, data in parts]
    at = np.frombuffer(b"".join(data[: 2 * n] for n, (_, data) in zip(counts, parts, strict=True)), "<u2")
    weights = np.frombuffer(b"".join(data[2 * n :] for n, (_, data) in zip(counts, parts, strict=True)), "u1")
    rows = at.astype(np.int64) + np.repeat(np.array([start for start, _ in parts], np.int64), counts)
    shares = weights.astype(np.float32) / np.float32(255)
    return (
        np.concatenate([rows, np.array(rest[0], np.int64)]),
        np.concatenate([shares, np.array(rest[1], np.float32)]),
    )


def _records(passages: Sequence[Passage], read: Sequence[Sequence[str]]) -> Records:
    records = np.zeros(len(passages), RECORD)
    for row, (passage, found) in enumerate(zip(passages, read, strict=True)):
        seen = glance(passage.text)
        traits = FIRST_PERSON * seen.first_person | ASKS * seen.asks | TIME * seen.time | CHANGE * seen.change
        traits |= seen.names << NAMES_AT
        session = zlib.crc32(passage.session.encode("utf-8", "replace"))
        speaker = name_key(passage.speaker)
        records[row] = (passage.id, session, passage.at, speaker, min(len(found), 65535), traits)
    return records


def _weights(found: Sequence[str]) -> dict[int, float]:
    usual = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * len(found) / USUAL_TERMS)
    return {term_key(term): count / (count + usual) for term, count in Counter(found).items()}
