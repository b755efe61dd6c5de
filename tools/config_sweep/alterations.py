"""Altered configs: every key changed, dropped and set to null, and keys of other families added.

A value is changed to others that are plausible for its type, and for some keys to values that mean
something there. Sections (rotary settings, a nested text config) are altered key by key.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

LINEAR = {"rope_type": "linear", "factor": 2.5}
DYNAMIC = {"type": "dynamic", "factor": 3.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
BY_LAYER = {
    "full_attention": YARN | {"rope_theta": 300.0, "truncate": False},
    "sliding_attention": LINEAR | {"rope_theta": 50.0},
}
SCALINGS = [LINEAR, DYNAMIC, YARN, LLAMA3, {"factor": 2.0}, {"rope_type": "default"}]

ACTIVATIONS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "quick_gelu", "mish"]

# What a key may hold that its present value does not tell.
VALUES = {
    "hidden_act": ACTIVATIONS,
    "hidden_activation": ACTIVATIONS,
    "activation_function": ACTIVATIONS,
    "activation": ACTIVATIONS,
    "rope_type": ["default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional"],
    "type": ["default", "linear", "yarn"],
    "topk_method": ["greedy", "group_limited_greedy", "noaux_tc"],
    "scoring_func": ["softmax", "sigmoid"],
    "attn_type": ["multihead_attention", "multiquery_attention"],
    "rope_scaling": [*SCALINGS, {}],
    "rope_parameters": [*SCALINGS, YARN | {"rope_theta": 300.0}, BY_LAYER, {}],
    "sliding_window": [3, 0, -1],
    "partial_rotary_factor": [0.5, 1.0, 0.25],
    "rotary_pct": [0.5, 1.0],
    "logit_scale": [0.5, "inv_sqrt_d_model"],
    "is_causal": [False, True],
    "use_bidirectional_attention": [True, False],
    "query_pre_attn_scalar": [5, 300],
    "attn_logit_softcapping": [2.0, 20.0],
    "final_logit_softcapping": [2.0, 20.0],
    "truncate": [False, True],
    "mscale": [0.7, 0.0],
    "mscale_all_dim": [0.7, 0.0],
    "attention_factor": [1.3],
    "beta_fast": [20.0, 0],
    "beta_slow": [2.0, 0],
    "dtype": ["bfloat16"],
    "torch_dtype": ["float16"],
}

# Keys that one family or another knows, older names and what users write by hand. Keys of the
# config classes themselves are added to these.
ADDED = {
    "is_causal": [False, True],
    "use_bidirectional_attention": [True, False],
    "add_cross_attention": [True],
    "is_decoder": [True, False],
    "is_encoder_decoder": [True],
    "per_layer_config": [{"1": {"num_attention_heads": 2}}, {}],
    "cross_attention_hidden_size": [8],
    "chunk_size_feed_forward": [4],
    "pruned_heads": [{"0": [1]}],
    "attn_implementation": ["sdpa"],
    "quantization_config": [{"quant_method": "gptq", "bits": 4}, {}],
    "rope_theta": [300.0, 10000.0],
    "rope_scaling": [*SCALINGS, {}],
    "rope_parameters": [
        *SCALINGS,
        YARN | {"rope_theta": 300.0},
        {"rope_theta": 300.0},
        BY_LAYER,
        {},
    ],
    "rope_local_base_freq": [50.0],
    "rotary_emb_base": [300.0],
    "rotary_pct": [0.5, 1.0],
    "rotary_dim": [2],
    "partial_rotary_factor": [0.5, 1.0],
    "original_max_position_embeddings": [8],
    "rope_interleave": [True, False],
    "sliding_window_pattern": [2],
    "_sliding_window_pattern": [2],
    "sliding_window": [3, 0],
    "use_sliding_window": [True, False],
    "max_window_layers": [0, 1],
    "no_rope_layers": [[1, 0]],
    "no_rope_layer_interval": [2],
    "layer_types": [["full_attention", "sliding_attention"], ["sliding_attention", "sliding_attention"]],
    "attention_chunk_size": [4],
    "attn_logit_softcapping": [2.0],
    "final_logit_softcapping": [2.0],
    "query_pre_attn_scalar": [5],
    "head_dim": [4, 8],
    "hidden_size": [24, 48],
    "n_embd": [24, 48],
    "n_embed": [24, 48],
    "d_model": [24, 48],
    "num_hidden_layers": [1, 2],
    "n_layer": [1, 2],
    "n_layers": [1, 2],
    "num_attention_heads": [2, 4],
    "n_head": [2, 4],
    "n_heads": [2, 4],
    "num_key_value_heads": [1, 2],
    "num_kv_heads": [1, 2],
    "n_head_kv": [1],
    "kv_n_heads": [1],
    "max_position_embeddings": [16, 64],
    "n_positions": [16, 64],
    "max_seq_len": [16],
    "n_ctx": [16],
    "num_experts": [3, 4],
    "num_local_experts": [3, 4],
    "n_routed_experts": [3, 4],
    "num_experts_per_tok": [1, 2],
    "experts_per_token": [1],
    "intermediate_size": [29],
    "ffn_hidden_size": [29],
    "n_inner": [29],
    "expansion_ratio": [2],
    "word_embed_proj_dim": [12],
    "bias": [True, False],
    "use_bias": [True, False],
    "no_bias": [True, False],
    "enable_bias": [True, False],
    "attention_bias": [True, False],
    "mlp_bias": [True, False],
    "qkv_bias": [True, False],
    "use_qkv_bias": [True, False],
    "use_qk_norm": [True, False],
    "qk_layernorm": [True, False],
    "qk_ln": [True],
    "clip_qkv": [0.5],
    "logit_scale": [0.5],
    "logits_scaling": [2.0],
    "residual_multiplier": [0.5],
    "embedding_multiplier": [2.0],
    "attention_multiplier": [0.5],
    "alibi": [True],
    "parallel_attn": [True, False],
    "use_parallel_residual": [True, False],
    "multi_query": [True, False],
    "scale_attn_weights": [False],
    "scale_attn_by_inverse_layer_idx": [True],
    "reorder_and_upcast_attn": [True],
    "apply_residual_connection_post_layernorm": [True],
    "do_layer_norm_before": [False],
    "norm_topk_prob": [True, False],
    "routed_scaling_factor": [2.0],
    "mlp_only_layers": [[0]],
    "decoder_sparse_step": [2],
    "tie_word_embeddings": [True, False],
    "rms_norm_eps": [0.1],
    "layer_norm_eps": [0.1],
    "layer_norm_epsilon": [0.1],
    "norm_epsilon": [0.1],
    "norm_eps": [0.1],
    "hidden_act": ["relu"],
    "hidden_activation": ["relu"],
    "activation_function": ["relu"],
    "activation": ["relu"],
    "pretraining_tp": [2],
    "slow_but_exact": [True],
    "attn_output_gate": [False],
    "softmax_scale": [0.5],
    "attention_dropout": [0.5],
    "layerdrop": [0.5],
}


@dataclass(frozen=True)
class Altered:
    """One altered config: `what` names it in reports."""

    key: str
    what: str
    config: dict


def others(key: str, value) -> list:
    """Other values that `key` might hold."""
    if key in VALUES:
        found = VALUES[key]
    elif isinstance(value, bool):
        found = [not value]
    elif isinstance(value, int):
        found = [value + 1, value * 2, value // 2, 0]
    elif isinstance(value, float):
        found = [value * 2, value / 2, 1.0, 0.0, round(value) + 1]
    elif isinstance(value, str):
        found = ["other"]
    elif isinstance(value, list):
        found = [value[::-1], value[:-1], []]
    else:
        found = ADDED.get(key, [])
    return [other for other in found if other != value or isinstance(other, bool) != isinstance(value, bool)]


def put(config: dict, path: tuple[str, ...], value) -> dict:
    """A copy with the value at `path`; `...` drops the key."""
    config = deepcopy(config)
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return config


def keys(config: dict, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every key with its value, those of sections included."""
    for key, value in config.items():
        yield (*above, key), value
        if isinstance(value, dict):
            yield from keys(value, (*above, key))


