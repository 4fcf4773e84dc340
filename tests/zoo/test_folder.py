"""Folders as Hugging Face's libraries write them: what is read from them, and all that refuses one."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from sage.errors import BackendMissing, SageError, UnsafeFile, WeightsMissing
from sage.zoo.estimate_torch import estimate_torch, loads_as_bf16
from sage.zoo.folder import accepted_files, only_accepted, vet_folder, wanted, weight_files

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 1024,
}


def safetensors(**tensors: int) -> bytes:
    """A file of BF16 vectors: name=length."""
    table, at = {}, 0
    for name, count in tensors.items():
        table[name] = {"dtype": "BF16", "shape": [count], "data_offsets": [at, at + 2 * count]}
        at += 2 * count
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    put(path, "config.json", CONFIG)
    put(path, "tokenizer.json", {"model": {}})
    put(path, "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    (path / "model.safetensors").write_bytes(safetensors(a=10, b=20))
    return path


def put(path: Path, name: str, value: Any) -> None:
    (path / name).write_text(json.dumps(value))


def test_a_sound_folder(folder: Path) -> None:
    found = vet_folder(folder)
    assert [tensor.name for tensor in found.tensors] == ["a", "b"]
    assert found.weight_bytes == (folder / "model.safetensors").stat().st_size
    assert (found.chat, found.adapter, found.context_length) == (True, False, 1024)


def test_code_and_other_weights_beside_it_are_ignored(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    assert vet_folder(folder).context_length == 1024


def test_a_cache_of_links_is_followed(folder: Path, tmp_path: Path) -> None:
    cached = tmp_path / "snapshot"
    cached.mkdir()
    for file in folder.iterdir():
        (cached / file.name).symlink_to(file)
    assert len(vet_folder(cached).tensors) == 2


def test_shards_are_joined(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (folder / names[0]).write_bytes(safetensors(a=1))
    (folder / names[1]).write_bytes(safetensors(b=2))
    put(folder, "model.safetensors.index.json", {"weight_map": {"a": names[0], "b": names[1]}})
    assert [file.name for file in weight_files(folder)] == names
    assert len(vet_folder(folder).tensors) == 2
    (folder / names[1]).write_bytes(safetensors(a=2))
    with pytest.raises(UnsafeFile, match="the same tensor"):
        vet_folder(folder)
    (folder / names[1]).write_bytes(safetensors(b=2))
    put(folder, "model.safetensors.index.json", {"weight_map": {"a": names[0], "b": "../../etc/passwd"}})
    with pytest.raises(UnsafeFile, match="other files than there are"):
        vet_folder(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoConfig": "evil.Config"}},
        {"text_config": {"auto_map": {"AutoModel": "evil--repo.Model"}}},
        {"rope_scaling": {"factor": [{"auto_map": 1}]}},
        {"trust_remote_code": True},
        {"_attn_implementation": "evil/kernels"},
        {"attn_implementation": "evil/kernels:run"},
        {"_attn_implementation_internal": "evil/kernels"},
        {"text_config": {"_attn_implementation": "evil/kernels"}},
        {"custom_pipelines": {"a": 1}},
        {"something_new": 1},
        {"model_type": "evil"},
        {"model_type": ["llama"]},
        {"text_config": {"model_type": "evil"}},
        {"id2label": {"0": {"auto": "map"}}},
    ],
    ids=str,
)
def test_a_configuration_that_is_not_on_the_list(folder: Path, change: dict[str, Any]) -> None:
    put(folder, "config.json", CONFIG | change)
    with pytest.raises(UnsafeFile, match=r"config\.json"):
        vet_folder(folder)


def test_a_very_deep_configuration(folder: Path) -> None:
    (folder / "config.json").write_text('{"text_config":' * 50_000 + "1" + "}" * 50_000)
    with pytest.raises(UnsafeFile, match="not JSON"):
        vet_folder(folder)
    nested: dict[str, Any] = CONFIG
    for _ in range(20):
        nested = CONFIG | {"text_config": nested}
    put(folder, "config.json", nested)
    with pytest.raises(UnsafeFile, match="too deep"):
        vet_folder(folder)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "generation_config.json", "special_tokens_map.json"]
)
def test_code_named_in_another_file(folder: Path, name: str) -> None:
    put(folder, name, {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}})
    with pytest.raises(UnsafeFile, match="auto_map"):
        vet_folder(folder)


def test_a_tokenizer_that_reads_another_file(folder: Path) -> None:
    put(folder, "tokenizer_config.json", {"vocab_file": "/etc/passwd"})
    with pytest.raises(UnsafeFile, match="names a file"):
        vet_folder(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "chat_template.jinja", "tokenizer_config.json"]
)
def test_files_that_are_too_large_or_none(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(UnsafeFile, match="no file of at most"):
        vet_folder(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UnsafeFile, match="no file of at most"):
        vet_folder(folder)


def test_further_chat_templates_are_limited_too(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    with (folder / "additional_chat_templates/tools.jinja").open("wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(UnsafeFile, match="no file of at most"):
        vet_folder(folder)


def test_weights_that_run_code(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeFile, match="can run code") as caught:
        vet_folder(folder)
    assert "GGUF" in caught.value.mend
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsMissing):
        vet_folder(folder)


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "compressed-tensors", "bitsandbytes", None])
def test_quantized_weights_need_another_library(folder: Path, method: str | None) -> None:
    put(folder, "config.json", CONFIG | {"quantization_config": {"quant_method": method}})
    with pytest.raises(BackendMissing, match="quantized") as caught:
        vet_folder(folder)
    assert "GGUF" in caught.value.mend


def test_a_folder_without_its_parts(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing):
        vet_folder(tmp_path / "none")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsafeFile, match=r"no tokenizer\.json"):
        vet_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UnsafeFile, match=r"no config\.json"):
        vet_folder(folder)


def adapter(path: Path, **changes: Any) -> Path:
    path.mkdir(exist_ok=True)
    settings = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "task_type": "CAUSAL_LM",
    }
    put(path, "adapter_config.json", settings | changes)
    (path / "adapter_model.safetensors").write_bytes(safetensors(lora=8))
    return path


def test_an_adapter(tmp_path: Path) -> None:
    found = vet_folder(
        adapter(tmp_path / "lora", loftq_config={}, megatron_core="megatron.core", corda_config=None)
    )
    assert found.adapter


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "PREFIX_TUNING"},
        {"megatron_config": {"a": 1}},
        {"megatron_core": "antigravity"},
        {"auto_mapping": {"parent_library": "antigravity"}, "task_type": None},
        {"loftq_config": {"loftq_bits": 4}},
        {"auto_map": {"a": "b"}},
        {"layer_replication": [[0, 1000]]},
    ],
    ids=str,
)
def test_an_adapter_that_asks_for_more(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFile):
        vet_folder(adapter(tmp_path / "lora", **change))


def test_the_settings_of_an_adapter_beside_whole_weights_are_never_seen(folder: Path) -> None:
    put(folder, "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "/elsewhere", "x": 1})
    put(folder, "model.safetensors.index.json", {"weight_map": {}})
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    assert not vet_folder(folder).adapter
    with only_accepted(folder) as seen:
        assert sorted(file.name for file in seen.iterdir() if file.is_symlink()) == [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        assert vet_folder(seen).weight_bytes == vet_folder(folder).weight_bytes
    assert not seen.exists()


def test_all_that_an_adapter_or_a_template_needs_is_accepted(tmp_path: Path) -> None:
    path = adapter(tmp_path / "lora")
    put(path, "additional_chat_templates", None)  # no folder of templates: passed over
    assert accepted_files(path) == ("adapter_model.safetensors", "adapter_config.json")
    (path / "additional_chat_templates").unlink()
    (path / "additional_chat_templates").mkdir()
    put(path, "additional_chat_templates/tools.jinja", "x")
    with only_accepted(path) as seen:
        assert (seen / "additional_chat_templates/tools.jinja").read_text() == '"x"'
    (path / "adapter_model.safetensors").unlink()
    assert accepted_files(path) == ()


def test_only_useful_files_are_fetched() -> None:
    names = ["config.json", "model.safetensors", "tokenizer.json", "a/model.safetensors", "x.py", "model.bin"]
    names += ["consolidated.safetensors", "README.md"]
    assert [name for name in names if wanted(name)] == ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize(
    ("change", "elements"),
    [
        ({}, 2 * 100 * 2 * 8 * 2),  # layers x tokens x heads x dimensions x (key and value)
        ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 10}, 110 * 2 * 8 * 2),
        ({"layer_types": ["linear_attention", "full_attention"]}, 100 * 2 * 8 * 2),
        ({"model_type": "mistral", "sliding_window": 10}, 20 * 2 * 8 * 2),
        ({"model_type": "qwen2", "sliding_window": 10}, 200 * 2 * 8 * 2),  # stated, and not used
        ({"model_type": "gemma2", "sliding_window": 10}, 110 * 2 * 8 * 2),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*E*"}, 200 * 2 * 8 * 2),
        ({"head_dim": 16}, 200 * 2 * 16 * 2),
    ],
    ids=str,
)
def test_the_cache_of_each_kind_of_layer(folder: Path, change: dict[str, Any], elements: int) -> None:
    put(folder, "config.json", CONFIG | change)
    width = 2 if loads_as_bf16() else 4
    parts = estimate_torch(vet_folder(folder), context=100)
    assert parts.kv == width * elements
    assert parts.weights == width * 30


@pytest.mark.parametrize(
    "change",
    [{"num_hidden_layers": 1 << 40}, {"num_attention_heads": 0}, {"hidden_size": "32"}, {"vocab_size": None}],
    ids=str,
)
def test_figures_that_cannot_be(folder: Path, change: dict[str, Any]) -> None:
    put(folder, "config.json", CONFIG | change)
    with pytest.raises(UnsafeFile, match="cannot be estimated"):
        estimate_torch(vet_folder(folder), context=100)


def test_what_a_processor_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags : fpu sse avx512_bf16 amx_bf16\nFeatures : bf16\n")
    (tmp_path / "old").write_text("flags : fpu sse avx2\n")
    assert loads_as_bf16(tmp_path / "cpuinfo")
    assert not loads_as_bf16(tmp_path / "old")
    assert not loads_as_bf16(tmp_path / "none")


def test_every_refusal_is_typed(folder: Path) -> None:
    for text in ("", "null", "[]", '"x"', '{"model_type": null}', "{" * 10, "\x00", "NaN"):
        (folder / "config.json").write_text(text)
        with pytest.raises(SageError):
            vet_folder(folder)
