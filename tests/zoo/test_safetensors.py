"""Headers of safetensors files as an enemy would write them."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.errors import SageError, UnsafeFile, WeightsMissing
from sage.zoo import safetensors_header
from sage.zoo.safetensors_header import vet_safetensors

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
OTHER = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}


def write(folder: Path, table: Any, data: int = 32, *, length: int | None = None) -> Path:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + bytes(data))
    return path


def test_a_sound_file(tmp_path: Path) -> None:
    path = write(tmp_path, {"__metadata__": {"format": "pt"}, "b": OTHER, "a": ENTRY})
    header = vet_safetensors(path)
    assert [(t.name, t.dtype, t.shape, t.bytes, t.elements) for t in header.tensors] == [
        ("a", "F32", (2, 3), 24, 6),
        ("b", "BF16", (4,), 8, 4),
    ]
    assert header.file_bytes == path.stat().st_size


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import torch
    from safetensors.torch import save_file

    tensors = {"x": torch.zeros(3, 5), "y": torch.zeros(7, dtype=torch.bfloat16), "none": torch.zeros(0, 2)}
    save_file(tensors, tmp_path / "a.safetensors")
    found = {tensor.name: tensor.shape for tensor in vet_safetensors(tmp_path / "a.safetensors").tensors}
    assert found == {"x": (3, 5), "y": (7,), "none": (0, 2)}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"[" * 1000, "not JSON"),
        (b"{'a'", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        ([], "not a table"),
        ({"__metadata__": {"a": 1}}, "not a table of texts"),
        (b'{"a": {}, "a": {}}', "twice"),
        ({"a": 1}, "not described"),
        ({"a": {"dtype": "F32"}}, "has not just"),
        ({"a": ENTRY | {"evil": 1}}, "has not just"),
        ({"a": ENTRY | {"dtype": "PICKLE"}}, "unknown type"),
        ({"a": ENTRY | {"dtype": ["F32"]}}, "unknown type"),
        ({"a": ENTRY | {"shape": [2, -3]}}, "impossible shape"),
        ({"a": ENTRY | {"shape": [2, True]}}, "impossible shape"),
        ({"a": ENTRY | {"shape": [1] * 9}}, "impossible shape"),
        ({"a": ENTRY | {"shape": [1 << 62, 1 << 62, 0, 1 << 63]}}, "impossible shape"),
        ({"a": ENTRY | {"shape": [1 << 62, 1 << 62]}}, "cannot be"),
        ({"a": ENTRY | {"shape": [7]}}, "cannot be"),
        ({"a": ENTRY | {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}, "cannot be"),
        ({"a": ENTRY | {"data_offsets": [24, 0]}}, "cannot be"),
        ({"a": ENTRY | {"data_offsets": [0]}}, "impossible shape or place"),
        ({"a": ENTRY | {"data_offsets": [16, 40]}}, "cut short"),
        ({"a": ENTRY, "b": OTHER | {"data_offsets": [20, 28]}}, "does not begin where"),
        ({"a": ENTRY, "b": ENTRY}, "does not begin where"),
        ({"b": OTHER}, "does not begin where"),
        ({"a": ENTRY}, "belong to no tensor"),
        ({"n" * 2000: ENTRY, "b": OTHER}, "not described"),
        ({}, "no tensor"),
        ({"__metadata__": {"format": "pt"}}, "no tensor"),
        ({"a\x1b[31m": ENTRY, "b": OTHER}, "cannot be printed"),
        ({"a\ud800": ENTRY, "b": OTHER}, "cannot be printed"),
    ],
)
def test_a_header_that_cannot_be_right(tmp_path: Path, table: Any, said: str) -> None:
    with pytest.raises(UnsafeFile, match=said):
        vet_safetensors(write(tmp_path, table))


@pytest.mark.parametrize("length", [0, 1, 1 << 40, (1 << 64) - 1, safetensors_header.MAX_HEADER + 1])
def test_a_length_that_cannot_be_right(tmp_path: Path, length: int) -> None:
    with pytest.raises(UnsafeFile):
        vet_safetensors(write(tmp_path, {"a": ENTRY, "b": OTHER}, length=length))


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing):
        vet_safetensors(tmp_path / "none")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "pipe", "."):
        with pytest.raises(UnsafeFile):
            vet_safetensors(tmp_path / name)


def test_a_header_of_nothing_but_lists_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = write(tmp_path, b"[" + b"[]," * 5_000_000 + b"[]]")
    began = time.monotonic()
    with pytest.raises(UnsafeFile, match="more than 65536 tensors"):
        vet_safetensors(path)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("piece", ['"{}":""', '"{}": "x"'])
def test_notes_without_end_are_refused_before_they_are_parsed(
    tmp_path: Path, piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = ",".join(piece.format(i) for i in range(500_000))
    path = write(
        tmp_path, b'{"__metadata__":{' + notes.encode() + b'},"a":' + json.dumps(ENTRY).encode() + b"}"
    )
    monkeypatch.setattr(safetensors_header.json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(UnsafeFile, match="more than 393216 entries"):
        vet_safetensors(path)


def test_as_many_tensors_as_are_allowed(tmp_path: Path) -> None:
    table = {
        f"layers.{i}.weight": {"dtype": "U8", "shape": [1] * 8, "data_offsets": [i, i + 1]}
        for i in range(65_536)
    }
    path = write(tmp_path, {"__metadata__": {"format": "pt"}, **table}, 65_536)
    assert len(vet_safetensors(path).tensors) == 65_536


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_change_of_a_file_gets_further_than_a_typed_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    path = write(folder, {"a": ENTRY, "b": OTHER})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        raw = raw or bytearray(b"x")
    path.write_bytes(raw)
    try:
        header = vet_safetensors(path)
    except SageError:
        return
    assert sum(tensor.bytes for tensor in header.tensors) < len(raw)
