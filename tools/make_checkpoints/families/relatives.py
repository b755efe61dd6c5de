"""Relatives of Llama, Mistral, Gemma and GPT-2 without new mathematics."""

from families.common import EPSILON, ROPE_THETA, WINDOW, llama_like, small

YARN = {
    "rope_type": "yarn",
    "rope_theta": ROPE_THETA,
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    # Queries grow beyond.
    "original_max_position_embeddings": 8,
    "max_position_embeddings": 128,
    "llama_4_scaling_beta": 0.6,
}
MINISTRAL3 = llama_like(
    "ministral3",
    "Ministral3ForCausalLM",
    head_dim=10,
    max_position_embeddings=128,
    rope_theta=None,
    rope_parameters=YARN,
)
GPT = {
    "vocab_size": 67,
    "layer_norm_epsilon": EPSILON,
    "activation_function": "gelu_new",
}
EXAONE4 = llama_like(
    "exaone4",
    "Exaone4ForCausalLM",
    num_hidden_layers=4,
    head_dim=8,
    sliding_window=WINDOW,
    layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
)



def llama_names(name: str) -> str:
    """EXAONE's published names under those that transformers has in memory."""
    for published, own in (
        ("transformer.wte.", "model.embed_tokens."),
        ("transformer.h.", "model.layers."),
        ("transformer.ln_f.", "model.norm."),
        ("attn.attention.", "self_attn."),
        ("out_proj.", "o_proj."),
        ("ln_1.", "input_layernorm."),
        ("ln_2.", "post_attention_layernorm."),
        ("c_fc_0.", "gate_proj."),
        ("c_fc_1.", "up_proj."),
        ("c_proj.", "down_proj."),
    ):
        name = name.replace(published, own)
    return name


ROWS = [
    small("arcee", llama_like("arcee", "ArceeForCausalLM", hidden_act="relu2", mlp_bias=True)),
    small(
        "cwm",
        llama_like(
            "cwm",
            "CwmForCausalLM",
            num_hidden_layers=5,
            head_dim=6,
            sliding_window=WINDOW,
            rope_theta=None,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": ROPE_THETA,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        ),
    ),
    small("ernie4-5", llama_like("ernie4_5", "Ernie4_5ForCausalLM", head_dim=8, use_bias=True)),
    # Third generation: Llama's decoder under GPT-2's names.
    small(
        "exaone",
        llama_like(
            "exaone",
            "LlamaForCausalLM",
            num_hidden_layers=None,
            num_layers=2,
            rms_norm_eps=None,
            layer_norm_epsilon=EPSILON,
            hidden_act=None,
            activation_function="silu",
        ),
    ),
    # As transformers keeps it: Llama's names.
    small(
        "exaone-llama-names",
        llama_like("exaone", "ExaoneForCausalLM", head_dim=8, tie_word_embeddings=True),
        rename=llama_names,
    ),
    small("exaone4", EXAONE4),
    # As the published 1.2B: no window, and all layers rotate.
    small(
        "exaone4-no-window",
        EXAONE4
        | {
            "num_hidden_layers": 2,
            "sliding_window": None,
            "layer_types": ["full_attention"] * 2,
        },
    ),
    small("helium", llama_like("helium", "HeliumForCausalLM", head_dim=6, attention_bias=True)),
    small("internlm3", llama_like("internlm3", "LlamaForCausalLM", head_dim=8, qkv_bias=True, bias=True)),
    small("ministral3", MINISTRAL3),
    small(
        "seed-oss",
        llama_like("seed_oss", "SeedOssForCausalLM", head_dim=8, attention_out_bias=True, mlp_bias=True),
    ),
    small(
        "vaultgemma",
        llama_like(
            "vaultgemma",
            "VaultGemmaForCausalLM",
            num_hidden_layers=4,
            hidden_act=None,
            tie_word_embeddings=None,
            hidden_activation="gelu_pytorch_tanh",
            head_dim=8,
            query_pre_attn_scalar=5,
            sliding_window=WINDOW,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
        ),
    ),
    small(
        "gpt-neo",
        GPT
        | {
            "architectures": ["GPTNeoForCausalLM"],
            "model_type": "gpt_neo",
            "hidden_size": 24,
            "num_heads": 3,
            "num_layers": 4,
            "intermediate_size": 29,
            "max_position_embeddings": 32,
            "window_size": WINDOW,
            "attention_types": [[["global", "local"], 1], [["local", "global"], 1]],
        },
    ),
    small(
        "gpt-bigcode",
        GPT
        | {
            "architectures": ["GPTBigCodeForCausalLM"],
            "model_type": "gpt_bigcode",
            "n_embd": 24,
            "n_head": 3,
            "n_layer": 2,
            "n_inner": 29,
            "n_positions": 32,
            "multi_query": True,
        },
    ),
    small(
        "gpt-bigcode-heads",
        GPT
        | {
            "architectures": ["GPTBigCodeForCausalLM"],
            "model_type": "gpt_bigcode",
            "n_embd": 24,
            "n_head": 3,
            "n_layer": 2,
            "n_positions": 32,
            "multi_query": False,
            "scale_attn_weights": False,
        },
    ),
]
