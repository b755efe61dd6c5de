"""Weights as they are deployed: a row a format and a corner of it."""

import torch

from families import stored as moe_layouts
from families.common import EPSILON, ROPE_THETA, llama_like
from packing import Packing, bnb, compressed, fp8, gptq_awq
from table import Checkpoint

# Three query heads a key head, several groups a row, a vocabulary that fills no word.
SIZES = {
    "hidden_size": 96,
    "intermediate_size": 64,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
LLAMA = llama_like("llama", "LlamaForCausalLM", **SIZES)
# Of no multiple of anything.
ODD = llama_like(
    "llama",
    "LlamaForCausalLM",
    hidden_size=42,
    intermediate_size=53,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=14,
)
QWEN2 = llama_like("qwen2", "Qwen2ForCausalLM", **SIZES)
PHI3 = llama_like(
    "phi3",
    "Phi3ForCausalLM",
    hidden_size=48,
    intermediate_size=56,
    num_attention_heads=6,
    num_key_value_heads=2,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
QWEN3_MOE = llama_like(
    "qwen3_moe",
    "Qwen3MoeForCausalLM",
    hidden_size=32,
    intermediate_size=40,
    head_dim=8,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    norm_topk_prob=True,
)
MIXTRAL = llama_like(
    "mixtral", "MixtralForCausalLM", intermediate_size=13, num_local_experts=3, num_experts_per_tok=2
)
NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "vocab_size": 67,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "rotary_pct": 0.5,
    "rotary_emb_base": ROPE_THETA,
    "layer_norm_eps": EPSILON,
    "hidden_act": "gelu",
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
}

# All projections of the layers; not norms, embeddings, routers, or the head.
LAYERS = r"layers\..*(proj|dense|query_key_value|dense_h_to_4h|dense_4h_to_h)$"
ALL = LAYERS + r"|^(lm_head|embed_out)$"


def packed(name: str, config: dict, quantisation: dict, packing: Packing, **options) -> Checkpoint:
    """A row of weights that are packed, the others in float16 or what `dtype` says."""
    options = {"max_length": 32, "lengths": (1, 2, 13), "dtype": torch.float16} | options
    config = config | {"torch_dtype": str(options["dtype"]).removeprefix("torch.")}
    if quantisation:
        config |= {"quantization_config": quantisation}
    return Checkpoint(name, config, packing=packing, **options)


def rules(*pairs) -> Packing:
    """Of patterns and packers."""
    return Packing(pairs)


def compressed_config(format_: str, *groups: tuple[list[str], dict], **more) -> dict:
    """A `quantization_config` as the library saves it."""
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{index}": {"targets": targets, "input_activations": None, "output_activations": None}
            | {"weights": weights}
            for index, (targets, weights) in enumerate(groups)
        },
        "ignore": [],
        "kv_cache_scheme": None,
    } | more


def quantised_inputs(config: dict) -> dict:
    """Where the model is run its inputs are quantised, too (W8A8)."""
    for group in config["config_groups"].values():
        group["input_activations"] = {"num_bits": 8, "type": "int", "dynamic": True, "strategy": "token"}
    return config


def tiny_keys(_config: dict, tensors: dict) -> None:
    """Some keys so small that their float16 scales are subnormal."""
    tensors["model.layers.1.self_attn.k_proj.weight"][:5] *= 1e-4


def outputs(module: str) -> int:
    """Of LLAMA's projections."""
    sizes = {"k_proj": 32, "v_proj": 32, "gate_proj": 64, "up_proj": 64}
    return sizes.get(module.rsplit(".", 1)[1], 96)


INT4 = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 32}
INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}

