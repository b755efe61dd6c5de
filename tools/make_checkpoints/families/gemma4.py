"""Gemma 3n and 4: heads by kind of layer, values with a norm, layers' scalars; experts beside the MLP,
embeddings for each layer, shared keys and values, several residual streams."""

import torch

from families.common import WINDOW, llama_like, small
from table import Tensors

TEXT = llama_like(
    "gemma4_text",
    "Gemma4ForCausalLM",
    num_hidden_layers=5,
    num_attention_heads=6,
    num_key_value_heads=2,
    hidden_act=None,
    tie_word_embeddings=None,
    rope_theta=None,
    hidden_activation="gelu_pytorch_tanh",
    head_dim=8,
    sliding_window=WINDOW,
    layer_types=["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    # Three of six pairs of a global head rotate.
    rope_parameters={
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    },
)
GLOBAL = {"global_head_dim": 12}
# As transformers 5 saves the same setting.
SINGLE = {
    "per_layer_config": {
        "1": {"head_dim": 12, "num_key_value_heads": 3},
        "4": {"head_dim": 12, "num_key_value_heads": 3},
    }
}
PLAIN = {"hidden_size_per_layer_input": 0}
VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 4,
    "intermediate_size": 4,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "head_dim": 4,
    "patch_size": 2,
    "position_embedding_size": 4,
}
UNIFIED_VISION = {
    "model_type": "gemma4_unified_vision",
    "patch_size": 2,
    "pooling_kernel_size": 1,
    "mm_embed_dim": 4,
    "mm_posemb_size": 4,
    "output_proj_dims": 4,
}
OUTER = ("architectures", "tie_word_embeddings")
GEMMA3N = llama_like(
    "gemma3n_text",
    "Gemma3nForCausalLM",
    num_hidden_layers=6,
    num_attention_heads=6,
    num_key_value_heads=2,
    hidden_act=None,
    tie_word_embeddings=None,
    rope_theta=300.0,
    rope_local_base_freq=80.0,
    hidden_activation="gelu_pytorch_tanh",
    head_dim=8,
    sliding_window=WINDOW,
    layer_types=[
        "sliding_attention",
        "full_attention",
        "sliding_attention",
        "full_attention",
        "full_attention",
        "sliding_attention",
    ],
    num_kv_shared_layers=2,
    intermediate_size=[29, 29, 13, 29, 31, 13],
    activation_sparsity_pattern=[0.8, 0.0, 0.6, 0.0, 0.3, 0.0],
    hidden_size_per_layer_input=5,
    # Fewer than the vocabulary has.
    vocab_size_per_layer_input=60,
    altup_num_inputs=3,
    laurel_rank=7,
    final_logit_softcapping=4.0,
)


def nested(config: dict) -> dict:
    return {key: value for key, value in config.items() if key not in OUTER}


def scale_layers(config: dict, tensors: Tensors) -> None:
    """The scalars are buffers, so the random weights leave them at one."""
    for name, tensor in sorted(tensors.items()):
        if name.endswith("layer_scalar"):
            tensor.copy_(torch.tensor([0.6 + 0.23 * (int(name.split(".")[-2]) % 4)]))


ROWS = [
    small("gemma3n-text", GEMMA3N),
    # As the published 31B: the values of global layers are their keys.
    small(
        "gemma4-text",
        TEXT
        | GLOBAL
        | PLAIN
        | {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "final_logit_softcapping": 3.0},
        plant=scale_layers,
    ),
    # As the published 26B-A4B.
    small(
        "gemma4-experts",
        TEXT
        | SINGLE
        | PLAIN
        | {
            "num_hidden_layers": 5,
            "attention_bias": True,
            "intermediate_size": 13,
            "enable_moe_block": True,
            "num_experts": 5,
            "top_k_experts": 3,
            "moe_intermediate_size": 7,
        },
        plant=scale_layers,
    ),
    # As the published E2B: embeddings for each layer, late layers with earlier ones' keys and values.
    small(
        "gemma4",
        {
            "architectures": ["Gemma4ForConditionalGeneration"],
            "model_type": "gemma4",
            "text_config": nested(
                TEXT
                | GLOBAL
                | {
                    "num_hidden_layers": 7,
                    "layer_types": [
                        "sliding_attention",
                        "full_attention",
                        "sliding_attention",
                        "full_attention",
                        "sliding_attention",
                        "sliding_attention",
                        "full_attention",
                    ],
                    "hidden_size_per_layer_input": 5,
                    "vocab_size_per_layer_input": 71,
                    "num_kv_shared_layers": 3,
                    "use_double_wide_mlp": True,
                    "intermediate_size": 13,
                    "final_logit_softcapping": 4.0,
                }
            ),
            "vision_config": VISION,
            "audio_config": None,
        },
        plant=scale_layers,
    ),
    small(
        "gemma4-unified",
        {
            "architectures": ["Gemma4UnifiedForConditionalGeneration"],
            "model_type": "gemma4_unified",
            "text_config": nested(
                TEXT
                | GLOBAL
                | {
                    "model_type": "gemma4_unified_text",
                    "attention_k_eq_v": True,
                    "num_global_key_value_heads": 2,
                    "num_kv_shared_layers": 2,
                    "use_bidirectional_attention": "vision",
                }
            ),
            "vision_config": UNIFIED_VISION,
            "audio_config": None,
        },
        plant=scale_layers,
    ),
    # Kinds of layers and rotations left to defaults; the last layer is global whatever is said.
    small(
        "gemma4-unified-text",
        {key: value for key, value in TEXT.items() if key not in ("layer_types", "rope_parameters")}
        | GLOBAL
        | {
            "architectures": ["Gemma4UnifiedForCausalLM"],
            "model_type": "gemma4_unified_text",
            "num_hidden_layers": 8,
            "tie_word_embeddings": False,
        },
        plant=scale_layers,
    ),
]
