"""Mixtures of experts outside Qwen: Mixtral, OLMoE, gpt-oss, DeepSeek-V2 and V3."""

import torch

from families.common import WINDOW, llama_like, small
from table import Tensors


def unbalance(config: dict, tensors: Tensors) -> None:
    """DeepSeek's balancing bias is a buffer, so the random weights leave it at zero."""
    for name, tensor in tensors.items():
        if name.endswith(("e_score_correction_bias", "expert_bias")):
            tensor.copy_(torch.linspace(-0.3, 0.4, tensor.numel()).view(tensor.shape))


ROWS = [
    small(
        "mixtral",
        llama_like(
            "mixtral", "MixtralForCausalLM", intermediate_size=13, num_local_experts=5, num_experts_per_tok=3
        ),
    ),
    small(
        "olmoe",
        llama_like(
            "olmoe",
            "OlmoeForCausalLM",
            intermediate_size=13,
            num_experts=5,
            num_experts_per_tok=3,
            norm_topk_prob=False,
        ),
    ),
    small(
        "gpt-oss",
        llama_like(
            "gpt_oss",
            "GptOssForCausalLM",
            intermediate_size=13,
            head_dim=8,
            num_local_experts=4,
            num_experts_per_tok=2,
            attention_bias=True,
            sliding_window=WINDOW,
            num_hidden_layers=4,
            layer_types=["sliding_attention", "full_attention"] * 2,
            # The published limit of 7 would clamp nothing here.
            swiglu_limit=2.0,
            rope_theta=20000.0,
            rope_scaling={
                "rope_type": "yarn",
                "factor": 4.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 8,
            },
        ),
        mixers=("self_attn",),
    ),
    # Two dense layers, then experts in groups; compressed queries and keys.
    small(
        "deepseek-v3",
        llama_like(
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            num_hidden_layers=4,
            num_key_value_heads=4,
            q_lora_rank=10,
            kv_lora_rank=6,
            qk_rope_head_dim=4,
            qk_nope_head_dim=6,
            v_head_dim=8,
            first_k_dense_replace=2,
            moe_intermediate_size=7,
            n_routed_experts=6,
            n_shared_experts=2,
            num_experts_per_tok=2,
            n_group=3,
            topk_group=2,
            norm_topk_prob=True,
            routed_scaling_factor=1.7,
        ),
        plant=unbalance,
    ),
    # Queries in one piece (a null; absent would mean 1536), the best group by its best expert, yarn with a factor on q.k.
    small(
        "deepseek-v2",
        llama_like(
            "deepseek_v2",
            "DeepseekV2ForCausalLM",
            num_key_value_heads=4,
            kv_lora_rank=6,
            qk_rope_head_dim=4,
            qk_nope_head_dim=6,
            v_head_dim=8,
            first_k_dense_replace=1,
            moe_intermediate_size=7,
            n_routed_experts=6,
            n_shared_experts=2,
            num_experts_per_tok=2,
            topk_method="group_limited_greedy",
            n_group=3,
            topk_group=2,
            routed_scaling_factor=1.7,
            rope_scaling={
                "type": "yarn",
                "factor": 4.0,
                "beta_fast": 32,
                "beta_slow": 1,
                "mscale": 0.7,
                "mscale_all_dim": 0.9,
                "original_max_position_embeddings": 8,
            },
        )
        | {"q_lora_rank": None},
    ),
    # Halves of the rotated part paired instead of neighbours, biases.
    small(
        "deepseek-v3-halves",
        llama_like(
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            num_key_value_heads=4,
            kv_lora_rank=6,
            qk_rope_head_dim=4,
            qk_nope_head_dim=6,
            v_head_dim=8,
            first_k_dense_replace=1,
            moe_intermediate_size=7,
            n_routed_experts=6,
            n_shared_experts=1,
            num_experts_per_tok=3,
            n_group=2,
            topk_group=1,
            norm_topk_prob=False,
            routed_scaling_factor=0.8,
            attention_bias=True,
            rope_interleave=False,
            rope_scaling={
                "type": "yarn",
                "factor": 4.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 8,
            },
        )
        | {"q_lora_rank": None},
        plant=unbalance,
    ),
]
