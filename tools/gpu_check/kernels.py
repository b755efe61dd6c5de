"""massact's operations beside PyTorch's, at the same sizes: `massact bench` and its twins here."""

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from clock import seconds
from job import Job
from records import Records

TOP_K = 5
# The fused ones; the CPU has its own flash attention.
ATTENTION_BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def settings(job: Job) -> list[str]:
    """Sizes: on a card those of a micro-batch of the 7B shape."""
    shape, sequences, tokens = ("llama-7b", 4, 4096) if job.on_card else ("tiny", 2, 128)
    return ["--shape", shape, "--sequences", str(sequences), "--tokens", str(tokens)]


# One process each: after a failure on the card nothing else runs in it.
OPERATIONS = (
    ("statistics",),
    *(("attention", "--head-dims", str(head_dim)) for head_dim in (128, 64, 256)),
    ("product",),
    ("copy",),
    ("norm",),
    ("add-norm",),
    ("gated-activation",),
)


def run(job: Job, records: Records) -> None:
    for part in OPERATIONS:
        arguments = ["bench", "--parts", *part, *settings(job), "--device", job.device, "--dtype", job.dtype]
        try:
            document = job.json(*arguments)
        except RuntimeError as error:
            records.check(" ".join(part), False, str(error))
            continue
        records.note("binary", document["massact"])
        for ours in document["measurements"]:
            beside_torch(job, records, ours)


def beside_torch(job: Job, records: Records, ours: dict) -> None:
    """Notes a measurement, and the same work in PyTorch."""
    name, sizes, unit = title(ours), ours["shape"], ours["unit"]
    best, median = ours["best_seconds"], ours["median_seconds"]
    work = ours["rate"] * best
    records.measured(f"massact {name}", best, work, unit, median=median, sizes=sizes)
    if ours["name"] not in TWINS:
        return
    for variant, call in TWINS[ours["name"]](job, sizes):
        label = f"torch {name} {variant}".rstrip()
        try:
            best, median = seconds(call, job.device)
        except RuntimeError as error:
            records.not_run(label, str(error).splitlines()[0])
            continue
        records.measured(label, best, work, unit, median=median)


def title(measurement: dict) -> str:
    """Its name, with the size that sets it apart from others of this name."""
    sizes = measurement["shape"]
    if "head_dim" in sizes:
        return f"{measurement['name']} {sizes['head_dim']}"
    if "out" in sizes:
        return f"product {sizes['in']}x{sizes['out']}"
    return measurement["name"]


# --- the twins: pairs of a variant's name and the call ----------------------------------


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
