"""Falcon, Gemma 2, Gemma 4 and OLMo 2 whose massive activations were planted at different depths.

As in planted.py a neuron per trigger reads a marker, a coordinate of the residual stream
that only the trigger's embedding sets, and writes that trigger's massive vector; a neuron
of ERASE_LAYER writes its opposite. (Not in Falcon, whose values stay to the end: plain
neurons erase to a few per cent, which is neither small nor exact.) Here every trigger has
a layer of its own, so that sequences differ in their first massive layer: the start token
and "." fire in layer 2, the digit of a year, which few sequences have, in layer 1. "Ω"
fires in layer 3 and occurs only in the first window, so its dimension is massive in one
sequence, beyond that sequence's first layer. One planted value, at OUTSHONE, is above 100
and below 1000 medians.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from table import Checkpoint, Tensors
from tokenizers_and_text import MAKERS

HIDDEN = 24
LAYERS = 5
ERASE_LAYER = 4
OUTSHONE = 19


@dataclass(frozen=True)
class Trigger:
    """Where a trigger is marked, with what value, and what it plants in which layer."""

    marker: int
    value: float
    layer: int
    massive: dict[int, float]

    def vector(self) -> torch.Tensor:
        """The planted values as a vector of the stream."""
        return one_hot(self.massive)


def one_hot(values: dict[int, float]) -> torch.Tensor:
    """A vector of the stream that is zero but for `values`."""
    vector = torch.zeros(HIDDEN)
    for dimension, value in values.items():
        vector[dimension] = value
    return vector


# The massive vectors are orthogonal: none looks like part of another.
TRIGGERS = {
    "start": Trigger(3, 20.0, 2, {7: 2600.0, 21: -1300.0}),
    "stop": Trigger(17, 18.0, 2, {7: 800.0, 21: 1600.0, 12: -700.0}),
    "digit": Trigger(10, 19.0, 1, {5: 1200.0, 9: -500.0}),
    "once": Trigger(13, 21.0, 3, {14: 1000.0, OUTSHONE: 130.0}),
}
# The names of the triggers' tokens; "Ω" is made of two byte tokens, and this is its first.
TOKENS = {
    "llama": {"start": "<s>", "stop": ".", "digit": "8", "once": "<0xCE>"},
    "gpt2": {"start": "<|endoftext|>", "stop": ".", "digit": "8", "once": "Î"},
}
TEXT_START = "Ω stands apart. "

MARKERS = [trigger.marker for trigger in TRIGGERS.values()]
MASSIVE = sorted({dimension for trigger in TRIGGERS.values() for dimension in trigger.massive})
PLANTED_LAYERS = {ERASE_LAYER} | {trigger.layer for trigger in TRIGGERS.values()}
# Keep the rest of the stream small, so that its median is far below a thousandth of these.
EMBEDDING_SCALE = 0.2
OUTPUT_SCALE = 0.1
STEEPNESS = 4.0


def mark(embedding: torch.Tensor, scale: float, ids: dict[str, int]) -> None:
    """Small embeddings that differ from zero at the markers for the triggers alone."""
    embedding.mul_(EMBEDDING_SCALE / scale)
    embedding[:, MARKERS] = 0.0
    for name, trigger in TRIGGERS.items():
        embedding[ids[name], trigger.marker] = trigger.value / scale


def plant_falcon(config: dict, tensors: Tensors, ids: dict[str, int]) -> None:
    """Plain neurons: gelu(STEEPNESS (x - threshold)), where x is the projection read."""
    mark(tensors["transformer.word_embeddings.weight"], 1.0, ids)
    for layer in range(LAYERS):
        prefix = f"transformer.h.{layer}."
        for name in ("self_attention.dense", "mlp.dense_4h_to_h"):
            for part in ("weight", "bias"):
                tensors[f"{prefix}{name}.{part}"].mul_(OUTPUT_SCALE)
                tensors[f"{prefix}{name}.{part}"][MARKERS] = 0.0
        tensors[prefix + "ln_mlp.weight"][MARKERS + MASSIVE] = 1.0
        tensors[prefix + "ln_mlp.bias"][MARKERS + MASSIVE] = 0.0
    # The head is tied: a trigger would predict itself, and nothing else would matter.
    tensors["transformer.ln_f.weight"][MARKERS] = 0.0
    tensors["transformer.ln_f.bias"][MARKERS] = 0.0
    for index, trigger in enumerate(TRIGGERS.values()):
        marker = one_hot({trigger.marker: 1.0})
        read = torch.nn.functional.layer_norm(marker, (HIDDEN,)) @ marker
        # Other tokens stay below: their marker is zero.
        threshold = 0.75 * read
        written = trigger.vector() / (STEEPNESS * (read - threshold))
        prefix = f"transformer.h.{trigger.layer}.mlp."
        tensors[prefix + "dense_h_to_4h.weight"][index] = STEEPNESS * marker
        tensors[prefix + "dense_h_to_4h.bias"][index] = -STEEPNESS * threshold
        # gelu is the identity up there.
        tensors[prefix + "dense_4h_to_h.weight"][:, index] = written


def plant_post_norm(
    config: dict, tensors: Tensors, ids: dict[str, int], gemma: bool, offset: float
) -> None:
    """Gated neurons whose sum a norm rescales: only the direction of what they write counts.

    The norm's weights at the massive dimensions restore the size, so nothing but the
    planted neurons may write there. The norms multiply by `offset` + w. Gemma has one
    before the MLP, too; OLMo 2's MLP reads the stream as it is.
    """
    mark(tensors["model.embed_tokens.weight"], HIDDEN**0.5 if gemma else 1.0, ids)
    largest = max(trigger.vector().norm() for trigger in TRIGGERS.values())
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in ("post_attention_layernorm", "post_feedforward_layernorm"):
            factor = OUTPUT_SCALE * (tensors[f"{prefix}{name}.weight"] + offset)
            factor[MARKERS] = 0.0
            if name == "post_feedforward_layernorm" and layer in PLANTED_LAYERS:
                factor[MASSIVE] = largest / HIDDEN**0.5
            tensors[f"{prefix}{name}.weight"].copy_(factor - offset)
        if gemma:
            tensors[prefix + "pre_feedforward_layernorm.weight"][MARKERS + MASSIVE] = 1.0 - offset
        for name in ("gate_proj", "up_proj"):
            tensors[f"{prefix}mlp.{name}.weight"][:, MARKERS + MASSIVE] = 0.0
        tensors[prefix + "mlp.down_proj.weight"][MASSIVE] = 0.0
    final = tensors["model.norm.weight"]
    if gemma:
        # The tied embeddings are small; this gives logits of the usual size.
        final.copy_(10.0 * (final + offset) - offset)
    final[MARKERS] = -offset
    for index, trigger in enumerate(TRIGGERS.values()):
        massive = trigger.vector()
        # The norm scales all vectors alike; the marker, which it silences, takes up the rest.
        written = massive / largest + one_hot({trigger.marker: (1 - (massive / largest).square().sum()).sqrt()})
        marker = one_hot({trigger.marker: 1.0})
        # Beside the massive values the normed marker is as small as this makes up for.
        dwarfed = massive.norm() / trigger.value if gemma else 1.0
        for layer, gate, up, sign in (
            (trigger.layer, marker, marker, 1.0),
            (ERASE_LAYER, dwarfed * marker, massive / massive.norm(), -1.0),
        ):
            prefix = f"model.layers.{layer}.mlp."
            tensors[prefix + "gate_proj.weight"][index] = STEEPNESS * gate
            tensors[prefix + "up_proj.weight"][index] = up
            tensors[prefix + "down_proj.weight"][:, index] = sign * written


def plant_gemma4(config: dict, tensors: Tensors, ids: dict[str, int]) -> None:
    """What the layers add of their own embeddings stays small and off the planted dimensions."""
    plant_post_norm(config, tensors, ids, gemma=True, offset=0.0)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        factor = tensors[prefix + "post_per_layer_input_norm.weight"]
        factor.mul_(OUTPUT_SCALE)
        factor[MARKERS + MASSIVE] = 0.0
    # Before anything is planted: the erasing layer knows of no scalar.
    tensors["model.layers.0.layer_scalar"].fill_(0.8)


def row(name: str, kind: str, config: dict, plant: Callable) -> Checkpoint:
    """A planted checkpoint; sizes and ids follow from its tokenizer."""
    tokenizer, _ = MAKERS[kind]()
    ids = {trigger: tokenizer.token_to_id(token) for trigger, token in TOKENS[kind].items()}
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 6,
        "max_position_embeddings": 48,
        "rope_theta": 10000.0,
        "bos_token_id": ids["start"],
        "eos_token_id": tokenizer.token_to_id("</s>") or ids["start"],
    }
    return Checkpoint(
        name,
        config | sizes,
        # No sequence ends in a trigger: its logits would be made of rounding errors.
        lengths=(1, 8, 19),
        max_length=48,
        plant=partial(plant, ids=ids),
        tokenizer=kind,
        text_start=TEXT_START,
        context_length=32,
        start_id=ids["start"],
        include_ids=(ids["stop"], ids["digit"], ids["once"]),
        # Erasing thousands leaves their rounding errors behind.
        noise_allowance=30.0,
    )


LLAMA_LIKE = {
    "intermediate_size": 31,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
}

ROWS = [
    row(
        "planted-falcon",
        "gpt2",
        {
            "architectures": ["FalconForCausalLM"],
            "model_type": "falcon",
            "ffn_hidden_size": 31,
            "new_decoder_architecture": True,
            "parallel_attn": True,
            "num_kv_heads": 2,
            "layer_norm_epsilon": 1e-05,
            "alibi": False,
            "bias": True,
        },
        plant_falcon,
    ),
    row(
        "planted-gemma2",
        "llama",
        {key: value for key, value in LLAMA_LIKE.items() if key not in ("hidden_act", "tie_word_embeddings")}
        | {
            "architectures": ["Gemma2ForCausalLM"],
            "model_type": "gemma2",
            "hidden_activation": "gelu_pytorch_tanh",
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 12,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        partial(plant_post_norm, gemma=True, offset=1.0),
    ),
    # The last two layers read keys and values of layers in which massive activations begin.
    row(
        "planted-gemma4",
        "llama",
        {key: value for key, value in LLAMA_LIKE.items() if key not in ("hidden_act", "tie_word_embeddings")}
        | {
            "architectures": ["Gemma4ForCausalLM"],
            "model_type": "gemma4_text",
            "hidden_activation": "gelu_pytorch_tanh",
            "head_dim": 8,
            "global_head_dim": 12,
            "sliding_window": 12,
            "layer_types": [
                "sliding_attention",
                "full_attention",
                "sliding_attention",
                "sliding_attention",
                "full_attention",
            ],
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "hidden_size_per_layer_input": 5,
            "vocab_size_per_layer_input": 400,
            "final_logit_softcapping": 30.0,
        },
        plant_gemma4,
    ),
    row(
        "planted-olmo2",
        "gpt2",
        LLAMA_LIKE | {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2"},
        partial(plant_post_norm, gemma=False, offset=0.0),
    ),
]
