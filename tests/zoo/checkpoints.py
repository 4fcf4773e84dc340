"""Tiny random checkpoints of every known architecture, in the form of users' weights."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

__all__ = ["ARCHITECTURES", "write_adapter", "write_checkpoint"]

TEXT = (
    "the a of is what who one two three four five yes no capital france paris london and it in to red blue "
    "user assistant system question answer sky grass green ."
)
WORDS = TEXT.split()

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
LOCAL_MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "cohere": {},
    "cohere2": {"sliding_window": 16},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 16},
    "gemma3_text": {
        "head_dim": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "glm4": {"head_dim": 8, "partial_rotary_factor": 0.5},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neox": {},
    "granite": {},
    "granitemoe": LOCAL_MOE,
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "llama": {},
    "mistral": {"sliding_window": 16},
    "mixtral": LOCAL_MOE,
    "nemotron": {},
    "nemotron_h": {
        "layers_block_type": ["mamba", "moe", "attention", "mamba"],
        "num_hidden_layers": 4,
        "head_dim": 8,
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 2,
        "chunk_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
    },
    "olmo": {},
    "olmo2": {},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "phi": {},
    "phi3": {"sliding_window": 16},
    "phimoe": LOCAL_MOE,
    "qwen2": {},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 16},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"head_dim": 8, **MOE},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
}
"""Settings beyond ``SMALL``, by ``model_type``. Those made of several models are written apart."""

VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}


def write_checkpoint(model_type: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A folder as ``save_pretrained`` makes it; the same weights for the same seed."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    if model_type == "qwen3_omni_moe":
        model: Any = _omni()
    else:
        model = AutoModelForCausalLM.from_config(_config(model_type, changes))
    # Random weights of the usual spread answer the same to everything.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def _config(model_type: str, changes: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[model_type]
    if model_type == "gemma3":
        text = {**SMALL, **ARCHITECTURES["gemma3_text"]}
        return kind(text_config=text, vision_config=VISION, mm_tokens_per_image=4)
    if model_type == "gpt2":
        few = {k: SMALL[k] for k in ("vocab_size", "bos_token_id", "eos_token_id")}
        return kind(**few, **ARCHITECTURES["gpt2"])
    return kind(**{**SMALL, **ARCHITECTURES[model_type], **changes})


def _omni() -> Any:
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    audio = {
        "num_mel_bins": 16,
        "d_model": 32,
        "encoder_layers": 1,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 32,
        "output_dim": 32,
        "downsample_hidden_size": 8,
        "n_window": 4,
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 4,
        "out_hidden_size": 32,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    }
    text = {**SMALL, "head_dim": 8, **MOE}
    config = Qwen3OmniMoeConfig(
        thinker_config={
            "text_config": text,
            "audio_config": audio,
            "vision_config": vision,
            "vision_start_token_id": 63,  # as published; its class does not know it
        },
        enable_audio_output=False,
    )
    return Qwen3OmniMoeForConditionalGeneration(config)


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<pad>", "<s>", "<end>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>"]
    words = [*special, *WORDS]
    # Every id that the model can write has a word of its own, so that text and tokens are one to one.
    words += [f"w{i}" for i in range(64 - len(words))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.add_special_tokens(special[:4])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<end>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_adapter(base: Path, folder: Path) -> Path:
    """A LoRA adapter on the attention of ``base``, with weights that change its answers."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        adapted = peft.get_peft_model(model, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    adapted.save_pretrained(str(folder))
    return folder
