"""Families before Llama: GPT-NeoX, GPT-J, BLOOM, MPT, with fused or rotated parts of their own."""

import torch

from families.common import EPSILON, small
from table import Tensors

NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "hidden_act": "gelu",
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 35,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 32,
    "layer_norm_eps": EPSILON,
    "rotary_emb_base": 500,
    "rotary_pct": 0.5,
    "tie_word_embeddings": False,
}
BLOOM = {
    "architectures": ["BloomForCausalLM"],
    "model_type": "bloom",
    "vocab_size": 67,
    "n_layer": 2,
    "layer_norm_epsilon": EPSILON,
    # Slopes of a head count that is no power of two come in two series.
    "num_attention_heads": 6,
}
MPT = {
    "architectures": ["MPTForCausalLM"],
    "model_type": "mpt",
    "vocab_size": 67,
    "d_model": 24,
    "n_heads": 6,
    "n_layers": 2,
    "max_seq_len": 32,
    "expansion_ratio": 4,
    "no_bias": True,
}


def neox_buffers(config: dict) -> Tensors:
    """Mask and frequency buffers that the Pythia files carry along."""
    positions = config["max_position_embeddings"]
    buffers = {}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"gpt_neox.layers.{layer}.attention."
        buffers[prefix + "bias"] = torch.ones(1, 1, positions, positions).tril()
        buffers[prefix + "masked_bias"] = torch.tensor(-1e9)
        buffers[prefix + "rotary_emb.inv_freq"] = torch.ones(2)
    return buffers


ROWS = [
    small(
        "gpt-neox-parallel",
        NEOX | {"use_parallel_residual": True},
        extra_tensors=neox_buffers,
        allowed_unused=(r"attention\.(bias|masked_bias|rotary_emb\.inv_freq)$",),
    ),
    small(
        "gpt-neox-sequential",
        NEOX | {"use_parallel_residual": False, "rotary_pct": 1.0, "hidden_act": "gelu_fast"},
    ),
    small(
        "gptj",
        {
            "architectures": ["GPTJForCausalLM"],
            "model_type": "gptj",
            "activation_function": "gelu_new",
            "vocab_size": 67,
            "n_embd": 24,
            "n_head": 3,
            "n_layer": 2,
            "n_positions": 32,
            "rotary_dim": 4,
            "layer_norm_epsilon": EPSILON,
            "tie_word_embeddings": False,
        },
    ),
    # The published small ones are saved without the prefix and say n_embed.
    small("bloom", BLOOM | {"n_embed": 24}, rename=lambda name: name.removeprefix("transformer.")),
    small(
        "bloom-residual-after-norm",
        BLOOM | {"hidden_size": 24, "apply_residual_connection_post_layernorm": True},
    ),
    small("mpt", MPT | {"attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_impl": "torch"}}),
    # transformers ignores the expansion ratio and the largest bias, and always takes 4 and 8.
    small(
        "mpt-clip-qkv",
        MPT
        | {
            "n_heads": 3,
            "expansion_ratio": 3,
            "attn_config": {"alibi": True, "alibi_bias_max": 4, "clip_qkv": 0.9, "softmax_scale": 0.3},
        },
    ),
]
