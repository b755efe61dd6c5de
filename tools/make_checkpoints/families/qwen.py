"""Qwen 2 and 3, dense and mixtures: query/key/value biases, then per-head norms."""

from families.common import WINDOW, llama_like, small

QWEN2 = llama_like("qwen2", "Qwen2ForCausalLM", sliding_window=WINDOW, max_window_layers=1)
MIXTURE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 11}

ROWS = [
    # Published checkpoints name a window and switch it off.
    small("qwen2", QWEN2 | {"use_sliding_window": False}),
    small(
        "qwen2-window", QWEN2 | {"use_sliding_window": True, "num_hidden_layers": 4, "max_window_layers": 2}
    ),
    small("qwen3", llama_like("qwen3", "Qwen3ForCausalLM", head_dim=8, tie_word_embeddings=True)),
    # Every second layer is a mixture.
    small(
        "qwen2-moe",
        llama_like("qwen2_moe", "Qwen2MoeForCausalLM", **MIXTURE)
        | {
            "shared_expert_intermediate_size": 17,
            "norm_topk_prob": False,
            "use_sliding_window": False,
            "num_hidden_layers": 4,
            "decoder_sparse_step": 2,
        },
    ),
    # The middle layers are dense.
    small(
        "qwen3-moe",
        llama_like("qwen3_moe", "Qwen3MoeForCausalLM", num_hidden_layers=4, head_dim=8, **MIXTURE)
        | {"norm_topk_prob": True, "mlp_only_layers": [1, 2]},
    ),
]
