"""What is stored decides: heads beside a config that ties, and experts in stacked tensors."""

import re

import torch

from families import gemma, gpt2, mixtures, qwen
from families.common import llama_like, small
from table import Checkpoint, Tensors

EMBEDDING = re.compile(r"(embed_tokens|wte)\.weight$")
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight$")


def distinct_head(tensors: Tensors) -> Tensors:
    """Adds a head with values of its own, of the embedding's shape."""
    (embedding,) = (tensor for name, tensor in tensors.items() if EMBEDDING.search(name))
    generator = torch.Generator().manual_seed(7)
    head = torch.randn(embedding.shape, generator=generator).to(embedding.dtype)
    return tensors | {"lm_head.weight": head}


def head_only(tensors: Tensors) -> Tensors:
    """Stores the one matrix of a tied model under the head's name."""
    return {("lm_head.weight" if EMBEDDING.search(name) else name): t for name, t in tensors.items()}


def stacked_experts(tensors: Tensors) -> Tensors:
    """The tensors as transformers 5 keeps them in memory, and saves them on request."""
    stored, experts = {}, {}
    for name, tensor in tensors.items():
        if found := EXPERT.match(name):
            module, number, projection = found.groups()
            experts.setdefault(module, {}).setdefault(projection, {})[int(number)] = tensor
        else:
            stored[name.replace(".block_sparse_moe.", ".mlp.")] = tensor
    for module, parts in experts.items():
        gate, up, down = (
            torch.stack([part[number] for number in sorted(part)])
            for part in (parts.get(old) or parts[new] for old, new in
                         (("w1", "gate_proj"), ("w3", "up_proj"), ("w2", "down_proj")))
        )
        module = module.replace(".block_sparse_moe.", ".mlp.")
        stored |= {f"{module}.gate_up_proj": torch.cat([gate, up], dim=1), f"{module}.down_proj": down}
    return stored


def row_of(rows: list[Checkpoint], name: str) -> Checkpoint:
    """The row of this name."""
    (found,) = (row for row in rows if row.name == name)
    return found


MULTIMODAL = row_of(gemma.ROWS, "gemma3-multimodal")
TIED = llama_like("llama", "LlamaForCausalLM", tie_word_embeddings=True)

ROWS = [
    # transformers ties only what is equal.
    small("llama-distinct-head", TIED, layout=distinct_head),
    # Tied by default, and a head stored all the same.
    Checkpoint("gpt2-distinct-head", gpt2.SMALL, max_length=32, layout=distinct_head),
    small("llama-head-only", TIED, layout=head_only),
    # The outer config has the flag that counts.
    small(
        "gemma3-multimodal-untied",
        MULTIMODAL.config
        | {
            "tie_word_embeddings": False,
            "text_config": MULTIMODAL.config["text_config"] | {"tie_word_embeddings": True},
        },
        rename=MULTIMODAL.rename,
        plant=MULTIMODAL.plant,
    ),
    small(
        "mixtral-stacked",
        llama_like(
            "mixtral", "MixtralForCausalLM", intermediate_size=13, num_local_experts=5, num_experts_per_tok=3
        ),
        layout=stacked_experts,
    ),
    small(
        "qwen2-moe-stacked",
        row_of(qwen.ROWS, "qwen2-moe").config,
        layout=stacked_experts,
    ),
    # Biases in dense and shared MLPs, and none in the experts.
    small(
        "deepseek-v2-stacked-biases",
        row_of(mixtures.ROWS, "deepseek-v2").config | {"mlp_bias": True},
        layout=stacked_experts,
    ),
]
