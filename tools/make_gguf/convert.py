"""What llama.cpp's converter does to weights and settings (convert_hf_to_gguf.py, conversion/*.py)."""

import math
import re
from collections.abc import Iterable

import gguf
import numpy as np

ROTATED = {"llama", "granite", "olmo", "smollm3"}
PLUS_ONE = {"gemma", "gemma2", "gemma3", "nemotron"}
STACKED = re.compile(r"(.*)\.experts\.(\d+)\.(\w+)\.weight")
NORMS = re.compile(r"(.*self_attn\.[qk]_layernorm)\.norms\.(\d+)\.weight")


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """The two halves of every head alternate."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """The other way round."""
    pairs = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def parted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Query, key and value of each head become all queries, all keys, all values."""
    by_head = weight.reshape(heads, 3, -1, *weight.shape[1:])
    return by_head.swapaxes(0, 1).reshape(weight.shape)


def unparted(weight: np.ndarray, heads: int) -> np.ndarray:
    """The other way round."""
    by_kind = weight.reshape(3, heads, -1, *weight.shape[1:])
    return by_kind.swapaxes(0, 1).reshape(weight.shape)


def groups(names: Iterable[str]) -> list[list[str]]:
    """Names of tensors that become one."""
    found: dict[str, list[str]] = {}
    for name in names:
        match = STACKED.fullmatch(name) or NORMS.fullmatch(name)
        found.setdefault(merged(name) if match else name, []).append(name)
    return [sorted(group, key=number) for group in found.values()]


def number(name: str) -> int:
    match = STACKED.fullmatch(name) or NORMS.fullmatch(name)
    return int(match[2]) if match else 0


def merged(name: str) -> str:
    """The name of a stack of tensors, as the converter calls it before it looks it up."""
    if match := NORMS.fullmatch(name):
        return f"{match[1]}.weight"
    if match := STACKED.fullmatch(name):
        before, _, last = match.groups()
        if before.endswith("block_sparse_moe"):
            layer = re.search(r"layers\.(\d+)", before)[1]
            return f"layers.{layer}.feed_forward.experts.{last}.weight"
        return f"{before}.experts.{last}.weight"
    return name


def there(arch: str, config: dict, name: str, tensor: np.ndarray) -> np.ndarray:
    """A tensor of transformers as the file has it."""
    heads = config.get("num_attention_heads") or config.get("n_head")
    if arch in ROTATED and re.search(r"\.[qk]_proj\.", name):
        kv = config.get("num_key_value_heads", heads)
        return permute(tensor, heads if ".q_proj." in name else kv)
    if arch == "gptneox" and "query_key_value" in name:
        return parted(tensor, heads)
    if arch == "gpt2" and tensor.ndim == 2 and re.search(r"\.(c_attn|c_proj|c_fc)\.weight", name):
        return tensor.T
    if arch in PLUS_ONE and name.endswith("norm.weight"):
        return tensor + np.float32(1)
    if name.endswith("shared_expert_gate.weight"):
        return tensor.squeeze()
    return tensor


def back(arch: str, config: dict, name: str, tensor: np.ndarray) -> np.ndarray:
    """A tensor of the file as transformers has it."""
    heads = config.get("num_attention_heads") or config.get("n_head")
    if arch in ROTATED and re.search(r"\.[qk]_proj\.", name):
        kv = config.get("num_key_value_heads", heads)
        return unpermute(tensor, heads if ".q_proj." in name else kv)
    if arch == "gptneox" and "query_key_value" in name:
        return unparted(tensor, heads)
    if arch == "gpt2" and tensor.ndim == 2 and re.search(r"\.(c_attn|c_proj|c_fc)\.weight", name):
        return tensor.T
    if arch in PLUS_ONE and name.endswith("norm.weight"):
        return tensor - np.float32(1)
    if name.endswith("shared_expert_gate.weight"):
        return tensor[None]
    return tensor


def extra_tensors(config: dict) -> dict[str, np.ndarray]:
    """Tensors that say how rotation is scaled."""
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "longrope":
        return {
            f"rope_factors_{length}.weight": np.float32(scaling[f"{length}_factor"])
            for length in ("long", "short")
        }
    if kind != "llama3":
        return {}
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    original = scaling["original_max_position_embeddings"]
    factors = []
    for index in range(0, dim, 2):
        wavelength = 2 * math.pi * config["rope_theta"] ** (index / dim)
        if wavelength < original / high:
            factors.append(1)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return {"rope_freqs.weight": np.float32(factors)}


def settings(writer: gguf.GGUFWriter, arch: str, config: dict) -> None:
    """The metadata of an architecture."""
    get = config.get
    hidden = get("hidden_size") or get("n_embd")
    heads = get("num_attention_heads") or get("n_head")
    positions = get("max_position_embeddings") or get("n_positions")
    writer.add_block_count(get("num_hidden_layers") or get("n_layer"))
    writer.add_context_length(positions)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(get("intermediate_size") or 4 * hidden)
    writer.add_head_count(heads)
    if "num_key_value_heads" in config:
        writer.add_head_count_kv(config["num_key_value_heads"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    for key in ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"):
        if key in config:
            writer.add_layer_norm_eps(config[key])
    if "rope_theta" in config:
        writer.add_rope_freq_base(config["rope_theta"])
    if arch == "gptneox":
        writer.add_parallel_residual(get("use_parallel_residual", True))
        writer.add_rope_freq_base(config["rotary_emb_base"])
    head = get("head_dim") or hidden // heads
    share = get("partial_rotary_factor", get("rotary_pct", 1.0))
    if arch not in ("gpt2", "gemma", "gemma2", "gemma3"):
        writer.add_rope_dimension_count(int(share * head))
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if arch == "phi3":
        original = get("original_max_position_embeddings", positions)
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_sliding_window(get("sliding_window") or 0)
        if kind == "longrope":
            scale = positions / original
            writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
    elif arch in ("gemma2", "gemma3", "cohere2", "olmo2", "llama") and get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if "layer_types" in config and arch == "olmo2":
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
    if "rope_local_base_freq" in config:
        writer.add_rope_freq_base_swa(config["rope_local_base_freq"])
    if "attn_logit_softcapping" in config:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if "final_logit_softcapping" in config:
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    experts = get("num_local_experts") or get("num_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in config:
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    if "clip_qkv" in config:
        writer.add_clamp_kqv(config["clip_qkv"])
    if arch == "olmo":
        writer.add_layer_norm_eps(1e-5)
    if "logit_scale" in config:
        writer.add_logit_scale(config["logit_scale"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    if arch == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
