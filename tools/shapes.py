"""Shapes of known models: their config.json, and the tensors that follow from it."""

COMMON_LLAMA = {
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
LLAMA_1B = COMMON_LLAMA | {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}
# The widths of Qwen3.5 35B-A3B with a dense MLP: two layers of one kind, so that a kind's cost stands alone.
QWEN3_5 = {
    "model_type": "qwen3_5_text",
    "vocab_size": 500,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
# A width at which Nemotron-H's kinds of layer hold about as many weights each.
NEMOTRON_H = {
    "model_type": "nemotron_h",
    "vocab_size": 500,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "mamba_num_heads": 32,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 1,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
SHAPES = {
    # name: (config, context length)
    "gpt2-124m": (
        {
            "model_type": "gpt2",
            "vocab_size": 50257,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_positions": 1024,
            "tie_word_embeddings": True,
        },
        1024,
    ),
    # Four of the 22 layers of the 1.1B shape: the rate per layer does not depend on depth.
    "llama-1.1b": (LLAMA_1B | {"num_hidden_layers": 4, "max_position_embeddings": 2048}, 2048),
    "llama-1.1b-whole": (LLAMA_1B, 4096),
    "llama-7b": (
        COMMON_LLAMA
        | {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
        },
        4096,
    ),
    "gated-delta": (QWEN3_5 | {"layer_types": ["linear_attention"] * 2}, 4096),
    "gated-attention": (QWEN3_5 | {"layer_types": ["full_attention"] * 2}, 4096),
    "mamba-2": (NEMOTRON_H | {"layers_block_type": ["mamba"] * 2}, 4096),
    "mamba-2-attention": (NEMOTRON_H | {"layers_block_type": ["attention"] * 2}, 4096),
    "tiny": (
        COMMON_LLAMA
        | {
            "vocab_size": 257,
            "hidden_size": 48,
            "intermediate_size": 101,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
        },
        128,
    ),
}


def llama_tensors(config: dict) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    table = (config["vocab_size"], hidden)
    shapes = {"model.embed_tokens.weight": table}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": table}


def gpt2_tensors(config: dict) -> dict[str, tuple[int, ...]]:
    """Shapes by name; the products are stored [in, out]."""
    hidden = config["n_embd"]
    shapes = {
        "transformer.wte.weight": (config["vocab_size"], hidden),
        "transformer.wpe.weight": (config["n_positions"], hidden),
    }
    for layer in range(config["n_layer"]):
        for name, shape in {
            "ln_1": (hidden,),
            "attn.c_attn": (hidden, 3 * hidden),
            "attn.c_proj": (hidden, hidden),
            "ln_2": (hidden,),
            "mlp.c_fc": (hidden, 4 * hidden),
            "mlp.c_proj": (4 * hidden, hidden),
        }.items():
            shapes[f"transformer.h.{layer}.{name}.weight"] = shape
            shapes[f"transformer.h.{layer}.{name}.bias"] = shape[-1:]
    return shapes | {f"transformer.ln_f.{part}": (hidden,) for part in ("weight", "bias")}


TENSORS = {"llama": llama_tensors, "gpt2": gpt2_tensors}
