"""Gemma 1 to 3: norms as 1 + w, scaled embeddings, windows, soft caps, nested configs."""

from families.common import WINDOW, llama_like, small
from table import Tensors

GEMMA2 = llama_like(
    "gemma2",
    "Gemma2ForCausalLM",
    num_hidden_layers=4,
    hidden_act=None,
    tie_word_embeddings=None,
    hidden_activation="gelu_pytorch_tanh",
    head_dim=8,
    # Not the head size, so that a reader of the wrong one is found out.
    query_pre_attn_scalar=5,
    sliding_window=WINDOW,
    # Low enough to bend most values.
    attn_logit_softcapping=2.0,
    final_logit_softcapping=3.0,
)
GEMMA3 = llama_like(
    "gemma3_text",
    "Gemma3ForCausalLM",
    num_hidden_layers=4,
    hidden_act=None,
    tie_word_embeddings=None,
    hidden_activation="gelu_pytorch_tanh",
    head_dim=8,
    query_pre_attn_scalar=5,
    sliding_window=WINDOW,
)


def published_name(name: str) -> str:
    """The vision tower's tensors carry one more prefix in the published files."""
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def sharpen(config: dict, tensors: Tensors) -> None:
    """The default attention scale belongs to heads of 256; larger query norms make up for it."""
    for name, tensor in tensors.items():
        if name.endswith("q_norm.weight"):
            tensor.add_(15.0)


ROWS = [
    # The published "gelu" means the tanh form, and the tied head is a default.
    small(
        "gemma",
        llama_like(
            "gemma",
            "GemmaForCausalLM",
            hidden_act="gelu",
            tie_word_embeddings=None,
            head_dim=8,
            num_key_value_heads=1,
        ),
    ),
    small("gemma2", GEMMA2),
    small(
        "gemma3-old-keys",
        GEMMA3
        | {
            "sliding_window_pattern": 2,
            "rope_theta": 2000.0,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    small(
        "gemma3-rope-parameters",
        {key: value for key, value in GEMMA3.items() if key != "rope_theta"}
        | {
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
    ),
    # As the published 4B: heads, scales, thetas, eps and the pattern of six are left to defaults.
    # The head size is given here only because its default is 256.
    small(
        "gemma3-multimodal",
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "vocab_size": 67,
                "hidden_size": 24,
                "intermediate_size": 29,
                "num_hidden_layers": 7,
                "head_dim": 4,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "sliding_window": WINDOW,
            },
            # The smallest that transformers builds; a reader of the text decoder passes over it.
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 2,
                "intermediate_size": 2,
                "num_attention_heads": 1,
                "num_hidden_layers": 1,
                "image_size": 4,
                "patch_size": 2,
            },
            "mm_tokens_per_image": 4,
        },
        rename=published_name,
        plant=sharpen,
    ),
]
