"""How much memory a model takes when torch runs it: a folder, a GGUF file made whole, an adapter on either.

Owns: the formula for torch and its calibration. Must not know: what is free, or who would have to go.

For torch on CPU, one sequence, prompts read 512 tokens at a time. In bytes, what the process occupies
(``VmRSS``) once it has answered:

    weights  = elements x 2 (bf16) or 4 (fp32, where the processor has no bf16), whatever the file holds;
               every expert of a mixture; of an adapter 4 an element
    kv       = elements x sum over attention layers of tokens x kv heads x (key length + value length);
               tokens = context, and the window in a sliding layer; recurrent layers have none
    compute  = 512 x elements x (5 x embedding + 3 x feed-forward + context), and three rows of logits
    overhead = 366 MB for Python, torch and transformers + 1,100 bytes a token of the vocabulary
               + 17 MB for a GGUF file + 12 MB for peft

The last line was fitted to the models below. Estimate for a context that the tokens just fill, against
VmRSS and its peak (VmHWM) in MB, in a fresh worker, torch 2.13.0 and transformers 5.23 in bf16 on x86-64:

    model                       tokens  estimate    rss  error   peak
    SmolLM2-135M folder             84       693    689  +0.6%    689
    SmolLM2-135M folder           1564       735    699  +5.1%    731
    SmolLM2-135M folder           3064       771    755  +2.1%    769
    SmolLM2-135M folder           6064       843    796  +5.9%    865
    SmolLM2-135M GGUF               84       710    706  +0.6%    940
    SmolLM2-135M GGUF             1564       752    725  +3.7%    939
    SmolLM2-135M GGUF             3064       788    761  +3.6%    937
    SmolLM2-135M GGUF             6064       860    864  -0.4%    939
    Gemma-3-270M folder            169      1200   1193  +0.6%   1193
    Gemma-3-270M folder           1649      1218   1235  -1.4%   1235
    Gemma-3-270M folder           6149      1236   1240  -0.3%   1240
    Gemma-3-270M GGUF              169      1217   1197  +1.7%   3382
    Gemma-3-270M GGUF             1649      1243   1197  +3.8%   3381
    Gemma-3-270M GGUF             6149      1261   1196  +5.5%   3381

What a cache of many tokens took is partly given back after the answer, so the estimate lies between the two.
The peak of a GGUF file is that of loading it: its tensors are made whole one by one, as fp32 first, and the
largest, a vocabulary, is copied several times (Gemma's 336 MB take 3.4 GB for some seconds). 13 bytes for
each of its elements are set aside for that: what Gemma took, half as much again as SmolLM2 did. Not
measured: fp32, CUDA, mixtures of experts and recurrent layers of real size.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sage.errors import UnsafeFile
from sage.zoo.estimate import MAX_FIGURE, MAX_LAYERS, Figures, MemoryEstimate, cells
from sage.zoo.folder import Folder
from sage.zoo.vet import GgufHeader

__all__ = ["PREFILL", "estimate_torch", "loads_as_bf16"]

PREFILL = 512
"""Prompt tokens that are read at once; more would only take more memory."""

PROCESS_BYTES = 366_000_000
TOKEN_BYTES = 1_100
GGUF_BYTES = 17_000_000
PEFT_BYTES = 12_000_000
UNPACKING_BYTES = 13

WHOLE_NUMBERS = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"}
"""Types that are kept as they are."""

FULL, SLIDING = ("full_attention", "attention"), ("sliding_attention",)
"""Kinds of layers with a cache; others (mamba, conv, linear attention, plain layers) have a state of a few
kilobytes or none."""

EVERY_NTH_FULL = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}
"""Where the configuration does not list its layers, and every n-th is not sliding."""

ALL_SLIDING = ("mistral", "mixtral", "phi3", "phimoe", "starcoder2")

READ_AT_ONCE = ("nemotron_h", "lfm2")
"""Recurrent models cannot read a prompt in pieces."""


@cache
def loads_as_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bf16 natively; where it does not, torch is faster in fp32."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(words & ({"bf16"} if platform.machine() == "aarch64" else {"avx512_bf16", "amx_bf16"}))


def estimate_torch(
    found: Folder | GgufHeader, *, context: int, adapter: Folder | None = None
) -> MemoryEstimate:
    """Bytes that a process of torch will occupy with ``context`` tokens in its cache.

    Raises:
        UnsafeFile: a figure that every model has is missing or impossible.
    """
    width = 2 if loads_as_bf16() else 4
    if isinstance(found, GgufHeader):
        figures = Figures(found)
        _, sliding, slides = cells(figures, found.architecture, context)
        heads = figures.per_layer("attention.head_count_kv", figures.heads)
        heads += (max(heads),) * (figures.layers - len(heads))
        tokens = sum(
            (min(context, sliding) if slides[layer] else context) * heads[layer]
            for layer in range(figures.layers)
        )
        kv = tokens * (figures.key + figures.value)
        embedding, ahead = figures.embedding, figures.number("feed_forward_length", 4 * figures.embedding)
        vocabulary, rows = figures.length("tokenizer.ggml.tokens"), PREFILL
        weights = width * sum(math.prod(tensor.shape) for tensor in found.tensors)
        overhead = GGUF_BYTES
        unpacking = UNPACKING_BYTES * max(math.prod(tensor.shape) for tensor in found.tensors)
    else:
        shape = _Shape(found.config)
        kv = shape.kv(context)
        embedding, ahead = shape.embedding, shape.feed_forward
        vocabulary, rows = shape.vocabulary, context if shape.at_once else PREFILL
        weights = _weights(found, width)
        overhead = unpacking = 0
    if adapter is not None:
        weights += 4 * sum(tensor.elements for tensor in adapter.tensors)
        overhead += PEFT_BYTES
    return MemoryEstimate(
        weights=weights,
        kv=width * kv,
        compute=min(rows, context) * width * (5 * embedding + 3 * ahead + context) + 12 * vocabulary,
        overhead=PROCESS_BYTES + overhead + TOKEN_BYTES * vocabulary,
        unpacking=unpacking,
    )


def _weights(folder: Folder, width: int) -> int:
    # Of a model that also speaks, only the part that reads and writes text is loaded.
    part = "thinker." if folder.config.get("model_type") == "qwen3_omni_moe" else ""
    return sum(
        tensor.bytes if tensor.dtype in WHOLE_NUMBERS else width * tensor.elements
        for tensor in folder.tensors
        if tensor.name.startswith(part)
    )


class _Shape:
    """The figures of a configuration, each checked: they come from a file nobody vouches for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = config.get("thinker_config") or config
        self._config: Mapping[str, Any] = config.get("text_config") or config
        self._type = str(self._config.get("model_type") or config.get("model_type"))
        stated = self._config.get("layer_types") or self._config.get("layers_block_type")
        self._stated = [str(kind) for kind in stated[:MAX_LAYERS]] if isinstance(stated, list) else []
        self.layers = self.number(
            "num_hidden_layers", "n_layer", default=len(self._stated) or None, limit=MAX_LAYERS
        )
        self.embedding = self.number("hidden_size", "n_embd")
        heads = self.number("num_attention_heads", "n_head")
        self.kv_heads = self.number("num_key_value_heads", default=heads)
        self.head = self.number("head_dim", "attention_head_dim", default=self.embedding // heads)
        self.feed_forward = self.number("intermediate_size", "n_inner", default=4 * self.embedding)
        self.vocabulary = self.number("vocab_size")
        self.at_once = self._type in READ_AT_ONCE

    def number(self, *names: str, default: int | None = None, limit: int = MAX_FIGURE) -> int:
        """The first of these that is stated."""
        value = next((v for name in names if (v := self._config.get(name)) is not None), default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
            raise UnsafeFile(
                f"config.json has {names[0]} = {value!r:.40}, so its memory cannot be estimated",
                mend="Get the folder again, from a source you trust.",
            )
        return value

    def kv(self, context: int) -> int:
        """Elements of the cache."""
        # 0 and null both say that there is none.
        window = min(
            context, self.number("sliding_window") if self._config.get("sliding_window") else context
        )
        tokens = sum(context if kind in FULL else window if kind in SLIDING else 0 for kind in self._kinds())
        return tokens * self.kv_heads * self.head * 2

    def _kinds(self) -> list[str]:
        pattern = self._config.get("hybrid_override_pattern")
        if isinstance(pattern, str):  # * is attention; M, - and E are Mamba, plain and expert layers
            return [FULL[0]] * pattern.count("*")
        if self._stated:
            return self._stated
        full = self._config.get("full_attn_idxs")
        if isinstance(full, list):
            return [FULL[0]] * len(full[:MAX_LAYERS])
        if self._type in ALL_SLIDING:
            return [SLIDING[0]] * self.layers
        period = EVERY_NTH_FULL.get(self._type, 1)
        return [SLIDING[0] if at % period != period - 1 else FULL[0] for at in range(self.layers)]
