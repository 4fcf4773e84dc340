"""What may stand in a model's ``config.json``: the list of models, and the list of keys.

Owns: both lists, and the check. Must not know: where a folder lies or what its weights are.

The library that loads a folder obeys its configuration: some keys name code to fetch and run. So a folder is
refused for any key that is not listed here, however deep it stands. The keys are the fields of the listed
models' configuration classes in transformers 5.23, and what older versions wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sage.errors import UnsafeFile

__all__ = ["MODEL_TYPES", "check_config", "check_no_code"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODEL_TYPES = _words(
    """
    cohere cohere2 gemma gemma2 gemma3 gemma3_text glm4 gpt2 gpt_neox granite granitemoe lfm2 llama mistral
    mixtral nemotron nemotron_h olmo olmo2 olmoe phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe
    qwen3_omni_moe smollm3 stablelm starcoder2
    """
)
"""Each is loaded by the tests, from a small checkpoint, as a user's weights are."""

PART_TYPES = _words(
    """
     qwen3_omni_moe_audio_encoder qwen3_omni_moe_code2wav qwen3_omni_moe_talker
    qwen3_omni_moe_talker_code_predictor qwen3_omni_moe_talker_text qwen3_omni_moe_text
    qwen3_omni_moe_thinker qwen3_omni_moe_vision_encoder siglip_vision_model
    """
)
"""What they may consist of."""

KEYS = _words(
    """
    __float__ _model_name_or_path _name_or_path _sliding_window_pattern accept_hidden_layer activation
    activation_dropout activation_function add_cross_attention apply_residual_connection_post_layernorm
    architectures assistant_token_id attention_bias attention_dropout attention_factor attention_head_dim
    attention_logit_cap attention_multiplier attention_probs_dropout_prob attn_logit_softcapping attn_pdrop
    audio_config audio_end_token_id audio_start_token_id audio_token_id bad_words_ids begin_suppress_tokens
    beta_fast beta_slow bias block_auto_adjust_ff_dim block_dim block_ff_dim block_ffn_dim_multiplier
    block_mlp_init_scale block_multiple_of block_norm_eps block_out_init_scale block_use_swiglu
    block_use_xavier_init boi_token_id boi_token_index bos_token_id chunk_size chunk_size_feed_forward
    classifier_dropout clip_qkv code2wav_config code_predictor_config codebook_dim codebook_size
    codec_bos_id codec_eos_token_id codec_nothink_id codec_pad_id codec_think_bos_id codec_think_eos_id
    conv_L_cache conv_bias conv_chunksize conv_dim conv_dim_out conv_kernel conv_use_xavier_init
    cross_attention_hidden_size d_model decoder_dim decoder_sparse_step decoder_start_token_id
    deepstack_visual_indexes depth diversity_penalty do_sample downsample_hidden_size dropout dtype
    early_stopping embd_pdrop embedding_dropout embedding_multiplier enable_audio_output
    encoder_attention_heads encoder_ffn_dim encoder_layers encoder_no_repeat_ngram_size eoi_token_id
    eoi_token_index eos_token_id expand exponential_decay_length_penalty factor ffn_dim
    final_logit_softcapping finetuning_task forced_bos_token_id forced_eos_token_id full_attention
    full_attn_idxs gradient_checkpointing head_dim hidden_act hidden_activation hidden_dropout
    hidden_dropout_prob hidden_size high_freq_factor hybrid_override_pattern id2label im_end_token_id
    im_start_token_id image_size image_token_id image_token_index in_channels init_std initializer_factor
    initializer_range input_jitter_noise interleaved intermediate_size is_decoder is_encoder_decoder
    is_llama_config label2id latent_dim layer_norm_elementwise_affine layer_norm_eps layer_norm_epsilon
    layer_scale_initial_scale layer_types layers_block_type length_penalty lm_head_bias logit_scale
    logits_scaling long_factor long_mscale low_freq_factor mamba_chunk_size mamba_conv_bias mamba_d_conv
    mamba_dt_init_floor mamba_dt_limit mamba_dt_max mamba_dt_min mamba_expand mamba_head_dim
    mamba_hidden_act mamba_n_groups mamba_num_heads mamba_proj_bias mamba_ssm_cache_dtype max_length
    max_position_embeddings max_source_positions max_window_layers min_length mlp_bias mlp_hidden_act
    mlp_only_layers mm_tokens_per_image model_type moe_intermediate_size moe_latent_size
    moe_shared_expert_intermediate_size moe_shared_expert_overlap mrope_interleaved mrope_section mscale
    mscale_all_dim mtp_hybrid_override_pattern mtp_layers_block_type n_ctx n_embd n_group n_groups n_head
    n_inner n_layer n_positions n_routed_experts n_shared_experts n_window n_window_infer
    no_repeat_ngram_size no_rope_layer_interval no_rope_layers norm_eps norm_epsilon norm_topk_prob
    num_attention_heads num_beam_groups num_beams num_channels num_code_groups num_experts
    num_experts_per_tok num_heads num_hidden_layers num_key_value_heads num_labels num_local_experts
    num_logits_to_keep num_mel_bins num_nextn_predict_layers num_position_embeddings num_quantizers
    num_return_sequences original_max_position_embeddings out_hidden_size output_attentions output_dim
    output_hidden_states output_router_logits output_scores pad_token_id partial_rotary_factor patch_size
    position_embedding_type position_id_per_seconds prefix pretraining_tp problem_type projection_dim
    pruned_heads qk_layernorm qkv_bias query_pre_attn_scalar remove_invalid_values reorder_and_upcast_attn
    repetition_penalty rescale_prenorm_residual resid_pdrop residual_dropout residual_in_fp32
    residual_multiplier return_dict return_dict_in_generate rms_norm_eps rope_local_base_freq
    rope_parameters rope_scaling rope_theta rope_type rotary_emb_base rotary_pct routed_scaling_factor
    router_aux_loss_coef router_jitter_noise scale_attn_by_inverse_layer_idx scale_attn_weights
    scale_embedding seconds_per_chunk sep_token_id shared_expert_intermediate_size short_factor short_mscale
    shuffle sliding_attention sliding_window sliding_window_pattern sliding_window_size spatial_merge_size
    speaker_id ssm_state_size summary_activation summary_first_dropout summary_proj_to_labels summary_type
    summary_use_proj suppress_tokens system_token_id talker_config task_specific_params temperature
    temporal_patch_size text-generation text_config text_hidden_size tf_legacy_loss theta thinker_config
    thinker_hidden_size tie_embedding tie_encoder_decoder tie_word_embeddings time_step_floor
    time_step_limit time_step_max time_step_min time_step_rank tokenizer_class tokens_per_second top_k top_p
    topk_group torch_dtype torchscript transformers_version truncate tts_bos_token_id tts_eos_token_id
    tts_pad_token_id type typical_p unk_token_id unsloth_fixed unsloth_version upsample_rates
    upsampling_ratios use_bfloat16 use_bias use_bidirectional_attention use_cache use_conv_bias
    use_mamba_kernels use_mrope use_parallel_residual use_pos_enc use_qk_norm use_qkv_bias
    use_sliding_window user_token_id vector_quantization_hidden_dimension video_token_id vision_config
    vision_end_token_id vision_start_token_id vision_use_head vocab_size z_loss_coefficient
    """
)

