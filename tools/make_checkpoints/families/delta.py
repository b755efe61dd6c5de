"""Gated delta nets in the place of attention: Qwen3-Next, Qwen3.5, OLMo Hybrid, Kimi Linear."""

import torch

from families.common import llama_like, small
from families.mixtures import unbalance
from families.stored import stacked_experts
from families.wrapped import QWEN_VISION, text, wrapper
from table import Tensors

KINDS = ["linear_attention", "full_attention"] * 2
# Two value heads a key head; neither width is a multiple of 8.
NETS = {
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 5,
    "linear_value_head_dim": 7,
    "linear_num_key_heads": 3,
    "linear_num_value_heads": 6,
}
HYBRID = {
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "head_dim": 12,
    "layer_types": KINDS,
    "partial_rotary_factor": 0.5,
    "attention_bias": True,
    **NETS,
}
EXPERTS = {
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 11,
    "shared_expert_intermediate_size": 17,
}
VISION = QWEN_VISION | {"num_position_embeddings": 4}
MROPE = {"rope_type": "default", "rope_theta": 700.0, "mrope_interleaved": True, "mrope_section": [1, 1, 1]}


def remember(config: dict, tensors: Tensors) -> None:
    """Heads that forget at once and heads that hardly forget: as the library draws them, nearly all do at once."""
    for name, tensor in tensors.items():
        if name.endswith("A_log"):
            tensor.copy_(torch.linspace(-5.0, 1.5, tensor.numel()).view(tensor.shape))
    unbalance(config, tensors)


def dense_as_published(name: str) -> str:
    """transformers saves the MLP of Kimi Linear's dense layers by the name that others have."""
    return name.replace("layers.0.block_sparse_moe.", "layers.0.mlp.")


def full_norms_as_published(name: str) -> str:
    """transformers saves a norm of OLMo Hybrid's attention layers by the name that other layers' have."""
    for layer in (1, 3):
        name = name.replace(f"layers.{layer}.feedforward_layer_norm.", f"layers.{layer}.post_attention_layernorm.")
    return name


ROWS = [
    small(
        "qwen3-next",
        llama_like("qwen3_next", "Qwen3NextForCausalLM", **HYBRID, **EXPERTS)
        | {"num_key_value_heads": 2, "mlp_only_layers": [1], "norm_topk_prob": False},
        plant=remember,
        mixers=("linear_attn", "self_attn"),
    ),
    # Kinds of layers by an interval, one value head a key head, weights renormalised by default.
    small(
        "qwen3-next-interval",
        llama_like("qwen3_next", "Qwen3NextForCausalLM", **HYBRID, **EXPERTS)
        | {"num_key_value_heads": 2, "linear_num_value_heads": 3, "full_attention_interval": 3}
        | {"num_hidden_layers": 6, "layer_types": None, "tie_word_embeddings": True},
        plant=remember,
    ),
    small(
        "qwen3-5-text",
        llama_like("qwen3_5_text", "Qwen3_5ForCausalLM", **HYBRID) | {"num_key_value_heads": 2},
        plant=remember,
    ),
    small(
        "qwen3-5-moe-text",
        llama_like("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", intermediate_size=None, **HYBRID, **EXPERTS)
        | {"num_key_value_heads": 2},
        plant=remember,
    ),
    # As published, with the rotary settings in their section.
    small(
        "qwen3-5",
        wrapper(
            "qwen3_5",
            "Qwen3_5ForConditionalGeneration",
            text("qwen3_5_text", rope_theta=None, **HYBRID | {"partial_rotary_factor": None})
            | {"rope_parameters": MROPE | {"partial_rotary_factor": 0.5}, "attn_output_gate": True},
            VISION,
            tie_word_embeddings=True,
        ),
        plant=remember,
    ),
    # Experts as published, stacked.
    small(
        "qwen3-5-moe",
        wrapper(
            "qwen3_5_moe",
            "Qwen3_5MoeForConditionalGeneration",
            text("qwen3_5_moe_text", rope_theta=None, **HYBRID, **EXPERTS) | {"rope_parameters": MROPE},
            VISION,
        ),
        layout=stacked_experts,
        plant=remember,
    ),
    # As published: no rotation.
    small(
        "olmo-hybrid",
        llama_like("olmo_hybrid", "OlmoHybridForCausalLM", **NETS)
        | {"num_hidden_layers": 4, "layer_types": KINDS, "pad_token_id": 1}
        | {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": None}},
        rename=full_norms_as_published,
        plant=remember,
    ),
    # Sizes by default, rotation, no negative eigenvalues.
    small(
        "olmo-hybrid-rotated",
        llama_like("olmo_hybrid", "OlmoHybridForCausalLM", num_hidden_layers=6, attention_bias=True)
        | {"linear_allow_neg_eigval": False, "linear_num_key_heads": 2, "pad_token_id": 1},
        plant=remember,
    ),
    small(
        "kimi-linear",
        llama_like("kimi_linear", "KimiLinearForCausalLM", max_position_embeddings=None, rope_theta=10000.0)
        | {
            "model_max_length": 32,
            "num_hidden_layers": 4,
            "num_key_value_heads": 4,
            "linear_attn_config": {
                "full_attn_layers": [2, 4],
                "kda_layers": [1, 3],
                "num_heads": 3,
                "head_dim": 7,
                "short_conv_kernel_size": 3,
            },
            "mla_use_nope": True,
            "q_lora_rank": None,
            "kv_lora_rank": 6,
            "qk_nope_head_dim": 6,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 7,
            "moe_layer_freq": 1,
            "moe_renormalize": True,
            "moe_router_activation_func": "sigmoid",
            "num_experts": 6,
            "num_experts_per_token": 2,
            "num_expert_group": 3,
            "topk_group": 2,
            "num_shared_experts": 2,
            "routed_scaling_factor": 1.7,
            "use_grouped_topk": True,
            "rope_scaling": None,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
        rename=dense_as_published,
        plant=remember,
    ),
]
