"""How much memory a model will take, from its header alone, before anything is loaded.

Owns: the formula and its calibration. Must not know: what is free, or who would have to go.

For llama.cpp on CPU with the file mapped, an f16 KV cache, flash attention, one sequence and
``n_ubatch`` 512. In bytes, what the process occupies (``VmRSS``) once it has read a long prompt:

    weights  = tensors (mapped: page cache the kernel can take back) + tensors copied into another layout
    kv       = 2 bytes x sum over layers of cells x kv heads x (key length + value length);
               cells = context, and min(context, window + 512) in a sliding-window layer
    compute  = 512 x 4 bytes x (5 x embedding + 3 x feed-forward) + one f16 mask of 512 x cells a cache
    overhead = 39 MB for Python and the library + 220 bytes a token + 212 bytes a merge of the vocabulary

The compute term is llama.cpp's own figure to 0.2 %; the last line was fitted to three models.
Estimate against VmRSS in MB, in a fresh process after a 300-token answer, xllamacpp 2026.10.11549
on x86-64 with AVX-512 (SHORT: prompt of 22-46 tokens; LONG: about 1,500, so all buffers are touched):

    model          context  estimate  short  error   long  error
    SmolLM2-135M       512       185    169  +9.4%     -      -
    SmolLM2-135M      2048       222    204  +8.5%   219  +1.0%
    SmolLM2-135M      4096       271    251  +7.9%   266  +1.8%
    SmolLM2-135M      8192       369    346  +6.8%   361  +2.3%
    Gemma-3-270M       512       387    369  +5.0%     -      -
    Gemma-3-270M      2048       402    383  +5.0%   416  -3.4%
    Gemma-3-270M      4096       410    389  +5.4%   423  -2.9%
    Gemma-3-270M      8192       427    402  +6.3%   435  -1.9%
    Qwen2.5-0.5B       512       666    627  +6.2%     -      -
    Qwen2.5-0.5B      2048       686    646  +6.2%   684  +0.4%
    Qwen2.5-0.5B      4096       714    671  +6.3%   709  +0.7%
    Qwen2.5-0.5B      8192       768    722  +6.4%   759  +1.2%

After a short prompt most of the compute buffer is still untouched, so the estimate is the higher one;
after a long prompt a sliding-window model also holds a checkpoint of its window, which is not counted.
Nor is llama.cpp's prompt cache, which grows with use: by 24 to 26 MiB for every new prompt of 1,000
tokens, to 8 GiB, on both small models; with ``cache_ram_mib`` and ``n_ctx_checkpoints`` at 0 by nothing
after the first. Not measured: mixtures of experts, recurrent layers, Arm (where more types are copied).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from sage.errors import UnsafeFile
from sage.zoo.vet import ArraySummary, GgufHeader

__all__ = ["Figures", "MemoryEstimate", "cells", "estimate"]

UBATCH = 512
PROCESS_BYTES = 39_000_000  # 20.5 MB of mapped libraries, 17 MB of heap, 1.5 MB for the worker itself
TOKEN_BYTES = 220
MERGE_BYTES = 212
MAX_LAYERS = 4096
MAX_FIGURE = 1 << 32

SWA_PERIOD = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2}
"""Every n-th layer is global, by architecture; others are counted as global throughout (never too low)."""

REPACKED = {"Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "MXFP4"} | (
    {"Q5_K", "Q6_K", "Q8_0"} if platform.machine() in ("aarch64", "arm64") else set()
)
"""Matrices of these types are copied into a layout for wide vector units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """Bytes, by what they are for. ``unpacking`` is taken while it loads, and given back."""

    weights: int
    kv: int
    compute: int
    overhead: int
    unpacking: int = 0

    @property
    def held(self) -> int:
        """What it occupies once it is loaded."""
        return self.weights + self.kv + self.compute + self.overhead

    @property
    def total(self) -> int:
        """What must be free before it is loaded."""
        return self.held + self.unpacking


