"""Models with a transformer block beside the residual stream, which only the mixer reads (Zamba).

Two blocks take turns, one three times and one twice, so that each use's low-rank parts, the names under which shared
weights are stored and the layers' numbers are all different.
"""

from families.common import EPSILON, small
from table import Tensors

ZAMBA2 = {
    "architectures": ["Zamba2ForCausalLM"],
    "model_type": "zamba2",
    "vocab_size": 67,
    "hidden_size": 20,
    "num_hidden_layers": 8,
    "num_mem_blocks": 2,
    "adapter_rank": 5,
    "intermediate_size": 29,
    "rms_norm_eps": EPSILON,
    "mamba_d_state": 7,
    "mamba_d_conv": 3,
    "mamba_expand": 2,
    "chunk_size": 16,
    "max_position_embeddings": 200,
}
PATTERN = ["mamba", "hybrid", "mamba", "hybrid", "hybrid", "hybrid", "mamba", "hybrid"]


def soften(config: dict, tensors: Tensors) -> None:
    """Keeps noise from growing from use to use: attention that is not all on one key, and no block that outweighs
    the stream that it is added to."""
    for name, tensor in tensors.items():
        if ".k_proj." in name or "adapter_list" in name:
            tensor.mul_(0.3)
        if ".linear." in name or "in_proj.weight" in name:
            tensor.mul_(0.5)


# The longest sequence has more than two of the chunks in which the layers may be computed.
COMMON = {
    "max_length": 70,
    "mixers": ("mamba", "mamba_decoder.mamba"),
    "plant": soften,
    "outputs": (("attention_output", "shared_transformer.self_attn"), ("mlp_output", "linear")),
}

ROWS = [
    small(
        "zamba",
        {
            "architectures": ["ZambaForCausalLM"],
            "model_type": "zamba",
            "vocab_size": 67,
            "hidden_size": 20,
            "num_hidden_layers": 8,
            "intermediate_size": 29,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "rms_norm_eps": EPSILON,
            "n_mamba_heads": 4,
            "mamba_d_state": 5,
            "mamba_d_conv": 3,
            "mamba_dt_rank": 3,
            "mamba_proj_bias": True,
            # Layers 2, 4 and 7.
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
        },
        **COMMON | {"outputs": (("attention_output", "shared_transf.self_attn"), ("mlp_output", "linear"))},
    ),
    # As published: legacy names of layers, all that is optional.
    small(
        "zamba2",
        ZAMBA2
        | {
            "layers_block_type": PATTERN,
            "num_attention_heads": 4,
            "n_mamba_heads": 8,
            "mamba_ngroups": 2,
            "time_step_min": 0.3,
            "use_shared_attention_adapter": True,
            "use_mem_rope": True,
            "rope_theta": 500.0,
            "add_bias_linear": True,
        },
        **COMMON,
    ),
    # Grouped queries, which exclude low-rank parts of attention, other heads than the hidden size implies.
    small(
        "zamba2-plain",
        ZAMBA2
        | {
            "layers_block_type": ["hybrid" if kind == "hybrid" else "linear_attention" for kind in PATTERN],
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "attention_head_dim": 14,
            "n_mamba_heads": 5,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
        },
        **COMMON,
    ),
]
