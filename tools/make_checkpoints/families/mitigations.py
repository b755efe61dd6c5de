"""Published changes against massive activations, on several families: attention KV bias, DyT in
the place of norms, gated attention. Their definitions are in tools/variants.py."""

from functools import partial

import torch

from families.common import WINDOW, llama_like, small
from families.gemma import GEMMA2, GEMMA3
from families.gemma4 import scale_layers
from families.gemma4 import TEXT as GEMMA4
from families.gpt2 import SMALL as GPT2
from families.gpt2 import without_prefix
from families.hybrid import LFM2
from families.others import COHERE, STABLELM
from table import Checkpoint, Tensors
from variants import add_extra_key, gate_attention, replace_norms, scale_embedding

# Six query heads that share two key/value heads; as wide as the residual stream says, or wider.
LLAMA = llama_like("llama", "LlamaForCausalLM", num_attention_heads=6)
QWEN3 = llama_like("qwen3", "Qwen3ForCausalLM", num_attention_heads=6, head_dim=6)
NO_ROUNDING = {"dtype": torch.float32}


def changes(*parts):
    """One change after another."""

    def change(model: torch.nn.Module) -> None:
        for part in parts:
            part(model)

    return change


def extra_key(*shape: int):
    """Attention KV bias stored in this shape."""
    return partial(add_extra_key, shape=shape)


def bare_bias(name: str) -> str:
    """`k_bias` and `v_bias` as parameters of the attention module."""
    return name.replace("k_bias.weight", "k_bias").replace("v_bias.weight", "v_bias")


def as_nano_gpt(tensors: Tensors) -> Tensors:
    """nanoGPT: every matrix as `nn.Linear` stores it, no biases, the tied head stored."""
    matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    plain = {
        name: tensor.T.contiguous() if name.endswith(matrices) else tensor
        for name, tensor in tensors.items()
        if not name.endswith(".bias")
    }
    return plain | {"lm_head.weight": plain["transformer.wte.weight"].clone()}


def without_biases(_config: dict, tensors: Tensors) -> None:
    """Makes leaving the biases out no change."""
    for name, tensor in tensors.items():
        if name.endswith(".bias"):
            tensor.zero_()


def gpt2(name: str, variant, config: dict | None = None, **options) -> Checkpoint:
    """A small GPT-2."""
    return Checkpoint(name, GPT2 | (config or {}), max_length=32, variant=variant, **options)


ROWS = [
    small("kv-bias-llama", LLAMA, variant=extra_key(2, 1, 4), **NO_ROUNDING),
    small("kv-bias-llama-query-heads", LLAMA, variant=extra_key(6, 1, 4)),
    small("kv-bias-qwen3-sharded", QWEN3, variant=extra_key(2, 6), shards=2),
    small(
        "kv-bias-gemma2",
        GEMMA2 | {"num_hidden_layers": 2},
        variant=extra_key(2, 1, 8),
    ),
    # The last two layers take earlier ones' keys and values, and have a learned key of their own.
    small(
        "kv-bias-gemma4",
        GEMMA4
        | {
            "global_head_dim": 8,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 5,
            "vocab_size_per_layer_input": 67,
        },
        variant=extra_key(2, 1, 8),
        plant=scale_layers,
    ),
    small(
        "dyt-kv-bias-lfm2",
        llama_like(
            "lfm2",
            "Lfm2ForCausalLM",
            num_hidden_layers=4,
            layer_types=["conv", "full_attention", "conv", "full_attention"],
            block_auto_adjust_ff_dim=False,
            tie_word_embeddings=True,
            **LFM2,
        ),
        variant=changes(replace_norms, extra_key(2, 1, 6)),
        **NO_ROUNDING,
    ),
    small(
        "kv-bias-mistral",
        llama_like("mistral", "MistralForCausalLM", num_key_value_heads=1, sliding_window=WINDOW),
        variant=extra_key(1, 1, 6),
        rename=bare_bias,
    ),
    gpt2("kv-bias-gpt2", extra_key(1, 3, 1, 8), rename=bare_bias),
    gpt2(
        "kv-bias-gpt2-bare-names-f16",
        extra_key(1, 3, 1, 8),
        {"torch_dtype": "float16"},
        rename=without_prefix,
        dtype=torch.float16,
    ),
    gpt2(
        "kv-bias-nano-gpt",
        extra_key(1, 3, 1, 8),
        {"activation_function": "gelu"},
        rename=bare_bias,
        plant=without_biases,
        layout=as_nano_gpt,
    ),
    small(
        "dyt-llama",
        LLAMA | {"dyt_alpha": 0.3},
        variant=changes(replace_norms, partial(scale_embedding, initial=1.7)),
        **NO_ROUNDING,
    ),
    small("dyt-llama-bias-sharded", LLAMA, variant=partial(replace_norms, bias=True), shards=2),
    small("dyt-llama-some", LLAMA, variant=partial(replace_norms, only="input_layernorm"), **NO_ROUNDING),
    gpt2("dyt-gpt2", replace_norms),
    gpt2(
        "dyt-gpt2-no-bias-f16",
        partial(replace_norms, bias=False),
        {"torch_dtype": "float16"},
        dtype=torch.float16,
    ),
    small("dyt-olmo", llama_like("olmo", "OlmoForCausalLM", rms_norm_eps=None), variant=replace_norms),
    small(
        "dyt-gemma3",
        GEMMA3 | {"num_hidden_layers": 2, "sliding_window_pattern": 2},
        variant=replace_norms,
    ),
    small(
        "dyt-stablelm-heads",
        STABLELM | {"qk_layernorm": True},
        variant=replace_norms,
    ),
    small("dyt-cohere-heads", COHERE | {"use_qk_norm": True}, variant=replace_norms),
    small("gated-qwen3", QWEN3 | {"attn_output_gate": True}, variant=gate_attention),
    small("gated-llama-bias", LLAMA | {"attention_bias": True}, variant=gate_attention, **NO_ROUNDING),
    small(
        "gated-qwen3-groups",
        QWEN3 | {"elementwise_attn_output_gate": True, "headwise_attn_output_gate": False},
        variant=partial(gate_attention, together=3),
    ),
    small(
        "gated-dyt-kv-bias-qwen3",
        QWEN3 | {"attn_output_gate": True},
        variant=changes(gate_attention, partial(replace_norms, bias=True), extra_key(2, 1, 6)),
    ),
]