def of_present_keys(config: dict) -> Iterator[Altered]:
    """Each key changed, dropped and null."""
    for path, value in keys(config):
        key = ".".join(path)
        if path[0] in ("vision_config", "model_type", "architectures"):
            continue
        yield Altered(key, f"{key} dropped", put(config, path, ...))
        if value is not None:
            yield Altered(key, f"{key}: null", put(config, path, None))
        for other in others(path[-1], value):
            yield Altered(key, f"{key}: {other}", put(config, path, other))


def of_added_keys(config: dict, fields: dict[str, list]) -> Iterator[Altered]:
    """Each key added that the config lacks: `fields` are those of the family's class, with values."""
    for above in [(), ("text_config",)]:
        inner = config.get("text_config", {}) if above else config
        if above and not inner:
            continue
        for key, values in (fields | ADDED).items():
            if key in inner:
                continue
            name = ".".join((*above, key))
            for value in [*values, None]:
                yield Altered(name, f"{name} added: {value}", put(config, (*above, key), value))


def pairs(config: dict) -> Iterator[Altered]:
    """Two names of one setting together, and both sections of rotary settings."""
    added = [
        {"rope_scaling": YARN, "rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
        {"rope_scaling": LINEAR, "rope_parameters": LINEAR | {"rope_theta": 700.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.5}, "rope_parameters": LINEAR},
        {"rope_scaling": YARN, "rope_parameters": {}},
        {"rope_scaling": {}, "rope_parameters": YARN},
        {"rope_scaling": LINEAR, "rope_parameters": YARN | {"rope_theta": 300.0}},
        {"rope_scaling": YARN, "rope_parameters": {"rope_theta": 300.0}},
        {"rope_scaling": LINEAR, "rope_parameters": BY_LAYER},
        {"rope_theta": 300.0, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
        {"rope_theta": 300.0, "rope_parameters": YARN | {"rope_theta": 50.0}},
        {"rope_theta": 300.0, "rope_scaling": YARN},
        {"rotary_emb_base": 300.0, "rope_theta": 50.0},
        {"rotary_pct": 0.5, "partial_rotary_factor": 1.0},
        {"rotary_pct": 1.0, "partial_rotary_factor": 0.5},
        {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 1.0}},
        {"partial_rotary_factor": 0.5, "rope_scaling": LINEAR},
        {"rotary_pct": 0.5, "rotary_emb_base": 300.0, "rope_parameters": YARN | {"rope_theta": 50.0}},
        {"original_max_position_embeddings": 8, "rope_scaling": YARN},
        {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 0},
        {
            "use_sliding_window": False,
            "sliding_window": 3,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        {"sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]},
        {"sliding_window": None, "layer_types": ["full_attention", "full_attention"]},
        {"multi_query": None, "new_decoder_architecture": None, "parallel_attn": None},
    ]
    for keys_added in added:
        yield Altered("+".join(keys_added), f"together: {keys_added}", deepcopy(config) | keys_added)
