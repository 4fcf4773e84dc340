"""Read the header of a GGUF file that nobody vouches for, and refuse what cannot be right.

Owns: the GGUF format, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
Must not know: which model it is, where it came from, how it will run.

The loader is C++ and trusts much of what it reads, so a file is vetted before it gets there. Every
number is checked against what is left of the file before it is used; nothing is allocated by a
count the file states; the file is read in small pieces, never mapped (a file cut short while it is
mapped kills the process).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import BinaryIO

from sage.errors import UnsafeFile, WeightsMissing
from sage.zoo.ggml import GGML_TYPES, GgmlType

__all__ = ["ArraySummary", "GgufHeader", "MetadataValue", "TensorInfo", "read_gguf", "vet_gguf"]

MAX_TENSORS = MAX_PAIRS = 65_536
MAX_STRING = 64 << 20
MAX_NAME = 65_535  # keys, by the specification; the same is kind to tensor names
MAX_HEADER = 256 << 20
MAX_ALIGNMENT = 64 << 10
MAX_ELEMENTS = (1 << 63) - 1  # ggml counts in int64
KEEP_ARRAY = 1024  # longer arrays are vocabularies: only their length is kept
KEEP_TOTAL = 65_536  # over all arrays, or 65,536 short arrays would take gigabytes as Python objects
KEEP_STRING = 64 << 10  # of a longer value the beginning: nobody here reads more than that it is there
KEEP_TEXT = 8 << 20  # bytes of text over the whole header; as Python text they may take four times as much
CHUNK = 1 << 20

STRING, ARRAY = 8, 9
SCALARS = {
    number: struct.Struct(f"<{code}")
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
U32, U64 = SCALARS[4], SCALARS[10]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraySummary:
    """An array too long to keep. ``type`` is the GGUF number of its elements' type."""

    type: int
    length: int


