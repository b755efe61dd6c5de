"""OPT and Falcon: families whose members differ in where norms and residuals stand."""

from families.common import EPSILON, small

OPT = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "activation_function": "relu",
    "vocab_size": 67,
    "hidden_size": 24,
    "ffn_dim": 29,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 32,
    "word_embed_proj_dim": 24,
    "do_layer_norm_before": True,
    "_remove_final_layer_norm": False,
}

FALCON = {
    "architectures": ["FalconForCausalLM"],
    "model_type": "falcon",
    "vocab_size": 67,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "layer_norm_epsilon": EPSILON,
    "alibi": False,
    "bias": False,
}
GROUPED = FALCON | {
    "new_decoder_architecture": True,
    "multi_query": True,
    "parallel_attn": True,
    "num_kv_heads": 2,
}

ROWS = [
    small("opt-pre-norm", OPT),
    # As opt-350m: norms after the residual sums, no final norm, narrow embeddings.
    small("opt-post-norm-projected", OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 14}),
    small(
        "falcon-multi-query",
        FALCON | {"multi_query": True, "new_decoder_architecture": False, "parallel_attn": True},
    ),
    small("falcon-grouped-two-norms", GROUPED),
    small(
        "falcon-grouped-one-norm",
        GROUPED | {"num_ln_in_parallel_attn": 1, "rope_theta": 800.0, "ffn_hidden_size": 35},
    ),
    small(
        "falcon-alibi",
        FALCON
        | {
            "alibi": True,
            "bias": True,
            "multi_query": False,
            "new_decoder_architecture": False,
            "parallel_attn": False,
        },
    ),
]
