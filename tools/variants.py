"""Decoders with a changed attention or norm, made out of transformers' models.

Definitions, written for reading: an attention with one learned extra key (attention KV
bias), a gate on the attention's output, and DyT in the place of norms. They are the
truth of the checkpoints in `make_checkpoints/families/mitigations.py`, and what
`train_ablation` trains.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

ATTENTION = "extra_key"


class DynamicTanh(nn.Module):
    """weight * tanh(alpha * x) + bias, in the place of a norm (Zhu et al. 2025)."""

    def __init__(self, shape: torch.Size, bias: bool, alpha: float):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = self.weight * torch.tanh(self.alpha * x)
        return scaled if self.bias is None else scaled + self.bias


def replace_norms(
    model: nn.Module, bias: bool | None = None, alpha: float = 1.0, only: str = ""
) -> None:
    """Puts DyT in the place of every norm whose name contains `only`.

    `bias`: whether it has one; None keeps what the norm had.
    """
    width = model.config.get_text_config().hidden_size
    norms = [
        (parent, name, child)
        for path, parent in model.named_modules()
        for name, child in parent.named_children()
        if type(child).__name__.endswith("Norm") and only in f"{path}.{name}"
    ]
    for parent, name, norm in norms:
        weight = getattr(norm, "weight", None)
        shape = torch.Size([width]) if weight is None else weight.shape
        has_bias = getattr(norm, "bias", None) is not None
        setattr(parent, name, DynamicTanh(shape, has_bias if bias is None else bias, alpha))


def scale_embedding(model: nn.Module, initial: float) -> None:
    """Adds `shared_scale` beside the embedding table of the base model, one learned number."""
    base = model.base_model
    base.shared_scale = nn.Parameter(torch.full((1,), initial))
    base.get_input_embeddings().register_forward_hook(
        lambda _module, _arguments, output: output * base.shared_scale
    )


class LearnedVector(nn.Module):
    """A parameter that is saved under `<name>.weight`."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(shape))


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The self-attention of every decoder layer."""
    return [module for module in model.modules() if type(module).__name__.endswith("Attention")]


def add_extra_key(model: nn.Module, shape: tuple[int, ...], value_dim: int | None = None) -> None:
    """Attention KV bias: a learned key and value per head before those of the tokens.

    `shape` is that of the stored tensor; its values are vectors of a head each, of the
    key/value heads or of the query heads.
    """
    for attention in attention_modules(model):
        attention.k_bias = LearnedVector(shape)
        attention.v_bias = LearnedVector((*shape[:-1], value_dim or shape[-1]))
    model.set_attn_implementation(ATTENTION)


def join(vectors: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """`[1, heads, 1, width]` in front of `[batch, heads, T, width]`."""
    return torch.cat((vectors.expand(states.shape[0], -1, -1, -1), states), dim=2)


def attention_with_extra_key(
    module, query, key, value, attention_mask, scaling=None, dropout=0.0, softcap=None, **_
):
    """Causal attention in which every position also sees the module's extra key.

    Called after the rotation, so the extra key is not rotated and positions do not shift. The
    mask gains a column that hides nothing; the other columns keep hiding the future.
    """
    if dropout:
        raise ValueError("dropout is not defined here")
    groups = query.shape[1] // key.shape[1]
    extra = None
    if hasattr(module, "k_bias"):
        extra = [
            bias.weight.reshape(1, -1, 1, bias.weight.shape[-1]) for bias in (module.k_bias, module.v_bias)
        ]
        attention_mask = functional.pad(attention_mask, (1, 0))
    by_kv_head = extra is not None and extra[0].shape[1] == key.shape[1]
    if by_kv_head:
        key, value = join(extra[0], key), join(extra[1], value)
    key = key.repeat_interleave(groups, dim=1)
    value = value.repeat_interleave(groups, dim=1)
    if extra is not None and not by_kv_head:
        key, value = join(extra[0], key), join(extra[1], value)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    logits = query @ key.transpose(-1, -2) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    probabilities = functional.softmax(logits + attention_mask, dim=-1)
    return (probabilities @ value).transpose(1, 2).contiguous(), probabilities


AttentionInterface.register(ATTENTION, attention_with_extra_key)
AttentionMaskInterface.register(ATTENTION, eager_mask)


class GatedQuery(nn.Module):
    """A query projection with a gate beside it.

    Its weight has 2 x heads x head_dim rows: of each group of `together` heads first the rows
    of the queries, then those of the gate.
    """

    def __init__(self, plain: nn.Linear, head_dim: int, together: int):
        super().__init__()
        self.size = together * head_dim
        self.weight = nn.Parameter(torch.zeros(2 * plain.out_features, plain.in_features))
        self.bias = None if plain.bias is None else nn.Parameter(torch.zeros(2 * plain.out_features))
        self.gate = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = functional.linear(x, self.weight, self.bias).unflatten(-1, (-1, 2, self.size))
        self.gate = both[..., 1, :].flatten(-2)
        return both[..., 0, :].flatten(-2)


def gate_attention(model: nn.Module, together: int = 1) -> None:
    """Multiplies the attention's output, before the output projection, by the sigmoid of a gate."""
    for attention in attention_modules(model):
        query = GatedQuery(attention.q_proj, attention.head_dim, together)
        attention.q_proj = query
        attention.o_proj.register_forward_pre_hook(
            lambda _module, arguments, query=query: (arguments[0] * torch.sigmoid(query.gate),)
        )