LABELS = frozenset({"id2label", "label2id", "speaker_id"})
"""Tables whose keys are free and whose values are plain."""

ATTENTION = frozenset({"_attn_implementation", "attn_implementation", "_attn_implementation_autoset"})
"""How attention is computed; any other value than these can name code on the hub."""
ATTENTION_VALUES = (None, True, False, "eager", "sdpa")

MAX_DEPTH = 8


def check_config(config: Mapping[str, Any]) -> None:
    """Pass a model's configuration only if every key and every type of model in it is listed.

    ``quantization_config`` is no business of this check: whoever calls it looks at it first.

    Raises:
        UnsafeFile: something is not listed; names it.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise UnsafeFile(
            f"config.json: models of the type {kind!r:.60} are not known here",
            mend="Use a GGUF file of this model, which llama.cpp may know",
        )
    check_no_code(config, "config.json")
    _check_keys(config, MAX_DEPTH)


def _check_keys(table: Mapping[str, Any], depth: int) -> None:
    for key, value in table.items():
        if key in ATTENTION:
            if not any(value is allowed or value == allowed for allowed in ATTENTION_VALUES):
                raise _unlisted(f"{key} = {value!r:.60}")
        elif key not in KEYS:
            raise _unlisted(key)
        if key == "model_type" and value not in MODEL_TYPES | PART_TYPES and value != "":
            raise _unlisted(f"model_type = {value!r:.60}")
        inner = value if isinstance(value, list) else [value]
        for item in inner:
            if not isinstance(item, dict):
                continue
            if depth == 0 or (key in LABELS and any(isinstance(v, dict | list) for v in item.values())):
                raise _unlisted(f"{key}, which is too deep")
            if key not in LABELS:
                _check_keys(item, depth - 1)


def _unlisted(what: str) -> UnsafeFile:
    return UnsafeFile(
        f"config.json has {what:.100}, which is not on the list of what may be passed on",
        mend="Remove it from config.json where you know that the model runs without it",
    )


def check_no_code(value: Any, file: str) -> None:
    """Refuse ``auto_map``, which names code to run, wherever it stands.

    Raises:
        UnsafeFile: it is there.
    """
    rest = [value]  # no recursion: the file decides how deep it is
    while rest:
        item = rest.pop()
        if isinstance(item, Mapping):
            if {"auto_map", "custom_pipelines"} & set(item):
                raise UnsafeFile(
                    f"{file} names code of its own (auto_map), which is never run here",
                    mend=f"Where the library knows the model without it, remove auto_map from {file}",
                )
            rest += item.values()
        elif isinstance(item, list):
            rest += item