class Figures:
    """A GGUF header's figures, each checked: they come from a file nobody vouches for."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self.layers = self.number("block_count", limit=MAX_LAYERS)
        self.heads = self.number("attention.head_count")
        self.embedding = self.number("embedding_length")
        per_head = self.embedding // max(1, self.heads)
        self.key = self.number("attention.key_length", per_head)
        self.value = self.number("attention.value_length", per_head)

    def _refuse(self, key: str, problem: str) -> UnsafeFile:
        return UnsafeFile(f"The header's {key} {problem}, so its memory cannot be estimated")

    def per_layer(self, key: str, default: int | None = None) -> tuple[int, ...]:
        """One figure a layer; a single number stands for every layer."""
        full = f"{self._header.architecture}.{key}"
        value = self._header.metadata.get(full, default)
        if value is None:
            raise self._refuse(full, "is missing")
        values = value if isinstance(value, tuple) else (value,)
        sound = tuple(v for v in values if isinstance(v, int) and 0 <= v <= MAX_FIGURE)
        if not values or len(sound) < len(values):
            raise self._refuse(full, f"is {value!r:.60}")
        return sound

    def number(self, key: str, default: int | None = None, *, limit: int = MAX_FIGURE) -> int:
        """One figure; where there is one a layer, the largest."""
        value = max(self.per_layer(key, default))
        if value > limit:
            raise self._refuse(key, f"is {value}")
        return value

    def length(self, key: str) -> int:
        value = self._header.metadata.get(key)
        if isinstance(value, ArraySummary):
            return value.length
        return len(value) if isinstance(value, tuple) else 0


def cells(figures: Figures, architecture: str, context: int) -> tuple[int, int, tuple[bool, ...]]:
    """Cells of the full cache and of the sliding one, and which layers slide."""
    full = -(-context // 256) * 256  # llama.cpp pads the cache to 256 cells
    window = figures.number("attention.sliding_window", 0)
    period = SWA_PERIOD.get(architecture, 0)
    if not window or not period:
        return full, 0, (False,) * figures.layers
    sliding = min(full, -(-(window + UBATCH) // 256) * 256)
    return full, sliding, tuple(layer % period != period - 1 for layer in range(figures.layers))


def estimate(header: GgufHeader, *, context: int) -> MemoryEstimate:
    """Bytes the model will occupy with ``context`` tokens of KV cache.

    Raises:
        UnsafeFile: the header lacks a figure that every model has, or states an impossible one.
    """
    figures = Figures(header)
    full, sliding, slides = cells(figures, header.architecture, context)

    heads = figures.per_layer("attention.head_count_kv", figures.heads)
    if len(heads) < figures.layers:
        heads += (max(heads),) * (figures.layers - len(heads))
    kv = sum(
        2 * (sliding if slides[layer] else full) * heads[layer] * (figures.key + figures.value)
        for layer in range(figures.layers)
    )

    used = figures.number("expert_used_count", 0)
    dense = 3 * figures.number("feed_forward_length", 4 * figures.embedding)
    sparse = used * (3 * figures.number("expert_feed_forward_length", 0) + figures.embedding)
    attention = 4 * figures.heads * figures.key
    width = 5 * figures.embedding + max(dense, sparse, attention)
    rows = min(UBATCH, full)
    compute = rows * 4 * width + rows * 2 * (full + sliding)

    tokens = figures.length("tokenizer.ggml.tokens")
    repacked = sum(
        tensor.bytes
        for tensor in header.tensors
        # The token embeddings are looked up by row, which the other layout does not allow.
        if tensor.type.name in REPACKED and len(tensor.shape) > 1 and tensor.name != "token_embd.weight"
    )
    return MemoryEstimate(
        weights=sum(tensor.bytes for tensor in header.tensors) + repacked,
        kv=kv,
        compute=compute,
        overhead=PROCESS_BYTES
        + (TOKEN_BYTES + 4) * tokens  # and a row of logits
        + MERGE_BYTES * figures.length("tokenizer.ggml.merges"),
    )
