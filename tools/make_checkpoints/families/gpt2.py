"""GPT-2: learned positions, fused attention in [in, out] layout, and its two naming schemes."""

import torch

from families.common import EPSILON
from table import Checkpoint, Tensors

# As on the hub: `intermediate_size` is implied, sizes have the n_ names.
CONFIG = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "vocab_size": 259,
    "n_positions": 64,
    "n_ctx": 64,
    "n_embd": 25,
    "n_head": 5,
    "n_layer": 3,
    "layer_norm_epsilon": 1e-05,
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "bos_token_id": 258,
    "eos_token_id": 258,
}

SMALL = CONFIG | {
    "layer_norm_epsilon": EPSILON,
    "vocab_size": 101,
    "n_embd": 24,
    "n_head": 3,
    "n_layer": 2,
    "n_positions": 32,
    "n_ctx": 32,
}


def without_prefix(name: str) -> str:
    """The published gpt2 was saved without its head, so without `transformer.`."""
    return name.removeprefix("transformer.")


def mask_buffers(config: dict) -> Tensors:
    """The causal masks that old versions saved with the weights; no model reads them."""
    positions = config["n_positions"]
    causal = torch.ones(positions, positions).tril().view(1, 1, positions, positions)
    return {
        f"h.{layer}.attn.{name}": tensor.clone()
        for layer in range(config["n_layer"])
        for name, tensor in (("bias", causal), ("masked_bias", torch.tensor(-1e4)))
    }


ROWS = [
    Checkpoint("gpt2-f32", CONFIG, max_length=64),
    Checkpoint(
        "gpt2-bare-names",
        SMALL,
        max_length=32,
        rename=without_prefix,
        extra_tensors=mask_buffers,
        allowed_unused=(r"attn\.(masked_)?bias",),
    ),
    Checkpoint(
        "gpt2-inverse-layer-scale",
        SMALL | {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
        max_length=32,
    ),
    Checkpoint("gpt2-unscaled", SMALL | {"scale_attn_weights": False}, max_length=32),
    Checkpoint(
        "gpt2-untied-relu",
        SMALL | {"tie_word_embeddings": False, "activation_function": "relu", "n_inner": 37},
        max_length=32,
    ),
    Checkpoint(
        "gpt2-gelu-f16",
        SMALL | {"activation_function": "gelu", "torch_dtype": "float16"},
        max_length=32,
        dtype=torch.float16,
    ),
]
