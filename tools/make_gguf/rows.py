"""The table of GGUF files: every architecture that massact reads, and every type."""

from families import ROWS as CHECKPOINTS
from gguf import GGMLQuantizationType as Type

from checkpoints import Row

CONFIGS = {row.name: row.config for row in CHECKPOINTS}

# Rows of whole blocks of 32.
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 64,
    "n_embd": 64,
    "n_head": 4,
}


def config(name: str, **changes) -> dict:
    """The config of a checkpoint of tests/checkpoints, with sizes that blocks divide."""
    base = CONFIGS[name]
    sized = base | {key: value for key, value in SIZES.items() if key in base}
    changed = {key: value for key, value in (sized | changes).items() if value is not ...}
    changed.pop("torch_dtype", None)
    return changed


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
WIDE = (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_XS, Type.TQ1_0, Type.TQ2_0)
SMALL = (
    Type.Q4_0,
    Type.Q4_1,
    Type.Q5_0,
    Type.Q5_1,
    Type.Q8_0,
    Type.IQ4_NL,
    Type.MXFP4,
    Type.F16,
    Type.BF16,
    Type.F32,
)

ROWS = [
    # Wide rows, for the types with blocks of 256.
    Row(
        "llama-k-quants",
        "llama",
        config(
            "llama-biases",
            hidden_size=256,
            num_key_value_heads=2,
            head_dim=16,
            num_hidden_layers=4,
            attention_bias=False,
            mlp_bias=False,
            rope_theta=500000.0,
            rope_scaling=LLAMA3,
            tie_word_embeddings=True,
        ),
        WIDE + SMALL,
    ),
    # Whole files of one plain type, in three parts; biases; an odd number of heads.
    Row(
        "llama-f16-split",
        "llama",
        config(
            "llama-biases",
            hidden_size=40,
            num_attention_heads=5,
            num_key_value_heads=1,
            rope_scaling={"type": "linear", "factor": 2.5},
        ),
        (Type.F16,),
        most_tensors=12,
    ),
    Row("llama-f32", "llama", CONFIGS["llama-gqa7-head-dim"] | {"hidden_act": "silu"}, (Type.F32,)),
    Row("mistral-bf16", "llama", config("mistral-window"), (Type.BF16,)),
    Row("mixtral-q4_0", "llama", config("mixtral", intermediate_size=32), (Type.Q4_0, Type.Q8_0)),
    Row("qwen2-q4_1", "qwen2", config("qwen2", tie_word_embeddings=True), (Type.Q4_1,)),
    Row(
        "qwen3-yarn-q5_0",
        "qwen3",
        config(
            "qwen3",
            rope_scaling={"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16},
        ),
        (Type.Q5_0,),
    ),
    Row("qwen2moe-q5_1", "qwen2moe", config("qwen2-moe", decoder_sparse_step=1, num_hidden_layers=2), (Type.Q5_1,)),
    Row("qwen3moe-iq4_nl", "qwen3moe", config("qwen3-moe", mlp_only_layers=[], num_hidden_layers=2), (Type.IQ4_NL,)),
    Row("gemma-q8_0", "gemma", config("gemma"), (Type.Q8_0,)),
    Row("gemma2-mxfp4", "gemma2", config("gemma2", query_pre_attn_scalar=16), (Type.MXFP4, Type.Q8_0)),
    Row(
        "gemma3-q4_0",
        "gemma3",
        config(
            "gemma3-old-keys",
            query_pre_attn_scalar=16,
            sliding_window_pattern=6,
            num_hidden_layers=6,
        ),
        (Type.Q4_0, Type.Q8_0),
    ),
    Row("phi3-window-q4_1", "phi3", config("phi3-window"), (Type.Q4_1, Type.Q5_0)),
    Row(
        "phi3-longrope-f16",
        "phi3",
        config(
            "phi3-longrope-partial",
            rope_scaling={
                "type": "longrope",
                "short_factor": [1.0, 1.1, 1.2, 1.25, 1.3, 1.4],
                "long_factor": [1.25, 1.5, 2.0, 2.5, 4.0, 6.0],
            },
        ),
        (Type.F16,),
    ),
    Row("gpt2-q8_0", "gpt2", config("gpt2-f32", vocab_size=67, bos_token_id=66, eos_token_id=66), (Type.Q8_0, Type.F16)),
    Row("gptneox-q5_1", "gptneox", config("gpt-neox-parallel"), (Type.Q5_1, Type.F32)),
    Row("starcoder2-q4_0", "starcoder2", config("starcoder2", sliding_window=None, rms_norm_eps=...), (Type.Q4_0,)),
    Row("stablelm-q8_0", "stablelm", config("stablelm"), (Type.Q8_0,)),
    Row("stablelm-parallel-qk-norm-q5_0", "stablelm", config("stablelm-parallel-qk-norm"), (Type.Q5_0,)),
    Row("olmo-clip-qkv-q4_1", "olmo", config("olmo-clip-qkv"), (Type.Q4_1,)),
    Row("olmo2-q4_0", "olmo2", config("olmo2"), (Type.Q4_0,)),
    Row("olmo3-q8_0", "olmo2", config("olmo3", rope_theta=500000.0), (Type.Q8_0,)),
    Row("olmoe-q4_1", "olmoe", config("olmoe", intermediate_size=32), (Type.Q4_1,)),
    Row("command-r-qk-norm-f16", "command-r", config("cohere-qk-norm"), (Type.F16,)),
    Row("cohere2-q8_0", "cohere2", config("cohere2", sliding_window_pattern=4), (Type.Q8_0,)),
    Row("granite-q5_0", "granite", config("granite"), (Type.Q5_0,)),
    Row("nemotron-q8_0", "nemotron", config("nemotron"), (Type.Q8_0,)),
    Row("smollm3-q4_1", "smollm3", config("smollm3", no_rope_layers=[1, 1, 1, 0]), (Type.Q4_1,)),
    Row("phi2-q8_0", "phi2", config("phi", num_key_value_heads=4), (Type.Q8_0,)),
]