ROWS = [
    # Weights and scales lie in different shards.
    packed(
        "fp8-blocks",
        ODD,
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [16, 24]},
        rules((LAYERS, fp8.blocks((16, 24)))),
        dtype=torch.bfloat16,
        shards=3,
    ),
    packed(
        "fp8-blocks-experts",
        QWEN3_MOE,
        {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [20, 16]},
        rules((LAYERS, fp8.blocks((20, 16), torch.bfloat16))),
        dtype=torch.bfloat16,
    ),
    packed(
        "fp8-blocks-stacked",
        MIXTRAL,
        {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [8, 16]},
        rules((r"experts|_proj$", fp8.blocks((8, 16)))),
        dtype=torch.bfloat16,
        layout=moe_layouts.stacked_experts,
    ),
    packed(
        "fp8-tensor-e5m2",
        ODD,
        {"quant_method": "fp8", "activation_scheme": "static"},
        Packing(
            ((ALL, fp8.by_tensor(torch.float8_e5m2)),),
            extra=lambda module: {f"{module}.k_scale": torch.ones(1)} if module.endswith("self_attn.k_proj") else {},
        ),
        dtype=torch.bfloat16,
    ),
    packed(
        "fbgemm-fp8",
        PHI3,
        {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]},
        rules((LAYERS, fp8.by_output)),
        dtype=torch.bfloat16,
    ),
    packed(
        "compressed-float",
        ODD,
        compressed_config("float-quantized", (["Linear"], FP8)),
        rules((ALL, compressed.library("float-quantized", **FP8))),
    ),
    packed(
        "compressed-float-block",
        ODD,
        compressed_config(
            "float-quantized",
            (["Linear"], FP8 | {"strategy": "block", "block_structure": [16, 24]}),
            ignore=["lm_head"],
        ),
        rules(
            (
                LAYERS,
                compressed.library(
                    "float-quantized", torch.float32, **FP8 | {"strategy": "block", "block_structure": [16, 24]}
                ),
            )
        ),
    ),
    packed(
        "compressed-int8",
        ODD,
        quantised_inputs(compressed_config("int-quantized", (["Linear"], INT8), ignore=["lm_head"])),
        rules((LAYERS, compressed.library("int-quantized", **INT8))),
    ),
    packed(
        "compressed-naive",
        QWEN3_MOE,
        compressed_config(
            "naive-quantized",
            (["Linear"], INT4 | {"num_bits": 8, "group_size": 16}),
            ignore=["lm_head", "re:.*v_proj", "re:.*mlp.gate$"],
        ),
        rules(
            (
                LAYERS.replace("(proj", "([^v]_proj"),
                compressed.library("naive-quantized", **INT4 | {"num_bits": 8, "group_size": 16}),
            )
        ),
    ),
    packed(
        "compressed-pack",
        QWEN3_MOE,
        compressed_config("pack-quantized", (["Linear"], INT4), ignore=["lm_head", "re:.*mlp.gate$"]),
        rules((LAYERS, compressed.library("pack-quantized", **INT4))),
        dtype=torch.bfloat16,
    ),
    # Rows that end within a word.
    packed(
        "compressed-pack-odd",
        ODD,
        compressed_config(
            "pack-quantized",
            (["re:.*self_attn.*"], INT8 | {"num_bits": 4}),
            (["re:.*mlp.*"], INT8),
            (["lm_head"], INT8 | {"strategy": "tensor", "num_bits": 3}),
        ),
        rules(
            ("self_attn", compressed.library("pack-quantized", **INT8 | {"num_bits": 4})),
            ("mlp", compressed.library("pack-quantized", **INT8)),
            ("lm_head", compressed.library("pack-quantized", **INT8 | {"strategy": "tensor", "num_bits": 3})),
        ),
    ),
    packed(
        "compressed-act-order",
        LLAMA,
        compressed_config("pack-quantized", (["Linear"], INT4 | {"actorder": "group"}), ignore=["lm_head"]),
        rules((LAYERS, compressed.int4_act_order(32))),
    ),
    packed(
        "compressed-nvfp4",
        LLAMA,
        compressed_config(
            "nvfp4-pack-quantized",
            (["Linear"], {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}),
            ignore=["lm_head"],
        ),
        rules((LAYERS, compressed.fp4("nvfp4-pack-quantized"))),
        dtype=torch.bfloat16,
    ),
    packed(
        "compressed-mixed",
        LLAMA,
        compressed_config(
            "mixed-precision",
            (["re:.*self_attn.(q|k)_proj$"], FP8),
            (["Linear"], {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}),
            (["re:.*down_proj$"], INT4 | {"group_size": 16}),
            ignore=["lm_head"],
        ),
        rules(
            (r"(q|k)_proj$", compressed.library("float-quantized", **FP8)),
            (r"down_proj$", compressed.library("pack-quantized", **INT4 | {"group_size": 16})),
            (LAYERS, compressed.fp4("mxfp4-pack-quantized")),
        ),
    ),
    packed(
        "compressed-mxfp8",
        QWEN3_MOE,
        compressed_config(
            "mxfp8-quantized",
            (["Linear"], {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32}),
            ignore=["lm_head", "re:.*mlp.gate$"],
            kv_cache_scheme={"num_bits": 8, "type": "float", "dynamic": False},
        ),
        rules((LAYERS, compressed.mxfp8)),
        dtype=torch.bfloat16,
    ),
    packed(
        "gptq-act-order",
        LLAMA,
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False},
        Packing(((LAYERS, gptq_awq.gptq(4, 32, act_order=True)),), extra=gptq_awq.zero_bias(outputs)),
        plant=tiny_keys,
    ),
    packed(
        "gptq-3-bits",
        QWEN2,
        {"quant_method": "gptq", "bits": 3, "group_size": 32, "checkpoint_format": "gptq_v2"},
        rules((LAYERS, gptq_awq.gptq(3, 32, version=2, g_idx=False))),
    ),
    packed(
        "gptq-2-bits",
        LLAMA,
        {"quant_method": "gptq", "bits": 2, "group_size": 16, "checkpoint_format": "gptq", "lm_head": False},
        rules((LAYERS, gptq_awq.gptq(2, 16))),
    ),
    packed(
        "gptq-8-bits",
        NEOX,
        {"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": False, "sym": True},
        rules((LAYERS, gptq_awq.gptq(8, -1))),
    ),
    packed(
        "awq",
        QWEN2,
        {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"},
        rules((LAYERS, gptq_awq.awq(32))),
    ),
    packed(
        "bitsandbytes-nf4",
        ODD,
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        rules((LAYERS, bnb.four_bits("nf4", double=True))),
        dtype=torch.bfloat16,
    ),
    packed(
        "bitsandbytes-fp4",
        PHI3,
        {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_quant_storage": "bfloat16"},
        rules((LAYERS, bnb.four_bits("fp4", double=False, block=128, storage=torch.bfloat16))),
    ),
    packed(
        "bitsandbytes-int8",
        ODD,
        {"quant_method": "bitsandbytes", "load_in_8bit": True},
        rules((LAYERS, bnb.int8)),
    ),
    packed(
        "modelopt-nvfp4",
        LLAMA,
        {},
        Packing(
            ((r"self_attn", fp8.by_tensor()), (LAYERS, fp8.nvfp4)),
            files=(
                (
                    "hf_quant_config.json",
                    {
                        "producer": {"name": "modelopt", "version": "0.29.0"},
                        "quantization": {
                            "quant_algo": "MIXED_PRECISION",
                            "kv_cache_quant_algo": "FP8",
                            "exclude_modules": ["lm_head"],
                        },
                    },
                ),
            ),
        ),
        dtype=torch.bfloat16,
    ),
]
