"""Models with Mamba's layers: alone, in the place of attention, and beside it.

The longest sequence has more than two of the chunks in which the layers may be computed.
"""

from families.common import EPSILON, llama_like, small
from families.routed import unbalance

CHUNKS = {"max_length": 140}
# Keys of Bamba, Granite and Falcon-H1: 6 heads of 8 in 3 groups.
MAMBA2 = {
    "mamba_n_heads": 6,
    "mamba_d_head": 8,
    "mamba_n_groups": 3,
    "mamba_d_state": 7,
    "mamba_d_conv": 3,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
    "mamba_proj_bias": True,
    "max_position_embeddings": 200,
}
NEMOTRON_H = {
    "architectures": ["NemotronHForCausalLM"],
    "model_type": "nemotron_h",
    "vocab_size": 67,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 10,
    "intermediate_size": 29,
    "layer_norm_epsilon": EPSILON,
    "mamba_num_heads": 6,
    "mamba_head_dim": 5,
    "n_groups": 3,
    "ssm_state_size": 7,
    "conv_kernel": 3,
    "chunk_size": 16,
    "n_routed_experts": 6,
    "num_experts_per_tok": 3,
    "n_shared_experts": 1,
    "moe_intermediate_size": 9,
    "moe_shared_expert_intermediate_size": 11,
    "routed_scaling_factor": 1.7,
}
# Names and sizes of models of nothing but Mamba's layers.
ALONE = {
    "vocab_size": 67,
    "hidden_size": 20,
    "num_hidden_layers": 3,
    "layer_norm_epsilon": EPSILON,
    "conv_kernel": 3,
    "expand": 2,
}
GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.6,
    "logits_scaling": 2.5,
}

ROWS = [
    # Old keys: a letter a layer.
    small(
        "nemotron-h",
        NEMOTRON_H
        | {
            "hybrid_override_pattern": "M*-EM-*E",
            "num_hidden_layers": 8,
            "time_step_min": 0.3,
            "use_bias": True,
            "mlp_bias": True,
            "n_group": 2,
            "topk_group": 1,
            "norm_topk_prob": True,
        },
        plant=unbalance,
        **CHUNKS,
    ),
    small(
        "nemotron-h-latent",
        NEMOTRON_H
        | {
            "layers_block_type": ["mamba", "moe", "attention", "moe"],
            "moe_latent_size": 13,
            "use_conv_bias": False,
            "norm_topk_prob": False,
        },
        plant=unbalance,
    ),
    small(
        "granitemoehybrid-mamba",
        llama_like(
            "granitemoehybrid",
            "GraniteMoeHybridForCausalLM",
            num_hidden_layers=4,
            intermediate_size=13,
            num_attention_heads=3,
            num_key_value_heads=1,
            num_local_experts=5,
            num_experts_per_tok=3,
            shared_intermediate_size=11,
            layer_types=["mamba", "attention", "mamba", "attention"],
            position_embedding_type="nope",
            **GRANITE,
            **MAMBA2,
        ),
        **CHUNKS,
    ),
    small(
        "bamba",
        llama_like(
            "bamba",
            "BambaForCausalLM",
            num_hidden_layers=4,
            head_dim=12,
            attn_layer_indices=[1, 2],
            attention_bias=True,
            time_step_limit=[0.4, 1.1],
            **MAMBA2 | {"mamba_d_head": "auto", "mamba_n_groups": 1},
        ),
        **CHUNKS,
    ),
    small(
        "falcon-h1",
        llama_like(
            "falcon_h1",
            "FalconH1ForCausalLM",
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=10,
            mamba_d_ssm=30,
            mamba_rms_norm=True,
            mamba_norm_before_gate=False,
            projectors_bias=True,
            attention_bias=True,
            mlp_bias=True,
            lm_head_multiplier=0.7,
            embedding_multiplier=1.3,
            mlp_multipliers=[0.8, 1.2],
            key_multiplier=0.6,
            attention_out_multiplier=0.9,
            attention_in_multiplier=1.4,
            ssm_multipliers=[0.9, 1.3, 0.7, 1.6, 0.8],
            ssm_in_multiplier=1.25,
            ssm_out_multiplier=0.75,
            **MAMBA2 | {"mamba_d_head": 5},
        ),
        **CHUNKS,
    ),
    small(
        "falcon-h1-norm-first",
        llama_like(
            "falcon_h1",
            "FalconH1ForCausalLM",
            mamba_d_ssm=48,
            mamba_rms_norm=True,
            tie_word_embeddings=True,
            **MAMBA2 | {"mamba_proj_bias": False},
        ),
    ),
    small(
        "falcon-h1-no-norm",
        llama_like(
            "falcon_h1",
            "FalconH1ForCausalLM",
            mamba_d_ssm=48,
            mamba_conv_bias=False,
            **MAMBA2,
        ),
    ),
    small(
        "mamba2",
        {
            "architectures": ["Mamba2ForCausalLM"],
            "model_type": "mamba2",
            "num_heads": 8,
            "head_dim": 5,
            "n_groups": 2,
            "state_size": 7,
            "chunk_size": 16,
            "use_bias": True,
            "time_step_limit": [0.0, 0.9],
        }
        | ALONE,
        **CHUNKS,
    ),
    small(
        "mamba",
        {
            "architectures": ["MambaForCausalLM"],
            "model_type": "mamba",
            "state_size": 5,
            "time_step_rank": 3,
            "use_bias": True,
            "tie_word_embeddings": False,
        }
        | ALONE,
        **CHUNKS,
    ),
    small(
        "falcon-mamba",
        {
            "architectures": ["FalconMambaForCausalLM"],
            "model_type": "falcon_mamba",
            "state_size": 5,
            "mixer_rms_eps": 0.01,
            "use_conv_bias": False,
        }
        | ALONE,
    ),
    small(
        "jamba",
        llama_like(
            "jamba",
            "JambaForCausalLM",
            num_hidden_layers=6,
            num_attention_heads=3,
            num_key_value_heads=1,
            intermediate_size=13,
            attn_layer_period=3,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            num_experts=5,
            num_experts_per_tok=2,
            mamba_d_state=5,
            mamba_d_conv=3,
            mamba_dt_rank=3,
            mamba_proj_bias=True,
            rope_theta=None,
        ),
        **CHUNKS,
    ),
]
