"""A Llama, a GPT-2 and an LFM2 whose massive activations are known because they were put there.

Layer WRITE_LAYER's MLP holds one neuron per trigger: it reads a coordinate of the
residual stream (a marker) that only the trigger's embedding sets, and writes that
trigger's massive vector. Layer ERASE_LAYER's MLP holds one neuron per trigger that
recognises the massive vector's direction and writes its opposite. In between nothing
is needed: the residual stream carries the values.

LFM2 is Llama with other names and with convolutions in the place of attention where the massive
activations are written and in the layer after it. Llama's triggers are `<s>` and "."; GPT-2's are position 0 and ".". (A "." at GPT-2's
position 0 has two markers, each too weak after the norm: nothing fires.)
"""

from functools import partial

import torch

from table import Checkpoint, Tensors
from tokenizers_and_text import MAKERS
from variants import add_extra_key

WRITE_LAYER = 1
ERASE_LAYER = 3
HIDDEN = 24

# Coordinates of the residual stream that nothing but the triggers' embeddings writes to,
# and what these set.
MARKER = {"start": 3, "stop": 17}
MARKER_VALUE = {"start": 20.0, "stop": 18.0}
# What each trigger plants, by dimension. The two are orthogonal, so that each erasing
# neuron hears only its own.
MASSIVE = {"start": {7: 2600.0, 21: -1300.0}, "stop": {7: 800.0, 21: 1600.0, 12: -700.0}}
# Keep the rest of the stream small, so that its median is far below a thousandth of these.
EMBEDDING_SCALE = 0.2
OUTPUT_SCALE = 0.1

# A marker dominates its token's stream, so after a norm it stands near sqrt(HIDDEN);
# the same holds for the projection on a massive vector's direction.
NORMED = HIDDEN**0.5

STEEPNESS = 4.0
# GPT-2's neurons fire above this; chance projections on a direction stay below.
THRESHOLD = 0.75 * NORMED


def massive_vector(trigger: str) -> torch.Tensor:
    """The planted values as a vector of the stream."""
    vector = torch.zeros(HIDDEN)
    for dimension, value in MASSIVE[trigger].items():
        vector[dimension] = value
    return vector


def marker_direction(trigger: str) -> torch.Tensor:
    """The unit vector of the trigger's marker."""
    direction = torch.zeros(HIDDEN)
    direction[MARKER[trigger]] = 1.0
    return direction


def plant_llama(config: dict, tensors: Tensors, stop_id: int) -> None:
    """Gated neurons. The gate reads the marker, so they are exactly zero where it is absent."""
    embedding = tensors["model.embed_tokens.weight"]
    embedding.mul_(EMBEDDING_SCALE)
    embedding[:, list(MARKER.values())] = 0.0
    embedding[config["bos_token_id"], MARKER["start"]] = MARKER_VALUE["start"]
    embedding[stop_id, MARKER["stop"]] = MARKER_VALUE["stop"]
    special_dimensions = [*MARKER.values(), *MASSIVE["stop"]]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            tensors[prefix + name].mul_(OUTPUT_SCALE)
            tensors[prefix + name][list(MARKER.values())] = 0.0
        tensors[prefix + "post_attention_layernorm.weight"][special_dimensions] = 1.0
    for index, trigger in enumerate(MARKER):
        marker, massive = marker_direction(trigger), massive_vector(trigger)
        # Beside the massive values the normed marker is as small as this makes up for.
        dwarfed = massive.norm() / MARKER_VALUE[trigger]
        for layer, gate, up, written in (
            (WRITE_LAYER, marker, marker, massive),
            (ERASE_LAYER, dwarfed * marker, massive / massive.norm(), -massive),
        ):
            prefix = f"model.layers.{layer}.mlp."
            tensors[prefix + "gate_proj.weight"][index] = STEEPNESS * gate
            tensors[prefix + "up_proj.weight"][index] = up
            # Gate and up both read NORMED, and silu is the identity up there.
            tensors[prefix + "down_proj.weight"][:, index] = written / (STEEPNESS * NORMED**2)


# LFM2's names of Llama's modules; a convolution stands where attention does.
LFM2_NAMES = {
    "feed_forward.w1.": "mlp.gate_proj.",
    "feed_forward.w3.": "mlp.up_proj.",
    "feed_forward.w2.": "mlp.down_proj.",
    "ffn_norm.": "post_attention_layernorm.",
    "self_attn.out_proj.": "self_attn.o_proj.",
    "conv.out_proj.": "self_attn.o_proj.",
}


