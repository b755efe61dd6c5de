"""PyTorch's way of what `massact bench` times, at the same sizes: pairs of a variant's name and the call."""

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from job import Job

TOP_K = 5
# The fused ones; the CPU has its own flash attention.
ATTENTION_BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def random_tensor(job: Job, *shape: int) -> torch.Tensor:
    return torch.randn(shape, device=job.device, dtype=getattr(torch, job.dtype))


def rows(job: Job, sizes: dict) -> torch.Tensor:
    return random_tensor(job, sizes["sequences"] * sizes["tokens"], sizes["columns"])


def copy(job: Job, sizes: dict):
    yield "", rows(job, sizes).clone


def statistics(job: Job, sizes: dict):
    """The largest magnitudes and the median of each sequence, without leaving the device."""
    x = random_tensor(job, sizes["sequences"], sizes["tokens"] * sizes["columns"])

    def measure():
        for sequence in x:
            magnitude = sequence.abs()
            magnitude.topk(TOP_K)
            magnitude.median()

    yield "", measure


def norm(job: Job, sizes: dict):
    x, weight = rows(job, sizes), random_tensor(job, sizes["columns"])
    yield "", lambda: functional.rms_norm(x, weight.shape, weight, 1e-5)


def add_norm(job: Job, sizes: dict):
    x, other, weight = rows(job, sizes), rows(job, sizes), random_tensor(job, sizes["columns"])
    yield "", lambda: functional.rms_norm(x.add_(other), weight.shape, weight, 1e-5)


def gated_activation(job: Job, sizes: dict):
    gate, up = rows(job, sizes), rows(job, sizes)
    yield "", lambda: functional.silu(gate).mul_(up)


def product(job: Job, sizes: dict):
    x = random_tensor(job, sizes["rows"], sizes["in"])
    weight = random_tensor(job, sizes["out"], sizes["in"])
    yield "", lambda: functional.linear(x, weight)


def attention(job: Job, sizes: dict):
    shape = (sizes["sequences"], sizes["heads"], sizes["tokens"], sizes["head_dim"])
    q, k, v = (random_tensor(job, *shape) for _ in range(3))
    for name, backend in ATTENTION_BACKENDS.items():
        if name == "cudnn" and not job.on_card:
            continue

        def attend(backend=backend):
            with sdpa_kernel(backend):
                functional.scaled_dot_product_attention(q, k, v, is_causal=True)

        yield name, attend


TWINS = {
    "copy": copy,
    "statistics": statistics,
    "norm": norm,
    "add_norm": add_norm,
    "gated_activation": gated_activation,
    "product": product,
    "attention": attention,
}
