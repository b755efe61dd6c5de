"""Decoders whose layers mix tokens with more than attention: LFM2."""

from families.common import EPSILON, llama_like, small
from families.mixtures import unbalance

LFM2 = {"norm_eps": EPSILON, "rms_norm_eps": None, "hidden_act": None}

ROWS = [
    small(
        "lfm2",
        llama_like(
            "lfm2",
            "Lfm2ForCausalLM",
            num_hidden_layers=5,
            layer_types=["conv", "full_attention", "conv", "conv", "full_attention"],
            conv_bias=True,
            conv_L_cache=4,
            # 2/3 of it is 27, 1.4 times that 37, which makes 40.
            intermediate_size=41,
            block_multiple_of=8,
            block_ffn_dim_multiplier=1.4,
            tie_word_embeddings=True,
            **LFM2,
        ),
    ),
    small(
        "lfm2-moe",
        llama_like(
            "lfm2_moe",
            "Lfm2MoeForCausalLM",
            num_hidden_layers=4,
            num_attention_heads=3,
            num_key_value_heads=1,
            layer_types=["conv", "full_attention", "conv", "full_attention"],
            moe_intermediate_size=7,
            num_experts=6,
            num_experts_per_tok=3,
            num_dense_layers=2,
            norm_topk_prob=True,
            use_expert_bias=True,
            routed_scaling_factor=1.7,
            **LFM2,
        ),
        plant=unbalance,
        mixers=("conv", "self_attn"),
    ),
    # With the keys of the first published configs.
    small(
        "lfm2-first-keys",
        llama_like(
            "lfm2",
            "Lfm2ForCausalLM",
            num_hidden_layers=4,
            full_attn_idxs=[2, 3],
            intermediate_size=None,
            block_ff_dim=29,
            block_auto_adjust_ff_dim=False,
            tie_word_embeddings=None,
            tie_embedding=False,
            **LFM2,
        ),
    ),
]
