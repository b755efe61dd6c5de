"""Experts beside shared ones and relatives of them: DeepSeek-V3's kin, MiniMax, ERNIE, Granite, FlexOlmo."""

from families.common import WINDOW, llama_like, small
from families.mixtures import unbalance
from families.relatives import YARN
from transformers import AutoConfig, AutoModelForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM


class KimiK2Config(DeepseekV3Config):
    """Kimi K2 is published with code of its own, which is DeepSeek-V3's."""

    model_type = "kimi_k2"


class KimiK2ForCausalLM(DeepseekV3ForCausalLM):
    config_class = KimiK2Config


AutoConfig.register("kimi_k2", KimiK2Config)
AutoModelForCausalLM.register(KimiK2Config, KimiK2ForCausalLM)

EXPERTS = {
    "moe_intermediate_size": 7,
    "n_routed_experts": 6,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "n_group": 3,
    "topk_group": 2,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.7,
}
# The same under Qwen's names.
NUMBERED = {"moe_intermediate_size": 7, "num_experts": 6, "num_shared_experts": 2, "num_experts_per_tok": 2}
LATENT = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 10,
    "kv_lora_rank": 6,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 8,
}
# Fewer keys than the longer sequences have, and so many heads that no sum is nothing: ties have no order.
INDEXER = {"index_topk": 7, "index_head_dim": 6, "index_n_heads": 17}
DENSE_FIRST = ["dense", "dense", "sparse", "sparse"]
SLIDING = ["sliding_attention", "full_attention"] * 2
GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.6,
    "logits_scaling": 2.5,
    "tie_word_embeddings": True,
}
LLAMA4 = llama_like(
    "llama4_text",
    "Llama4ForCausalLM",
    num_hidden_layers=8,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=8,
    intermediate_size=9,
    intermediate_size_mlp=29,
    num_local_experts=5,
    num_experts_per_tok=2,
    interleave_moe_layer_step=2,
    no_rope_layers=[1, 1, 0, 0, 1, 1, 0, 0],
    attention_chunk_size=5,
    floor_scale=6,
    attn_scale=0.4,
    attention_bias=True,
    # Beyond this vocabulary by default.
    pad_token_id=1,
)

