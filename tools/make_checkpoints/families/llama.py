"""Llama: grouped-query attention, gated MLP, and every spelling of its rotary scaling."""

import torch

from families.common import EPSILON, ROPE_THETA
from table import Checkpoint

COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "max_position_embeddings": 48,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}

GQA3 = COMMON | {
    "vocab_size": 251,
    "hidden_size": 36,
    "intermediate_size": 53,
    "num_hidden_layers": 3,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_theta": 10000.0,
}

# Several tokens may end a sequence. Wide heads (7 x 6 != 35) that all share one KV head.
GQA7 = COMMON | {
    "vocab_size": 131,
    "hidden_size": 35,
    "intermediate_size": 41,
    "num_hidden_layers": 3,
    "num_attention_heads": 7,
    "num_key_value_heads": 1,
    "head_dim": 6,
    "hidden_act": "gelu",
    "eos_token_id": [2, 3],
    "rope_theta": 10000.0,
}

SMALL = COMMON | {
    "vocab_size": 103,
    "hidden_size": 30,
    "intermediate_size": 41,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "rope_theta": ROPE_THETA,
    "rms_norm_eps": EPSILON,
}

# The original length is short enough that all three bands (kept, blended, stretched) occur.
LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}

ROWS = [
    Checkpoint("llama-gqa3-f32", GQA3, max_length=48),
    Checkpoint("llama-gqa7-head-dim", GQA7, max_length=48),
    Checkpoint(
        "llama-tied-bf16-sharded",
        SMALL
        | {
            "vocab_size": 211,
            "hidden_size": 40,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_hidden_layers": 3,
            "rope_theta": 500000.0,
            "rope_scaling": LLAMA3_SCALING,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        },
        max_length=48,
        dtype=torch.bfloat16,
        shards=3,
    ),
    Checkpoint(
        "llama-rope-parameters",
        {key: value for key, value in SMALL.items() if key != "rope_theta"}
        | {
            "num_key_value_heads": 1,
            "rope_parameters": LLAMA3_SCALING | {"rope_theta": 500000.0},
            "dtype": "float32",
        },
        max_length=48,
    ),
    Checkpoint(
        "llama-biases",
        SMALL | {"attention_bias": True, "mlp_bias": True, "rope_scaling": None, "pretraining_tp": 1},
        max_length=48,
    ),
    Checkpoint(
        "llama-f16",
        SMALL | {"num_key_value_heads": 5, "torch_dtype": "float16"},
        max_length=48,
        dtype=torch.float16,
    ),
    # Older configs spell the kind of scaling "type".
    Checkpoint(
        "llama-rope-linear",
        SMALL | {"rope_scaling": {"type": "linear", "factor": 2.5}},
        max_length=48,
    ),
    # Within the trained length the dynamic kind is no scaling at all.
    Checkpoint(
        "llama-rope-dynamic",
        SMALL | {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
        max_length=48,
    ),
    Checkpoint(
        "llama-rope-yarn",
        SMALL
        | {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 3.0,
                "original_max_position_embeddings": 16,
            },
        },
        max_length=48,
    ),
]
