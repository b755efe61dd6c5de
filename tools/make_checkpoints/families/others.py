"""Families with one twist each on the Llama plan."""

from families.common import EPSILON, WINDOW, llama_like, small

STABLELM = llama_like(
    "stablelm",
    "StableLmForCausalLM",
    rms_norm_eps=None,
    layer_norm_eps=EPSILON,
    hidden_size=32,
    partial_rotary_factor=0.5,
)
COHERE = llama_like(
    "cohere",
    "CohereForCausalLM",
    rms_norm_eps=None,
    layer_norm_eps=EPSILON,
    tie_word_embeddings=None,
    logit_scale=0.25,
)

ROWS = [
    small("stablelm", STABLELM | {"use_qkv_bias": True}),
    small("stablelm-parallel-qk-norm", STABLELM | {"use_parallel_residual": True, "qk_layernorm": True}),
    small(
        "starcoder2",
        llama_like(
            "starcoder2",
            "Starcoder2ForCausalLM",
            rms_norm_eps=None,
            norm_epsilon=EPSILON,
            hidden_act="gelu_pytorch_tanh",
            tie_word_embeddings=None,
            use_bias=True,
            sliding_window=WINDOW,
        ),
    ),
    small("cohere", COHERE),
    small("cohere-qk-norm", COHERE | {"use_qk_norm": True}),
    small(
        "cohere2",
        COHERE
        | {
            "architectures": ["Cohere2ForCausalLM"],
            "model_type": "cohere2",
            "num_hidden_layers": 4,
            "sliding_window": WINDOW,
            "sliding_window_pattern": 2,
        },
    ),
    small(
        "granite",
        llama_like(
            "granite",
            "GraniteForCausalLM",
            embedding_multiplier=3.0,
            attention_multiplier=0.3,
            residual_multiplier=0.6,
            logits_scaling=2.5,
        ),
    ),
    small(
        "smollm3",
        llama_like(
            "smollm3",
            "SmolLM3ForCausalLM",
            num_hidden_layers=4,
            tie_word_embeddings=None,
            no_rope_layers=[1, 0, 1, 0],
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
    small(
        "glm",
        llama_like(
            "glm",
            "GlmForCausalLM",
            head_dim=8,
            partial_rotary_factor=0.75,
            attention_bias=True,
            pad_token_id=0,
            eos_token_id=1,
        ),
    ),
    small(
        "glm4",
        llama_like(
            "glm4",
            "Glm4ForCausalLM",
            head_dim=8,
            partial_rotary_factor=0.75,
            attention_bias=True,
            pad_token_id=0,
            eos_token_id=1,
        ),
    ),
    small(
        "nemotron",
        llama_like(
            "nemotron",
            "NemotronForCausalLM",
            rms_norm_eps=None,
            norm_eps=EPSILON,
            hidden_act="relu2",
            hidden_size=32,
            partial_rotary_factor=0.75,
        ),
    ),
]
