"""Attention, nonlinearities and routers that one family has: Hunyuan, Apertus, Phi-3.5-MoE, Laguna, MiMo-V2."""

import torch
from families.common import ROPE_THETA, WINDOW, llama_like, small
from families.mixtures import unbalance
from table import Tensors

SLIDING = ["sliding_attention", "full_attention"] * 2
YARN = {
    "rope_type": "yarn",
    "rope_theta": ROPE_THETA,
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 8,
}
STRETCHED = {"type": "dynamic", "alpha": 20.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1}


def xielu(config: dict, tensors: Tensors) -> None:
    """Scalars of its own for each layer; eps as large as to show."""
    for layer in range(config["num_hidden_layers"]):
        module = f"model.layers.{layer}.mlp.act_fn."
        tensors[module + "beta"] = torch.tensor(0.4 + 0.2 * layer)
        tensors[module + "eps"] = torch.tensor(-0.1 - 0.2 * layer)


ROWS = [
    small(
        "hunyuan-dense",
        llama_like(
            "hunyuan_v1_dense",
            "HunYuanDenseV1ForCausalLM",
            head_dim=8,
            attention_bias=True,
            rope_scaling=STRETCHED,
            tie_word_embeddings=True,
        ),
    ),
    small(
        "hunyuan-moe",
        llama_like(
            "hunyuan_v1_moe",
            "HunYuanMoEV1ForCausalLM",
            intermediate_size=13,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=6,
            num_experts=5,
            moe_topk=[3, 2],
            use_mixed_mlp_moe=True,
            rope_theta=None,
            rope_parameters=STRETCHED | {"rope_type": "dynamic", "rope_theta": ROPE_THETA},
        ),
    ),
    small(
        "apertus",
        llama_like(
            "apertus",
            "ApertusForCausalLM",
            num_attention_heads=3,
            num_key_value_heads=1,
            hidden_act="xielu",
            attention_bias=True,
            rope_theta=None,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": ROPE_THETA,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        ),
        plant=xielu,
    ),
    # The longest sequence is beyond the original positions.
    small(
        "phimoe",
        llama_like(
            "phimoe",
            "PhimoeForCausalLM",
            intermediate_size=13,
            num_local_experts=6,
            num_experts_per_tok=2,
            # Large enough to leave some experts in.
            router_jitter_noise=0.3,
            attention_bias=True,
            lm_head_bias=True,
            sliding_window=WINDOW,
            rope_theta=None,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": ROPE_THETA,
                "short_factor": [1.0, 1.5, 2.5],
                "long_factor": [1.5, 3.0, 7.0],
                "short_mscale": 1.2,
                "long_mscale": 0.8,
                "original_max_position_embeddings": 16,
            },
        ),
    ),
    small(
        "laguna",
        llama_like(
            "laguna",
            "LagunaForCausalLM",
            num_hidden_layers=4,
            num_key_value_heads=1,
            num_attention_heads_per_layer=[3, 5, 3, 7],
            head_dim=8,
            gating="per-head",
            sliding_window=WINDOW,
            layer_types=SLIDING,
            mlp_layer_types=["dense", "dense", "sparse", "sparse"],
            moe_routed_scaling_factor=1.7,
            moe_intermediate_size=7,
            shared_expert_intermediate_size=11,
            num_experts=6,
            num_experts_per_tok=3,
            rope_theta=None,
            rope_parameters={
                "full_attention": YARN | {"partial_rotary_factor": 0.5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 1.0},
            },
        ),
        plant=unbalance,
    ),
    # A gate for each value; heads and rotation as the config class assumes.
    small(
        "laguna-elements",
        llama_like(
            "laguna",
            "LagunaForCausalLM",
            num_attention_heads=3,
            num_key_value_heads=3,
            head_dim=8,
            gating="per-element",
            attention_bias=True,
            layer_types=["sliding_attention", "full_attention"],
            sliding_window=WINDOW,
            moe_intermediate_size=7,
            shared_expert_intermediate_size=11,
            num_experts=6,
            num_experts_per_tok=3,
            rope_theta=None,
        ),
        plant=unbalance,
    ),
    small(
        "mimo-v2",
        llama_like(
            "mimo_v2_flash",
            "MiMoV2FlashForCausalLM",
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=1,
            head_dim=12,
            v_head_dim=5,
            attention_bias=True,
            attention_value_scale=0.6,
            sliding_window=WINDOW,
            layer_types=SLIDING,
            mlp_layer_types=["dense", "sparse", "dense", "sparse"],
            moe_intermediate_size=7,
            n_routed_experts=6,
            num_experts_per_tok=2,
            n_group=3,
            topk_group=2,
            norm_topk_prob=True,
            routed_scaling_factor=1.7,
            rope_theta=None,
            rope_parameters={
                "full_attention": {"rope_type": "default", "rope_theta": ROPE_THETA, "partial_rotary_factor": 0.5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        ),
        plant=unbalance,
    ),
]
