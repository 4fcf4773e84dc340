"""Memory from the header: the parts by hand, the whole against real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sage.errors import UnsafeFile
from sage.zoo.estimate import PROCESS_BYTES, estimate
from sage.zoo.vet import read_gguf, vet_gguf


def test_the_parts_of_a_plain_model(gguf: Any) -> None:
    memory = estimate(vet_gguf(gguf.write()), context=1024)
    # 64 x 16 f32, and 32 x 3 in Q4_0 twice: mapped, and copied into another layout
    assert memory.weights == 4096 + 54 + 54
    # 2 layers x 1024 cells x 2 heads x (16 + 16) x 2 bytes
    assert memory.kv == 2 * 1024 * 2 * 32 * 2
    assert memory.compute == 512 * 4 * (5 * 64 + 3 * 128) + 512 * 1024 * 2
    assert memory.overhead == PROCESS_BYTES + 2000 * 224
    assert memory.total == memory.weights + memory.kv + memory.compute + memory.overhead


def test_the_cache_grows_with_the_context_in_steps_of_256(gguf: Any) -> None:
    header = vet_gguf(gguf.write())
    sizes = [estimate(header, context=context).kv for context in (256, 257, 512, 513)]
    assert sizes[1] == sizes[2] == 2 * sizes[0]
    assert sizes[3] == 3 * sizes[0]


def test_heads_may_differ_by_layer(gguf: Any) -> None:
    gguf.metadata["llama.attention.head_count_kv"] = [1, 3]
    gguf.metadata |= {"llama.attention.key_length": 8, "llama.attention.value_length": 4}
    assert estimate(vet_gguf(gguf.write()), context=256).kv == 256 * (1 + 3) * (8 + 4) * 2


def gemma(metadata: dict[str, Any], layers: int) -> dict[str, Any]:
    named = {k.replace("llama.", "gemma3."): v for k, v in metadata.items()}
    return named | {
        "general.architecture": "gemma3",
        "gemma3.block_count": layers,
        "gemma3.attention.sliding_window": 512,
    }


def test_five_of_six_gemma_layers_keep_only_their_window(gguf: Any) -> None:
    header = vet_gguf(gguf.write(metadata=gemma(gguf.metadata, 12)))
    cell = 2 * 32 * 2
    assert estimate(header, context=8192).kv == cell * (2 * 8192 + 10 * 1024)
    assert estimate(header, context=512).kv == cell * 12 * 512


def test_experts_that_are_used_widen_the_compute_buffer(gguf: Any) -> None:
    dense = estimate(vet_gguf(gguf.write()), context=512).compute
    gguf.metadata |= {"llama.expert_used_count": 8, "llama.expert_feed_forward_length": 128}
    sparse = estimate(vet_gguf(gguf.write()), context=512).compute
    assert sparse - dense == 512 * 4 * (8 * (3 * 128 + 64) - 3 * 128)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_count", None),
        ("block_count", 1 << 31),
        ("block_count", "many"),
        ("embedding_length", -1.5),
        ("attention.head_count_kv", ["a", "b"]),
    ],
)
def test_figures_that_cannot_be_right(key: str, value: Any, gguf: Any) -> None:
    gguf.metadata.pop(f"llama.{key}")
    if value is not None:
        gguf.metadata[f"llama.{key}"] = value
    header = read_gguf(gguf.write())
    with pytest.raises(UnsafeFile, match=key):
        estimate(header, context=512)


MEASURE = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.verbosity = sys.argv[1], int(sys.argv[2]), 1, False, 0
p.cpuparams.n_threads, p.cpuparams_batch.n_threads = 1, 2
server = xllamacpp.Server(p)
prompt = "The fox crossed the river and the mountain. " * int(sys.argv[3])
server.handle_completions({"prompt": prompt, "max_tokens": 40, "temperature": 0})
for line in open("/proc/self/status"):
    if line.startswith("VmRSS"):
        print("RSS", int(line.split()[1]) * 1024)
"""


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "context", "repeats"),
    [("smollm2-135m-instruct", 2048, 1), ("gemma-3-270m", 2048, 60)],
    ids=["short prompt", "long prompt"],
)
def test_within_ten_percent_of_a_real_process(name: str, context: int, repeats: int, real_home: Path) -> None:
    path = real_home / "models" / f"{name}.gguf"
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(context), str(repeats)],
        capture_output=True,
        text=True,
        check=True,
    )
    measured = int(done.stdout.split("RSS ")[1])
    assert estimate(vet_gguf(path), context=context).total == pytest.approx(measured, rel=0.10)
