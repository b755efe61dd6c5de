"""Several residual streams that a layer mixes (hyper-connections), keys of compressed tokens: DeepSeek-V4."""

import torch

from families.common import llama_like, small
from families.mixtures import unbalance
from families.relatives import YARN
from table import Tensors

SLIDING, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"


def route_by_token(config: dict, tensors: Tensors) -> None:
    """The table of a token's experts is a buffer of zeros; a token never visits an expert twice."""
    unbalance(config, tensors)
    count = config["n_routed_experts"]
    tokens = torch.arange(config["vocab_size"])
    for layer, name in enumerate(sorted(name for name in tensors if name.endswith("tid2eid"))):
        first = (3 * tokens + layer) % count
        second = (first + 1 + tokens % (count - 1)) % count
        tensors[name].copy_(torch.stack([first, second], dim=1))
    for name, tensor in tensors.items():
        # A buffer in transformers, as the table is; in the published files it is called so.
        if name.endswith("ffn.gate.bias"):
            tensor.copy_(torch.linspace(-0.3, 0.4, tensor.numel()))


DEEPSEEK_V4 = llama_like(
    "deepseek_v4",
    "DeepseekV4ForCausalLM",
    intermediate_size=None,
    num_hidden_layers=6,
    num_attention_heads=6,
    num_key_value_heads=1,
    head_dim=10,
    q_lora_rank=9,
    partial_rotary_factor=0.4,
    o_groups=3,
    o_lora_rank=7,
    moe_intermediate_size=7,
    n_routed_experts=5,
    n_shared_experts=1,
    num_experts_per_tok=2,
    routed_scaling_factor=1.7,
    # The published limit of 10 would clamp nothing here.
    swiglu_limit=1.5,
    layer_types=[SLIDING, SPARSE, HEAVY, HEAVY, SPARSE, SLIDING],
    mlp_layer_types=["hash_moe"] * 3 + ["moe"] * 3,
    compress_rates={SPARSE: 3, HEAVY: 5},
    compress_rope_theta=9000.0,
    rope_scaling={key: YARN[key] for key in ("factor", "beta_fast", "beta_slow")}
    | {"type": "yarn", "original_max_position_embeddings": 8},
    sliding_window=4,
    # Fewer entries than the longer sequences have; so many heads that no sum is nothing: ties have no order.
    index_topk=2,
    index_head_dim=6,
    index_n_heads=17,
    hc_mult=3,
    hc_sinkhorn_iters=3,
    hc_eps=0.01,
)

ROWS = [small("deepseek-v4", DEEPSEEK_V4, mixers=("self_attn",), plant=route_by_token)]
