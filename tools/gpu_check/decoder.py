"""A Llama in plain PyTorch, with the mathematics of transformers' and nothing around it.

The best PyTorch to compare with, where `attend` is fused attention, and a stand-in for transformers
on machines without it, where `attend` is `eager`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

import tensors_file


def eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Whole maps, softmax in float32, as transformers' eager attention."""
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    logits = logits.masked_fill(hidden, torch.finfo(q.dtype).min)
    return functional.softmax(logits, dim=-1, dtype=torch.float32).to(q.dtype) @ v


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Llama:
    """The weights of a checkpoint on a device."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype):
        self.config = json.loads((folder / "config.json").read_text())
        stored = tensors_file.read(folder / "model.safetensors")
        # Not views of the file's pages, on the CPU either.
        self.weights = {name: tensor.to(device, dtype, copy=True) for name, tensor in stored}
        self.device, self.dtype = device, dtype
        self.heads = self.config["num_attention_heads"]
        self.head_dim = self.config["hidden_size"] // self.heads

    @torch.no_grad()
    def forward(
        self,
        ids: list[int],
        attend: Callable,
        after_layer: Callable[[torch.Tensor], object],
        with_head: bool,
    ) -> None:
        """Runs one sequence and shows each layer's output, [1, T, hidden]."""
        tokens = torch.tensor([ids], device=self.device)
        x = functional.embedding(tokens, self.weights["model.embed_tokens.weight"])
        rotation = self.rotation(len(ids))
        for layer in range(self.config["num_hidden_layers"]):
            x = self.layer(f"model.layers.{layer}", x, attend, rotation)
            after_layer(x)
        if with_head:
            functional.linear(self.norm("model.norm", x), self.weights["lm_head.weight"])

    def rotation(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine, [T, head_dim], of angles in float32."""
        exponents = torch.arange(0, self.head_dim, 2, device=self.device).float() / self.head_dim
        frequencies = self.config["rope_theta"] ** -exponents
        angles = torch.outer(torch.arange(length, device=self.device).float(), frequencies).repeat(1, 2)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def layer(self, name: str, x: torch.Tensor, attend: Callable, rotation: tuple) -> torch.Tensor:
        x = x + self.attention(f"{name}.self_attn", self.norm(f"{name}.input_layernorm", x), attend, rotation)
        return x + self.mlp(f"{name}.mlp", self.norm(f"{name}.post_attention_layernorm", x))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.weights[f"{name}.weight"]
        return functional.rms_norm(x, weight.shape, weight, self.config["rms_norm_eps"])

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"])

    def attention(self, name: str, x: torch.Tensor, attend: Callable, rotation: tuple) -> torch.Tensor:
        projected = (self.linear(f"{name}.{part}_proj", x) for part in "qkv")
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in projected)
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        groups = self.heads // k.shape[1]
        if groups > 1:
            k, v = (part.repeat_interleave(groups, dim=1) for part in (k, v))
        return self.linear(f"{name}.o_proj", attend(q, k, v).transpose(1, 2).flatten(2))

    def mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        gated = functional.silu(self.linear(f"{name}.gate_proj", x)) * self.linear(f"{name}.up_proj", x)
        return self.linear(f"{name}.down_proj", gated)


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Pairs of the two halves of a head, as Hugging Face's Llama has them."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine
