"""The GGUF header reader: what is sound is read, everything else is UnsafeFile and nothing worse."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.errors import UnsafeFile, WeightsMissing
from sage.zoo import vet
from sage.zoo.vet import KEEP_STRING, KEEP_TEXT, ArraySummary, read_gguf, vet_gguf


def test_a_sound_file_is_read(gguf: Any) -> None:
    header = vet_gguf(gguf.write())
    assert (header.version, header.architecture, header.alignment) == (3, "llama", 32)
    assert header.metadata["llama.block_count"] == 2
    assert header.metadata["tokenizer.ggml.tokens"] == ArraySummary(type=8, length=2000)
    assert header.metadata["tokenizer.ggml.scores"] == ArraySummary(type=6, length=2000)
    first, second = header.tensors
    assert (first.name, first.shape, first.type.name, first.bytes) == (
        "token_embd.weight",
        (64, 16),
        "F32",
        4096,
    )
    assert (second.type.name, second.offset, second.bytes) == ("Q4_0", 4096, 54)
    assert header.data_offset + 4096 + 54 == header.file_bytes


def test_version_2_and_short_arrays(gguf: Any) -> None:
    gguf.metadata["llama.attention.head_count_kv"] = [1, 2]
    gguf.metadata["general.tags"] = ["a", "b"]
    header = vet_gguf(gguf.write(version=2))
    assert header.version == 2
    assert header.metadata["llama.attention.head_count_kv"] == (1, 2)
    assert header.metadata["general.tags"] == ("a", "b")


def test_only_so_many_array_elements_are_kept(gguf: Any) -> None:
    gguf.metadata |= {f"a{i}": [0] * 1000 for i in range(80)}
    kept = [v for k, v in read_gguf(gguf.write()).metadata.items() if k.startswith("a")]
    assert sum(isinstance(v, tuple) for v in kept) == 65
    assert kept[-1] == ArraySummary(type=4, length=1000)


def pair(key: str, kind: int, rest: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + rest


def tensor(*shape: int, kind: int = 0, offset: int = 0, size: int = 128, name: str = "t") -> list[Any]:
    return [(name, shape, kind, offset, size)]


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "magic": (lambda m: m.write(magic=b"GGML"), "not a GGUF file"),
    "version 1": (lambda m: m.write(version=1), "version 1"),
    "version 4": (lambda m: m.write(version=4), "version 4"),
    "big-endian": (lambda m: m.write(order=">"), "big-endian"),
    "tensor count": (lambda m: m.write(tensor_count=1 << 60), "tensors; at most"),
    "pair count": (lambda m: m.write(pair_count=1 << 60), "metadata entries; at most"),
    "more pairs than there are": (lambda m: m.write(pair_count=11), "byte"),
    "long string": (
        lambda m: m.write(raw_pairs=[pair("s", 8, struct.pack("<Q", 1 << 62))]),
        "at most 67108864",
    ),
    "string past the end": (
        lambda m: m.write(raw_pairs=[pair("s", 8, struct.pack("<Q", 1 << 20))]),
        "cut short",
    ),
    "array past the end": (
        lambda m: m.write(raw_pairs=[pair("a", 9, struct.pack("<IQ", 4, 1 << 61))]),
        "more than the file can hold",
    ),
    "nested array": (
        lambda m: m.write(raw_pairs=[pair("a", 9, struct.pack("<IQ", 9, 1))]),
        "array of arrays",
    ),
    "array of nonsense": (
        lambda m: m.write(raw_pairs=[pair("a", 9, struct.pack("<IQ", 77, 1))]),
        "unknown type 77",
    ),
    "value type": (lambda m: m.write(raw_pairs=[pair("k", 99, b"")]), "unknown type 99"),
    "key twice": (
        lambda m: m.write(raw_pairs=[pair("llama.block_count", 4, b"\1\0\0\0")]),
        "occurs twice",
    ),
    "no dimensions": (lambda m: m.write(tensors=tensor()), "0 dimensions"),
    "five dimensions": (lambda m: m.write(tensors=tensor(1, 1, 1, 1, 1)), "5 dimensions"),
    "zero extent": (lambda m: m.write(tensors=tensor(32, 0)), "impossible shape"),
    "overflow": (lambda m: m.write(tensors=tensor(1 << 40, 1 << 40)), "impossible shape"),
    "tensor type": (lambda m: m.write(tensors=tensor(32, kind=4)), "unknown type 4"),
    "ragged rows": (lambda m: m.write(tensors=tensor(33, kind=2)), "no multiple of"),
    "tensor twice": (lambda m: m.write(tensors=tensor(8) + tensor(8, offset=128)), "two tensors"),
    "unaligned": (lambda m: m.write(tensors=tensor(8, offset=33)), "not aligned"),
    "truncated": (lambda m: m.write(cut=1), "cut short"),
    "beyond": (lambda m: m.write(tensors=[("t", (32,), 0, 1 << 62, -(1 << 62))]), "cut short"),
    "overlap": (
        lambda m: m.write(tensors=[("a", (32,), 0, 0, 128), ("b", (32,), 0, 96, 128)]),
        "overlaps tensor 'a'",
    ),
    "alignment 3": (lambda m: m.write(metadata=m.metadata | {"general.alignment": 3}), "general.alignment"),
    "alignment 0": (lambda m: m.write(metadata=m.metadata | {"general.alignment": 0}), "general.alignment"),
    "alignment huge": (
        lambda m: m.write(metadata=m.metadata | {"general.alignment": 1 << 17}),
        "general.alignment",
    ),
    "no architecture": (lambda m: m.write(metadata={"a": 1}), "general.architecture"),
    "no tensors": (lambda m: m.write(tensors=[]), "no tensors"),
    "empty": (lambda m: (m.folder / "model.gguf").write_bytes(b""), "not a GGUF file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_right_is_refused(case: str, gguf: Any) -> None:
    make, why = BROKEN[case]
    make(gguf)
    with pytest.raises(UnsafeFile, match=why) as caught:
        vet_gguf(gguf.folder / "model.gguf")
    assert "model.gguf" in caught.value.message
    assert caught.value.mend


def test_a_header_may_not_be_endless(gguf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vet, "MAX_HEADER", 10_000)
    monkeypatch.setattr(vet, "CHUNK", 512)
    with pytest.raises(UnsafeFile, match="header is longer"):
        vet_gguf(gguf.write())


def test_other_alignments_are_fine(gguf: Any) -> None:
    gguf.metadata["general.alignment"] = 128
    assert vet_gguf(gguf.write(alignment=128)).data_offset % 128 == 0


def test_what_is_no_file(gguf: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing) as caught:
        vet_gguf(tmp_path / "nowhere.gguf")
    assert caught.value.mend == f"ls {tmp_path}"
    with pytest.raises(UnsafeFile, match="not a regular file"):
        vet_gguf(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeFile, match="not a regular file"):
        vet_gguf(tmp_path / "pipe")


def test_a_large_vocabulary_is_quick_and_takes_no_memory(gguf: Any) -> None:
    gguf.metadata["tokenizer.ggml.tokens"] = ["token"] * 262_144
    path = gguf.write()
    started = time.perf_counter()
    assert vet_gguf(path).metadata["tokenizer.ggml.tokens"] == ArraySummary(type=8, length=262_144)
    assert time.perf_counter() - started < 1.0
    tracemalloc.start()
    vet_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20  # a few pieces of 1 MiB; 262,144 strings would be 14 MB


def test_strings_across_the_edges_of_the_read_pieces(gguf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf.metadata["tokenizer.ggml.tokens"] = ["x" * (i % 40) for i in range(1500)]
    path = gguf.write()
    whole = vet_gguf(path)
    for chunk in (1, 7, 8, 9, 64, 1000):
        monkeypatch.setattr(vet, "CHUNK", chunk)
        assert vet_gguf(path) == whole


def survives(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        header = vet_gguf(path)
    except UnsafeFile:
        return
    assert all(t.offset + t.bytes <= len(content) - header.data_offset for t in header.tensors)


fuzz = settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@fuzz
@given(noise=st.binary(max_size=400), head=st.booleans())
def test_random_bytes(noise: bytes, head: bool, tmp_path: Path) -> None:
    prefix = b"GGUF" + struct.pack("<I", 3) if head else b""
    survives(tmp_path / "fuzz.gguf", prefix + noise)


@fuzz
@given(data=st.data())
def test_mutations(data: st.DataObject, gguf: Any) -> None:
    gguf.metadata = {k: v for k, v in gguf.metadata.items() if not isinstance(v, list)}
    content = bytearray(gguf.bytes())
    head = len(content) - 4150
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, head - 8))
        piece = data.draw(
            st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x80", b"\x7f\xff", struct.pack("<Q", 1 << 62)])
            | st.binary(min_size=1, max_size=8)
        )
        content[at : at + len(piece)] = piece
    survives(gguf.folder / "fuzz.gguf", bytes(content))


@fuzz
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncations_never_pass(share: float, gguf: Any) -> None:
    content = gguf.bytes()
    path = gguf.folder / "fuzz.gguf"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnsafeFile):
        vet_gguf(path)


@pytest.mark.real
def test_the_real_models_pass_quickly(real_home: Path) -> None:
    for name, tokens in (("smollm2-135m-instruct", 49_152), ("gemma-3-270m", 262_144)):
        started = time.perf_counter()
        header = vet_gguf(real_home / "models" / f"{name}.gguf")
        assert time.perf_counter() - started < 1.0
        assert header.metadata["tokenizer.ggml.tokens"] == ArraySummary(type=8, length=tokens)


def test_long_texts_are_kept_in_part_and_never_beyond_a_total(gguf: Any) -> None:
    gguf.metadata["a.long"] = "x" * 200_000
    kept = vet_gguf(gguf.write()).metadata["a.long"]
    assert isinstance(kept, str)
    assert len(kept) == KEEP_STRING
    for number in range(KEEP_TEXT // KEEP_STRING):
        gguf.metadata[f"a.{number}"] = "x" * KEEP_STRING
    with pytest.raises(UnsafeFile, match="names and texts"):
        vet_gguf(gguf.write())
