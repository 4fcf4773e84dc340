"""A maker of tiny GGUF files, sound or broken on purpose, and a host of fake models."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from .hosts import Zoo

F32 = 0

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.license": "mit",
    "llama.block_count": 2,
    "llama.context_length": 1024,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": [f"t{i}" for i in range(2000)],
    "tokenizer.ggml.scores": [0.5] * 2000,
}


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(item: Any) -> bytes:
    """One metadata value with its type in front."""
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + text(item)
    kind = value(item[0])[:4]
    return struct.pack("<I", 9) + kind + struct.pack("<Q", len(item)) + b"".join(value(i)[4:] for i in item)


@dataclass
class Maker:
    """Change a field, then ``write``. ``tensors`` are (name, shape, type, offset, bytes of data)."""

    folder: Path
    magic: bytes = b"GGUF"
    version: int = 3
    order: str = "<"
    metadata: dict[str, Any] = field(default_factory=lambda: dict(METADATA))
    raw_pairs: list[bytes] = field(default_factory=list)
    tensors: list[tuple[str, tuple[int, ...], int, int, int]] = field(
        default_factory=lambda: [
            ("token_embd.weight", (64, 16), F32, 0, 4096),
            ("output.weight", (32, 3), 2, 4096, 54),
        ]
    )
    tensor_count: int | None = None
    pair_count: int | None = None
    alignment: int = 32
    cut: int = 0

    def bytes(self) -> bytes:
        pairs = [text(k) + value(v) for k, v in self.metadata.items()] + self.raw_pairs
        head = self.magic + struct.pack(
            f"{self.order}IQQ",
            self.version,
            len(self.tensors) if self.tensor_count is None else self.tensor_count,
            len(pairs) if self.pair_count is None else self.pair_count,
        )
        head += b"".join(pairs)
        for name, shape, kind, offset, _ in self.tensors:
            head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        head += b"\0" * (-len(head) % self.alignment)
        end = max((offset + size for *_, offset, size in self.tensors), default=0)
        whole = head + bytes(i % 251 for i in range(end))
        return whole[: len(whole) - self.cut]

    def write(self, name: str = "model.gguf", **changes: Any) -> Path:
        for key, item in changes.items():
            setattr(self, key, item)
        path = self.folder / name
        path.write_bytes(self.bytes())
        return path


@pytest.fixture
def gguf(tmp_path: Path) -> Maker:
    return Maker(folder=tmp_path)


@pytest.fixture
def zoo(home: Path) -> Iterator[Zoo]:
    """No process of it is left at the end."""
    zoo = Zoo(home)
    yield zoo
    zoo.host.close()
    assert psutil.Process().children() == []
