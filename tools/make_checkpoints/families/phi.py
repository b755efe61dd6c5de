"""Phi-2 (parallel blocks, partial rotation) and Phi-3 (fused projections, two sets of frequencies)."""

from families.common import EPSILON, WINDOW, llama_like, small

PHI = llama_like(
    "phi",
    "PhiForCausalLM",
    rms_norm_eps=None,
    layer_norm_eps=EPSILON,
    hidden_act="gelu_new",
    hidden_size=30,
    num_attention_heads=3,
    num_key_value_heads=3,
    partial_rotary_factor=0.4,
    qk_layernorm=False,
)
PHI3 = llama_like(
    "phi3", "Phi3ForCausalLM", rms_norm_eps=EPSILON, pad_token_id=0, bos_token_id=1, eos_token_id=2
)

ROWS = [
    small("phi", PHI),
    small("phi-qk-norm", PHI | {"qk_layernorm": True}),
    small("phi3-window", PHI3 | {"sliding_window": WINDOW}),
    # The shorter reference sequences use the short factors, the longest the long ones.
    small(
        "phi3-longrope",
        PHI3
        | {
            "original_max_position_embeddings": 16,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.1, 1.3],
                "long_factor": [1.2, 2.5, 6.0],
            },
        },
    ),
    # As Phi-4-mini: longrope over three quarters of a head, tied.
    small(
        "phi3-longrope-partial",
        PHI3
        | {
            "hidden_size": 32,
            "tie_word_embeddings": True,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 16,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.1, 1.3],
                "long_factor": [1.2, 2.5, 6.0],
            },
        },
    ),
]
