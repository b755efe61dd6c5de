"""What the device can do at most: copies and matrix products of PyTorch."""

import torch

from clock import seconds
from job import Job
from records import Records


def run(job: Job, records: Records) -> None:
    dtype = getattr(torch, job.dtype)
    # Larger than any cache.
    values = 1 << 30 if job.on_card else 1 << 24
    source = torch.randn(1 << 20, device=job.device, dtype=dtype).repeat(values >> 20)
    target = torch.empty_like(source)
    best, median = seconds(lambda: target.copy_(source), job.device)
    bytes_moved = 2 * source.nbytes
    records.measured("ceiling copy", best, bytes_moved / 1e9, "GB/s", median=median)
    del source, target

    size = 8192 if job.on_card else 1024
    left, right = (torch.randn(size, size, device=job.device, dtype=dtype) for _ in range(2))
    best, median = seconds(lambda: left @ right, job.device, repetitions=10)
    records.measured("ceiling matmul", best, 2 * size**3 / 1e12, "TFLOP/s", median=median, size=size)
