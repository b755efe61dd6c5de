"""Mistral, Ministral and OLMo 1 to 3: windows, clipping, norms without weights, norms after the block."""

from families.common import WINDOW, llama_like, small

OLMO2 = llama_like("olmo2", "Olmo2ForCausalLM")

ROWS = [
    small("mistral-window", llama_like("mistral", "MistralForCausalLM", sliding_window=WINDOW)),
    # As Mistral-Nemo: no window, heads wider than hidden / heads.
    small(
        "mistral-head-dim",
        llama_like("mistral", "MistralForCausalLM", head_dim=10) | {"sliding_window": None},
    ),
    small(
        "ministral",
        llama_like(
            "ministral",
            "MinistralForCausalLM",
            head_dim=8,
            num_hidden_layers=4,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"] * 2,
        ),
    ),
    small("olmo", llama_like("olmo", "OlmoForCausalLM", rms_norm_eps=None)),
    small("olmo-clip-qkv", llama_like("olmo", "OlmoForCausalLM", rms_norm_eps=None, clip_qkv=0.9)),
    small("olmo2", OLMO2),
    small(
        "olmo3",
        OLMO2
        | {
            "architectures": ["Olmo3ForCausalLM"],
            "model_type": "olmo3",
            "num_hidden_layers": 4,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
]
