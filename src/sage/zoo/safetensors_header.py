"""Read the header of a safetensors file that nobody vouches for, and refuse what cannot be right.

Owns: the safetensors format (https://github.com/huggingface/safetensors#format): eight bytes of length, a
JSON object, the tensors' bytes without a gap. Must not know: which model it is or how it will run.

No tensor is read. The JSON's entries are counted before it is parsed, so that no header can take more than
about 200 MB of memory.
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sage.errors import UnsafeFile, WeightsMissing

__all__ = ["SafetensorsHeader", "StoredTensor", "vet_safetensors"]

MAX_HEADER = 16 << 20
MAX_TENSORS = 65_536
MAX_ENTRIES = 6 * MAX_TENSORS
"""Colons of a header: four a tensor, and as much again as half of them in its notes and in names."""

MAX_DIMENSIONS = 8
MAX_EXTENT = (1 << 63) - 1
MAX_NAME = 1024

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """One tensor as it lies in the file. ``dtype`` is the format's name, such as ``BF16``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetensorsHeader:
    """What a file says about itself, checked against the file. Sizes are bytes; tensors in their order."""

    tensors: tuple[StoredTensor, ...]
    file_bytes: int


class _TwiceError(ValueError):
    """A key of a JSON object that is there two times: readers differ in which one they take."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _TwiceError
    return value


def vet_safetensors(path: Path) -> SafetensorsHeader:
    """The header of a file whose tensors lie inside it, one behind the other, each of its stated size.

    Raises:
        UnsafeFile: anything else. WeightsMissing: there is no such file.
    """

    def refuse(what: str) -> UnsafeFile:
        return UnsafeFile(f"{path.name}: {what}", mend="Get the file again, from a source you trust.")

    try:
        # Not blocking: opening a pipe that nobody writes to would wait for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise refuse("not a file")
            text = _header(file, found.st_size, refuse)
    except FileNotFoundError as error:
        raise WeightsMissing(f"There is no file {path}") from error
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from error
    if text.count(b"[") > 2 * MAX_TENSORS or text.count(b"{") > MAX_TENSORS + 2:
        raise refuse(f"more than {MAX_TENSORS} tensors")
    if text.count(b":") > MAX_ENTRIES or text.count(b",") > MAX_ENTRIES + MAX_DIMENSIONS * MAX_TENSORS:
        raise refuse(f"more than {MAX_ENTRIES} entries")
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_object)
    except _TwiceError as error:
        raise refuse("a name is there twice") from error
    except (ValueError, RecursionError) as error:
        raise refuse("its header is not JSON") from error
    if not isinstance(table, dict):
        raise refuse("its header is not a table")
    notes = table.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise refuse("its __metadata__ is not a table of texts")
    if not table:
        raise refuse("there is no tensor in it")
    return SafetensorsHeader(
        tensors=_tensors(table, found.st_size - 8 - len(text), refuse), file_bytes=found.st_size
    )


def _header(file: BinaryIO, size: int, refuse: Any) -> bytes:
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > MAX_HEADER or length > size - 8:
        raise refuse(f"a header of {length} bytes in a file of {size}; at most {MAX_HEADER} are allowed")
    text = file.read(length)
    if len(text) < length:
        raise refuse("the file shrank while it was read")
    return text


def _tensors(table: dict[str, Any], room: int, refuse: Any) -> tuple[StoredTensor, ...]:
    spans: list[tuple[int, int, StoredTensor]] = []
    for name, entry in table.items():
        where = f"tensor {name[:80]!r}"
        if (
            not name.isprintable()
        ):  # control characters, lone surrogates: they would reach a terminal or a log
            raise refuse(f"{where} has a name that cannot be printed")
        if len(name) > MAX_NAME or not isinstance(entry, dict):
            raise refuse(f"{where} is not described")
        if set(entry) != {"dtype", "shape", "data_offsets"}:
            raise refuse(f"{where} has not just dtype, shape and data_offsets")
        bits = BITS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if bits is None:
            raise refuse(f"{where} has the unknown type {entry['dtype']!r:.40}")
        shape, offsets = _counts(entry["shape"], MAX_DIMENSIONS), _counts(entry["data_offsets"], 2)
        if shape is None or offsets is None or len(offsets) != 2:
            raise refuse(f"{where} has an impossible shape or place")
        elements = math.prod(shape)
        begin, end = offsets
        if elements > MAX_EXTENT or elements * bits % 8 or end - begin != elements * bits // 8:
            raise refuse(f"{where} of shape {list(shape)} takes {end - begin} bytes, which cannot be")
        if end > room:
            raise refuse(f"{where} ends at byte {end} of {room}: the file is cut short")
        tensor = StoredTensor(name=name, dtype=entry["dtype"], shape=shape, bytes=end - begin)
        spans.append((begin, end, tensor))
    spans.sort(key=lambda span: span[:2])
    at, before = 0, "the header"
    for begin, end, tensor in spans:
        if begin != at:
            raise refuse(f"tensor {tensor.name[:80]!r} does not begin where {before[:80]!r} ends")
        at, before = end, tensor.name
    if at != room:
        raise refuse(f"{room - at} bytes belong to no tensor")
    return tuple(tensor for _, _, tensor in spans)


def _counts(value: Any, most: int) -> tuple[int, ...] | None:
    """The list as whole numbers that a file can hold; None where it is anything else."""
    if not isinstance(value, list) or len(value) > most:
        return None
    sound = all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= MAX_EXTENT for v in value)
    return tuple(value) if sound else None
