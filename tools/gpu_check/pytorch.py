"""PyTorch at its best on a checkpoint with random weights, which the parts after it run, too.

Fused attention, no LM head, topk and median on the device, and one copy at the end. The weights are on
the device before the clock runs.
"""

import json
import time

import torch

import sizes
from clock import timed
from decoder import Llama, fused
from job import Job
from random_model import random_windows, write_checkpoint, write_text
from records import Records

TOP_K = 5


def run(job: Job, records: Records) -> None:
    size = sizes.whole(job)
    windows = random_windows(size.samples, size.length, size.config["vocab_size"])
    began = time.perf_counter()
    # Under its name only when it is whole.
    unfinished = job.checkpoint.with_suffix(".unfinished")
    write_checkpoint(size.config, job.dtype, unfinished, job.device)
    unfinished.rename(job.checkpoint)
    write_text(windows, job.checkpoint.with_suffix(".txt"))
    records.measured("checkpoint written", time.perf_counter() - began, shape=size.shape)
    if job.on_card:
        torch.cuda.empty_cache()
    records.attempt("PyTorch's pass", lambda: run_best(job, records, windows))


def run_best(job: Job, records: Records, windows: list) -> None:
    """Leaves the per-layer means, too."""
    model, loaded = timed(lambda: Llama(job.checkpoint, job.device, getattr(torch, job.dtype)), job.device)

    def bare(windows: list) -> None:
        for window in windows:
            model.forward(window, fused, lambda hidden: None, with_head=False)

    def reduce_all(windows: list) -> list:
        found = []

        def reduce(hidden: torch.Tensor) -> None:
            magnitude = hidden.abs().flatten()
            found.append(torch.stack((magnitude.topk(TOP_K).values[0], magnitude.median())).float())

        for window in windows:
            model.forward(window, fused, reduce, with_head=False)
        return torch.stack(found).unflatten(0, (len(windows), -1)).mean(dim=0).tolist()

    tokens = sum(map(len, windows))
    for name, work in (("best forward", bare), ("best", reduce_all)):
        work(windows[:1])  # Warms up.
        result, taken = timed(lambda: work(windows), job.device)
        records.measured(f"torch {name}", taken, tokens, "tokens/s", load=loaded)
    job.checkpoint.with_suffix(".means.json").write_text(json.dumps(result))
