"""The size that the checkpoints of most families share: a few ten kilobytes each."""

import torch

from table import Checkpoint

SIZE = {
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 29,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
# Shorter than the middle sequence, so that windowed layers hide something in two of them.
WINDOW = 8
# Unlike any family's default, and with an effect far above the noise: a reader that
# takes the default instead is found out.
EPSILON = 0.003
ROPE_THETA = 700.0


def small(name: str, config: dict, **options) -> Checkpoint:
    """A row in the shared size, stored in bfloat16 as most published checkpoints are."""
    options = {"max_length": 32, "lengths": (1, 2, 13), "dtype": torch.bfloat16} | options
    return Checkpoint(name, config | {"torch_dtype": str(options["dtype"]).removeprefix("torch.")}, **options)


def llama_like(model_type: str, architecture: str, **changes) -> dict:
    """A config with the key names that Llama introduced and most later families use.

    A change to None removes the key: some families have no such key, and some
    checkpoints rely on its default.
    """
    config = {"architectures": [architecture], "model_type": model_type}
    config |= SIZE | {"rms_norm_eps": EPSILON, "rope_theta": ROPE_THETA, "hidden_act": "silu"}
    config |= {"tie_word_embeddings": False} | changes
    return {key: value for key, value in config.items() if value is not None}