def plant_lfm2(config: dict, tensors: Tensors, stop_id: int) -> None:
    """As in Llama: tensors are edited in place, whatever they are called."""
    renamed = {}
    for name, tensor in tensors.items():
        for own, llama in LFM2_NAMES.items():
            name = name.replace(own, llama)
        renamed[name] = tensor
    plant_llama(config, renamed, stop_id)


def plant_gpt2(config: dict, tensors: Tensors, stop_id: int) -> None:
    """Plain neurons: gelu(STEEPNESS (x - THRESHOLD)), where x is the projection read."""
    for name in ("transformer.wte.weight", "transformer.wpe.weight"):
        tensors[name].mul_(EMBEDDING_SCALE)
        tensors[name][:, list(MARKER.values())] = 0.0
    tensors["transformer.wpe.weight"][0, MARKER["start"]] = MARKER_VALUE["start"]
    tensors["transformer.wte.weight"][stop_id, MARKER["stop"]] = MARKER_VALUE["stop"]
    special_dimensions = [*MARKER.values(), *MASSIVE["stop"]]
    for layer in range(config["n_layer"]):
        prefix = f"transformer.h.{layer}."
        for name in ("attn.c_proj", "mlp.c_proj"):
            for part in ("weight", "bias"):
                tensors[f"{prefix}{name}.{part}"].mul_(OUTPUT_SCALE)
                tensors[f"{prefix}{name}.{part}"][..., list(MARKER.values())] = 0.0
        tensors[prefix + "ln_2.weight"][special_dimensions] = 1.0
        tensors[prefix + "ln_2.bias"][special_dimensions] = 0.0
    for index, trigger in enumerate(MARKER):
        marker, massive = marker_direction(trigger), massive_vector(trigger)
        for layer, direction, written in (
            (WRITE_LAYER, marker, massive),
            (ERASE_LAYER, massive / massive.norm(), -massive),
        ):
            prefix = f"transformer.h.{layer}.mlp."
            tensors[prefix + "c_fc.weight"][:, index] = STEEPNESS * direction
            tensors[prefix + "c_fc.bias"][index] = -STEEPNESS * THRESHOLD
            # The direction reads NORMED, and gelu is the identity up there.
            tensors[prefix + "c_proj.weight"][index] = written / (STEEPNESS * (NORMED - THRESHOLD))


def row(kind: str, config: dict, plant, ending: str = "", name: str | None = None, **options) -> Checkpoint:
    """A planted checkpoint; sizes and ids follow from its tokenizer, and its name unless it has one."""
    tokenizer, _ = MAKERS[kind]()
    stop_id = tokenizer.token_to_id(".")
    return Checkpoint(
        f"planted-{name or kind}{ending}",
        config | {"vocab_size": tokenizer.get_vocab_size()},
        max_length=48,
        plant=partial(plant, stop_id=stop_id),
        tokenizer=kind,
        context_length=32,
        start_id=config.get("bos_token_id"),
        include_ids=(stop_id,),
        # Erasing thousands leaves their rounding errors behind.
        noise_allowance=30.0,
        **options,
    )


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": 31,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "max_position_embeddings": 48,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}

# The layers 1, which writes, and 2 have no attention; the one that erases has.
LFM2 = {key: value for key, value in LLAMA.items() if key not in ("hidden_act", "rms_norm_eps")} | {
    "architectures": ["Lfm2ForCausalLM"],
    "model_type": "lfm2",
    "layer_types": ["full_attention", "conv", "conv", "full_attention"],
    "block_auto_adjust_ff_dim": False,
    "conv_L_cache": 3,
    "norm_eps": 1e-05,
}

ROWS = [
    row("llama", LLAMA, plant_llama),
    # Two tokens of which the first is massive are mostly the rounding of what is erased.
    row(
        "llama", LFM2, plant_lfm2, name="lfm2", mixers=("conv", "self_attn"), lengths=(1, 5, 19)
    ),
    # Beside the planted tokens every head may rest on an extra key.
    row("llama", LLAMA, plant_llama, "-kv-bias", variant=partial(add_extra_key, shape=(2, 1, 4))),
    row(
        "gpt2",
        {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "n_positions": 48,
            "n_ctx": 48,
            "n_embd": HIDDEN,
            "n_head": 3,
            "n_layer": 4,
            "layer_norm_epsilon": 1e-05,
        },
        plant_gpt2,
    ),
]
