"""What the device can do at most: copies and matrix products of PyTorch."""

import torch

from clock import seconds
from job import Job
from records import Records


def run(job: Job, records: Records) -> None:
    records.attempt("copy", lambda: copy(job, records))
    records.attempt("matrix product", lambda: matmul(job, records))


def copy(job: Job, records: Records) -> None:
    """Of a tensor larger than any cache; read and written bytes count."""
    values = 1 << 30 if job.on_card else 1 << 24
    source = torch.randn(1 << 20, device=job.device, dtype=getattr(torch, job.dtype)).repeat(values >> 20)
    target = torch.empty_like(source)
    best, median = seconds(lambda: target.copy_(source), job.device)
    records.measured("ceiling copy", best, 2 * source.nbytes / 1e9, "GB/s", median=median)


def matmul(job: Job, records: Records) -> None:
    """Of random numbers: zeros would need less power, and run faster."""
    size = 8192 if job.on_card else 1024
    left, right = (torch.randn(size, size, device=job.device, dtype=getattr(torch, job.dtype)) for _ in "ab")
    best, median = seconds(lambda: left @ right, job.device, repetitions=10)
    records.measured("ceiling matmul", best, 2 * size**3 / 1e12, "TFLOP/s", median=median, size=size)
