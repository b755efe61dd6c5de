"""The same as the reference program does it: transformers, eager attention, the LM head too.

Hooks keep the layers' outputs; each is copied to the CPU, and its median taken there.
"""

import importlib.util
import time
from collections.abc import Callable

import torch

import sizes
from clock import synchronise, timed
from decoder import Llama, eager
from job import Job
from random_model import random_windows
from records import Records

# As many sequences are run as this share of the time allows.
SHARE = 0.5
# A short one first, which takes less time a token: it stands in where not even one whole sequence ends.
SHORT = 8


def run(job: Job, records: Records) -> None:
    if not job.checkpoint.is_dir():
        records.not_run("the reference's pass", "there is no checkpoint")
        return
    name = "transformers" if importlib.util.find_spec("transformers") else "plain torch"
    if name == "plain torch":
        reason = "transformers is not installed; the plain decoder stands in for it"
        records.not_run("transformers' model", reason)
    forward, loaded = timed(lambda: model(name, job), job.device)
    size = sizes.whole(job)
    windows = random_windows(size.samples, size.length, size.config["vocab_size"])
    forward(windows[0][:8])  # Warms up.

    def measure(windows: list[list[int]], limit: float) -> None:
        began, tokens, in_statistics = time.perf_counter(), 0, 0.0
        for window in windows:
            outputs = forward(window)
            synchronise(job.device)
            forwarded = time.perf_counter()
            for output in outputs:
                magnitude = output.detach().cpu().view(-1).abs().float()
                magnitude.max().item(), magnitude.median().item()
            in_statistics += time.perf_counter() - forwarded
            tokens += len(window)
            taken = time.perf_counter() - began
            more = {"by": name, "load": loaded, "statistics": in_statistics, "tokens": tokens}
            # The later one counts.
            records.measured("reference", taken, tokens, "tokens/s", length=len(window), **more)
            if taken > limit:
                break

    measure([windows[0][: size.length // SHORT]], 0)
    measure(windows, job.left() * SHARE)


def model(name: str, job: Job) -> Callable[[list[int]], list[torch.Tensor]]:
    """From ids to the layers' outputs."""
    dtype = getattr(torch, job.dtype)
    kept = []

    def keep(_module, _arguments, output) -> None:
        # A tuple in older versions.
        kept.append(output[0] if isinstance(output, tuple) else output)

    if name == "plain torch":
        plain = Llama(job.checkpoint, job.device, dtype)

        def forward(ids: list[int]) -> list[torch.Tensor]:
            kept.clear()
            plain.forward(ids, eager, kept.append, with_head=True)
            return kept

        return forward

    from transformers import AutoModelForCausalLM

    eager_model = AutoModelForCausalLM.from_pretrained(
        job.checkpoint, dtype=dtype, attn_implementation="eager"
    )
    eager_model = eager_model.eval().to(job.device)
    for layer in eager_model.model.layers:
        layer.register_forward_hook(keep)

    @torch.no_grad()
    def forward(ids: list[int]) -> list[torch.Tensor]:
        kept.clear()
        eager_model(torch.tensor([ids], device=job.device))
        return kept

    return forward