ROWS = [
    small(
        "afmoe",
        llama_like(
            "afmoe",
            "AfmoeForCausalLM",
            num_hidden_layers=4,
            head_dim=8,
            num_dense_layers=2,
            route_scale=1.7,
            sliding_window=WINDOW,
            layer_types=SLIDING,
            mup_enabled=True,
            **NUMBERED,
        ),
        # What the norm behind attention makes of it is added.
        mixers=("post_attention_layernorm",),
        plant=unbalance,
    ),
    small(
        "deepseek-v32",
        llama_like("deepseek_v32", "DeepseekV32ForCausalLM", **LATENT, **EXPERTS, **INDEXER)
        | {"first_k_dense_replace": 2, "attention_bias": True},
        plant=unbalance,
    ),
    small(
        "dots1",
        llama_like(
            "dots1",
            "Dots1ForCausalLM",
            num_hidden_layers=4,
            head_dim=8,
            first_k_dense_replace=2,
            sliding_window=WINDOW,
            max_window_layers=3,
            attention_bias=True,
            **EXPERTS,
        ),
        plant=unbalance,
    ),
    small(
        "ernie4-5-moe",
        llama_like(
            "ernie4_5_moe",
            "Ernie4_5_MoeForCausalLM",
            num_hidden_layers=5,
            head_dim=8,
            use_bias=True,
            moe_intermediate_size=7,
            moe_k=2,
            moe_num_experts=6,
            moe_num_shared_experts=2,
            moe_layer_start_index=1,
            moe_layer_end_index=3,
            moe_layer_interval=1,
            tie_word_embeddings=True,
        ),
        plant=unbalance,
    ),
    small(
        "exaone-moe",
        llama_like(
            "exaone_moe",
            "ExaoneMoeForCausalLM",
            num_hidden_layers=4,
            head_dim=8,
            sliding_window=WINDOW,
            layer_types=SLIDING,
            mlp_layer_types=["dense", "sparse", "sparse", "dense"],
            n_group=3,
            topk_group=2,
            norm_topk_prob=True,
            routed_scaling_factor=1.7,
            **NUMBERED,
        ),
        plant=unbalance,
    ),
    small(
        "flex-olmo",
        llama_like(
            "flex_olmo",
            "FlexOlmoForCausalLM",
            intermediate_size=13,
            num_experts=5,
            num_experts_per_tok=3,
            norm_topk_prob=False,
            # Beyond this vocabulary by default.
            pad_token_id=1,
        ),
    ),
    small(
        "glm4-moe",
        llama_like(
            "glm4_moe",
            "Glm4MoeForCausalLM",
            num_hidden_layers=4,
            head_dim=8,
            attention_bias=True,
            use_qk_norm=True,
            partial_rotary_factor=0.5,
            first_k_dense_replace=2,
            **EXPERTS,
        ),
        plant=unbalance,
    ),
    small(
        "glm4-moe-lite",
        llama_like("glm4_moe_lite", "Glm4MoeLiteForCausalLM", **LATENT, **EXPERTS)
        | {"mlp_layer_types": DENSE_FIRST},
        plant=unbalance,
    ),
    small(
        "glm-moe-dsa",
        llama_like("glm_moe_dsa", "GlmMoeDsaForCausalLM", **LATENT, **EXPERTS, **INDEXER)
        | {"mlp_layer_types": DENSE_FIRST, "indexer_types": ["full", "shared", "full", "shared"]},
        plant=unbalance,
    ),
    small(
        "granitemoe",
        llama_like(
            "granitemoe",
            "GraniteMoeForCausalLM",
            intermediate_size=13,
            num_local_experts=5,
            num_experts_per_tok=3,
            **GRANITE,
        ),
    ),
    small(
        "granitemoeshared",
        llama_like(
            "granitemoeshared",
            "GraniteMoeSharedForCausalLM",
            intermediate_size=13,
            num_local_experts=5,
            num_experts_per_tok=3,
            shared_intermediate_size=11,
            attention_bias=True,
            **GRANITE,
        ),
    ),
    # As Granite 4 of 350M: no experts, rotation.
    small(
        "granitemoehybrid-dense",
        llama_like(
            "granitemoehybrid",
            "GraniteMoeHybridForCausalLM",
            num_local_experts=0,
            num_experts_per_tok=0,
            shared_intermediate_size=29,
            layer_types=["attention", "attention"],
            position_embedding_type="rope",
            mamba_n_heads=2,
            mamba_d_head=24,
            **GRANITE,
        ),
    ),
    small(
        "granitemoehybrid-experts",
        llama_like(
            "granitemoehybrid",
            "GraniteMoeHybridForCausalLM",
            intermediate_size=13,
            num_local_experts=5,
            num_experts_per_tok=3,
            shared_intermediate_size=11,
            layer_types=["attention", "attention"],
            position_embedding_type="nope",
            mamba_n_heads=2,
            mamba_d_head=24,
            **GRANITE,
        ),
    ),
    small(
        "hy-v3",
        llama_like(
            "hy_v3",
            "HYV3ForCausalLM",
            num_hidden_layers=4,
            head_dim=8,
            router_scaling_factor=1.7,
            mlp_layer_types=DENSE_FIRST,
            **NUMBERED,
        ),
        plant=unbalance,
    ),
    small(
        "kimi-k2",
        llama_like("kimi_k2", "DeepseekV3ForCausalLM", **LATENT, **EXPERTS)
        | {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 2},
        plant=unbalance,
    ),
    # Two layers of each kind: rotated within chunks or neither, dense or with experts.
    small("llama4-text", LLAMA4, plant=unbalance),
    small(
        "minimax-m2",
        llama_like(
            "minimax_m2",
            "MiniMaxM2ForCausalLM",
            intermediate_size=13,
            head_dim=8,
            rotary_dim=4,
            num_local_experts=5,
            num_experts_per_tok=3,
        ),
        plant=unbalance,
    ),
    small(
        "mistral4",
        llama_like(
            "mistral4",
            "Mistral4ForCausalLM",
            max_position_embeddings=128,
            rope_theta=None,
            rope_parameters=YARN,
            first_k_dense_replace=2,
            **LATENT,
            **EXPERTS,
        ),
    ),
]