MetadataValue = int | float | bool | str | tuple[int | float | bool | str, ...] | ArraySummary


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """One tensor. ``offset`` counts from ``GgufHeader.data_offset``; ``bytes`` is without padding.

    ``shape`` is as in the file: the fastest-running dimension first.
    """

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufHeader:
    """What a file says about itself. Sizes and offsets are bytes."""

    version: int
    metadata: Mapping[str, MetadataValue]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    file_bytes: int

    @property
    def architecture(self) -> str:
        """``general.architecture``, or an empty string."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else ""


class _Reader:
    """Walks a file front to back; ``where`` is the offset of the next unread byte."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self._file = file
        self.path = path
        self.size = size
        self._buffer = b""
        self._at = 0
        self._base = 0  # offset in the file of self._buffer[0]
        self._kept = 0
        self._kept_text = 0

    @property
    def where(self) -> int:
        return self._base + self._at

    def refuse(self, what: str) -> UnsafeFile:
        return UnsafeFile(
            f"{self.path.name}: {what} (byte {self.where})",
            mend="Get the file again, from a source you trust.",
        )

    def _ensure(self, count: int) -> None:
        """Make ``count`` bytes available in the buffer, or refuse."""
        if len(self._buffer) - self._at >= count:
            return
        if count > self.size - self.where:
            raise self.refuse(f"cut short: {count} bytes needed, {self.size - self.where} left")
        if self.where + count > MAX_HEADER:
            raise self.refuse("the header is longer than 256 MiB")
        rest = self._buffer[self._at :]
        self._base += self._at
        self._at = 0
        # Reading is bounded by the file's real size, so a lying length cannot make us allocate.
        self._buffer = rest + self._file.read(max(count - len(rest), CHUNK))
        if len(self._buffer) < count:
            raise self.refuse("the file shrank while it was read")

    def number(self, kind: struct.Struct) -> int:
        self._ensure(kind.size)
        value: int = kind.unpack_from(self._buffer, self._at)[0]
        self._at += kind.size
        return value

    def text(self, what: str, limit: int) -> str:
        length = self.number(U64)
        if length > limit:
            raise self.refuse(f"{what} of {length} bytes; at most {limit} are allowed")
        keep = min(length, KEEP_STRING)
        self._kept_text += keep
        if self._kept_text > KEEP_TEXT:
            raise self.refuse(f"more than {KEEP_TEXT} bytes of names and texts")
        self._ensure(keep)
        raw = self._buffer[self._at : self._at + keep]
        self._at += keep
        self.skip(length - keep)
        # Vocabularies hold broken UTF-8 on purpose; only names must be sound, and those are compared.
        return raw.decode("utf-8", "replace")

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes without holding more than a piece of them."""
        if count > self.size - self.where:
            raise self.refuse(f"cut short: {count} bytes needed, {self.size - self.where} left")
        while count:
            step = min(count, CHUNK)
            self._ensure(step)
            self._at += step
            count -= step

    def skip_strings(self, count: int) -> None:
        """Pass over ``count`` strings: the hot loop, a vocabulary has up to 300,000."""
        unpack = U64.unpack_from
        while count:
            buffer, at, end = self._buffer, self._at, len(self._buffer) - 8
            while count and at <= end:
                length = unpack(buffer, at)[0]
                if length > MAX_STRING:
                    self._at = at
                    raise self.refuse(f"a string of {length} bytes; at most {MAX_STRING} are allowed")
                after: int = at + 8 + length
                if after > end + 8:
                    break
                at = after
                count -= 1
            self._at = at
            if count:
                self.skip(self.number(U64))
                count -= 1

    def value(self, kind: int, key: str) -> MetadataValue:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text(f"the value of {key!r}", MAX_STRING)
        if kind == ARRAY:
            return self._array(key)
        raise self.refuse(f"{key!r} has the unknown type {kind}")

    def _array(self, key: str) -> MetadataValue:
        kind, length = self.number(U32), self.number(U64)
        if kind == ARRAY:
            raise self.refuse(f"{key!r} is an array of arrays")
        if kind not in SCALARS and kind != STRING:
            raise self.refuse(f"{key!r} is an array of the unknown type {kind}")
        smallest = 8 if kind == STRING else SCALARS[kind].size
        if length > (self.size - self.where) // smallest:
            raise self.refuse(f"{key!r} claims {length} elements, more than the file can hold")
        if length <= KEEP_ARRAY and self._kept + length <= KEEP_TOTAL:
            self._kept += length
            if kind == STRING:
                return tuple(self.text(f"an element of {key!r}", MAX_STRING) for _ in range(length))
            return tuple(self.number(SCALARS[kind]) for _ in range(length))
        if kind == STRING:
            self.skip_strings(length)
        else:
            self.skip(length * smallest)
        return ArraySummary(type=kind, length=length)


@contextmanager
def _open(path: Path) -> Iterator[_Reader]:
    try:
        # Looked at before it is opened: opening a FIFO would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnsafeFile(f"{path.name} is not a regular file", mend="Name a GGUF file.")
        with path.open("rb", buffering=0) as file:
            yield _Reader(file, path, os.fstat(file.fileno()).st_size)
    except FileNotFoundError as error:
        raise WeightsMissing(f"There is no file {path}", mend=f"ls {quote(str(path.parent))}") from error
    except OSError as error:
        raise UnsafeFile(
            f"{path.name} cannot be read: {error.strerror}", mend=f"ls -l {quote(str(path))}"
        ) from error


def _tensor(reader: _Reader, names: set[str]) -> TensorInfo:
    name = reader.text("a tensor name", MAX_NAME)
    if name in names:
        raise reader.refuse(f"two tensors are named {name!r}")
    names.add(name)
    dims = reader.number(U32)
    if not 1 <= dims <= 4:
        raise reader.refuse(f"tensor {name!r} has {dims} dimensions, not 1 to 4")
    shape = tuple(reader.number(U64) for _ in range(dims))
    elements = 1
    for extent in shape:
        elements *= extent
    if not 1 <= elements <= MAX_ELEMENTS:
        raise reader.refuse(f"tensor {name!r} has an impossible shape {shape}")
    number = reader.number(U32)
    kind = GGML_TYPES.get(number)
    if kind is None:
        raise reader.refuse(f"tensor {name!r} has the unknown type {number}")
    if shape[0] % kind.block:
        raise reader.refuse(
            f"tensor {name!r}: rows of {shape[0]} are no multiple of {kind.name}'s {kind.block}"
        )
    size = elements // kind.block * kind.size
    return TensorInfo(name=name, shape=shape, type=kind, offset=reader.number(U64), bytes=size)


def _alignment(reader: _Reader, metadata: Mapping[str, MetadataValue]) -> int:
    value = metadata.get("general.alignment", 32)
    sound = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ALIGNMENT
    if not isinstance(value, int) or not sound or value & (value - 1):
        raise reader.refuse(f"general.alignment is {value!r}, not a power of two up to {MAX_ALIGNMENT}")
    return value


def read_gguf(path: Path) -> GgufHeader:
    """Parse the header; tensor data is not touched, nor compared with the header.

    Raises:
        UnsafeFile: not a GGUF file of version 2 or 3, or a header that cannot be right.
        WeightsMissing: there is no such file.
    """
    with _open(path) as reader:
        if reader.size < 24 or reader.number(U32) != 0x46554747:  # "GGUF", little-endian
            raise reader.refuse("not a GGUF file")
        version = reader.number(U32)
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            if swapped in (1, 2, 3):
                raise reader.refuse("a big-endian GGUF file; only little-endian ones can be run here")
            raise reader.refuse(f"GGUF version {version}; 2 and 3 are known")
        tensor_count, pair_count = reader.number(U64), reader.number(U64)
        if tensor_count > MAX_TENSORS:
            raise reader.refuse(f"{tensor_count} tensors; at most {MAX_TENSORS} are allowed")
        if pair_count > MAX_PAIRS:
            raise reader.refuse(f"{pair_count} metadata entries; at most {MAX_PAIRS} are allowed")
        metadata: dict[str, MetadataValue] = {}
        for _ in range(pair_count):
            key = reader.text("a metadata key", MAX_NAME)
            if key in metadata:
                raise reader.refuse(f"the metadata key {key!r} occurs twice")
            metadata[key] = reader.value(reader.number(U32), key)
        names: set[str] = set()
        tensors = tuple(_tensor(reader, names) for _ in range(tensor_count))
        alignment = _alignment(reader, metadata)
        return GgufHeader(
            version=version,
            metadata=metadata,
            tensors=tensors,
            alignment=alignment,
            data_offset=-(-reader.where // alignment) * alignment,
            file_bytes=reader.size,
        )


def vet_gguf(path: Path) -> GgufHeader:
    """``read_gguf``, and every tensor lies where it should: aligned, inside the file, on its own.

    Raises:
        UnsafeFile: as ``read_gguf``, or no model, a truncated file, misplaced or overlapping tensors.
        WeightsMissing: there is no such file.
    """
    header = read_gguf(path)

    def refuse(what: str) -> UnsafeFile:
        return UnsafeFile(f"{path.name}: {what}", mend="Get the file again, from a source you trust.")

    if not header.architecture:
        raise refuse("no general.architecture, so nothing says how to run it")
    if not header.tensors:
        raise refuse("no tensors")
    room = header.file_bytes - header.data_offset
    end, before = 0, ""
    for tensor in sorted(header.tensors, key=lambda t: t.offset):
        where = f"tensor {tensor.name!r} at byte {header.data_offset + tensor.offset}"
        if tensor.offset % header.alignment:
            raise refuse(f"{where} is not aligned to {header.alignment}")
        if tensor.offset + tensor.bytes > room:
            raise refuse(f"{where} needs {tensor.bytes} bytes, past the end: the file is cut short")
        if tensor.offset < end:
            raise refuse(f"{where} overlaps tensor {before!r}")
        end, before = tensor.offset + tensor.bytes, tensor.name
    return header
