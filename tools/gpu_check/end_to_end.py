"""existence-validation on a checkpoint with random weights, three ways.

reference   as the reference program works: transformers, eager attention, the LM head too; hooks that
            keep the layers' outputs; each copied to the CPU, and its median taken there
best        PyTorch at its best: fused attention, no LM head, topk and median on the device, one copy
massact     `existence-validation`, and passes whose weights are on the device already (`bench`)
"""

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import torch

from clock import synchronise
from decoder import Llama, eager, fused, products
from job import Job, last_line
from random_model import random_windows, write_checkpoint, write_text
from records import Records
from shapes import SHAPES, TENSORS
from side_by_side import existence_validation, largest_difference

TOP_K = 5
# Largest relative difference of two ways' per-layer means: float32 sums in another order; 16 bits through
# all layers, of which the largest value of a layer shows one rounding in full.
AGREEMENT = {"float32": 1e-3, "bfloat16": 0.05}
# The reference runs as many sequences as its share of the time allows.
REFERENCE_SHARE = 0.5


def run(job: Job, records: Records) -> None:
    if job.on_card:
        shape, samples = "llama-1.1b-whole" if job.quick else "llama-7b", 8
    else:
        shape, samples = "tiny", 4
    config, length = SHAPES[shape]
    with tempfile.TemporaryDirectory(dir=room_for(config, job.dtype)) as folder:
        checkpoint, text = Path(folder) / shape, Path(folder) / "text.txt"
        began = time.perf_counter()
        write_checkpoint(config, job.dtype, checkpoint, job.device)
        records.measured("checkpoint written", time.perf_counter() - began, shape=shape)
        windows = random_windows(samples, length, config["vocab_size"])
        write_text(windows, text)
        if job.on_card:
            torch.cuda.empty_cache()
        size = {"shape": shape, "samples": samples, "length": length}
        records.note("pass", size | {"flops": samples * sum(products(config, length))})

        # One that fails leaves the others' numbers.
        size = (samples, length)
        records.attempt("bench of passes", lambda: run_bench(job, records, checkpoint, *size))
        ours = records.attempt(
            "existence-validation", lambda: run_massact(job, records, checkpoint, text, *size)
        )
        theirs = records.attempt("PyTorch's pass", lambda: run_best(job, records, checkpoint, windows))
        if ours and theirs:
            allowed = AGREEMENT[job.dtype]
            difference = largest_difference(ours, theirs)
            detail = f"largest difference {difference:.1e}, allowed {allowed:.0e}"
            records.check("per-layer means agree with PyTorch's", difference <= allowed, detail)
        records.attempt("the reference's pass", lambda: run_reference(job, records, checkpoint, windows))


def room_for(config: dict, dtype: str) -> str | None:
    """Memory if it holds the checkpoint twice over, else where temporary files go."""
    values = sum(map(prod, TENSORS[config["model_type"]](config).values()))
    shared = Path("/dev/shm")
    fits = shared.is_dir() and shutil.disk_usage(shared).free > 2 * values * getattr(torch, dtype).itemsize
    return str(shared) if fits else None


# --- massact ----------------------------------------------------------------------------


def run_bench(job: Job, records: Records, checkpoint: Path, samples: int, length: int) -> None:
    """Passes alone, with everything already on the device."""
    arguments = ["bench", "--parts", "model", "--pretrained", checkpoint, "--repetitions", "3"]
    arguments += ["--sequences", samples, "--tokens", length, "--device", job.device, "--dtype", job.dtype]
    for ours in job.json(*arguments)["measurements"]:
        best, median = ours["best_seconds"], ours["median_seconds"]
        records.measured(f"massact {ours['name']}", best, ours["work"], ours["unit"], median=median)


def run_massact(job: Job, records: Records, checkpoint: Path, text: Path, samples: int, length: int) -> list:
    """The command, from its start to its end; returns the per-layer means."""

    def runner(command: list[str]) -> tuple[str, dict]:
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"massact existence-validation: {last_line(done.stderr)}")
        return done.stdout, {"wall_seconds": time.perf_counter() - began}

    size = (samples, length, job.device, job.dtype)
    found = existence_validation(runner, job.massact, checkpoint, text, *size)
    tokens = samples * length
    steady = found["forward_seconds"] + found["statistics_seconds"]
    records.measured("massact existence-validation", steady, tokens, "tokens/s", load=found["load_seconds"])
    records.measured("massact whole process", found["wall_seconds"], tokens, "tokens/s")
    return found["layers"]


# --- PyTorch ----------------------------------------------------------------------------


def run_best(job: Job, records: Records, checkpoint: Path, windows: list) -> list:
    """Everything on the device, read once at the end; returns the per-layer means."""
    model, loaded = timed(lambda: Llama(checkpoint, job.device, getattr(torch, job.dtype)), job)

    def reduce_all() -> list:
        found = []

        def reduce(hidden: torch.Tensor) -> None:
            magnitude = hidden.abs().flatten()
            found.append(torch.stack((magnitude.topk(TOP_K).values[0], magnitude.median())).float())

        for window in windows:
            model.forward(window, fused, reduce, with_head=False)
        return torch.stack(found).unflatten(0, (len(windows), -1)).mean(dim=0).tolist()

    def bare() -> None:
        for window in windows:
            model.forward(window, fused, lambda hidden: None, with_head=False)

    tokens = sum(map(len, windows))
    for name, work in (("best forward", bare), ("best", reduce_all)):
        work()  # Warms up.
        result, taken = timed(work, job)
        records.measured(f"torch {name}", taken, tokens, "tokens/s", load=loaded)
    return result


def run_reference(job: Job, records: Records, checkpoint: Path, windows: list) -> None:
    """Sequence by sequence, until its share of the time is used up; the rate is per token."""
    name = "transformers" if importlib.util.find_spec("transformers") else "plain torch"
    if name == "plain torch":
        reason = "transformers is not installed; the plain decoder stands in for it"
        records.not_run("transformers' model", reason)
    forward, loaded = timed(lambda: reference_model(name, job, checkpoint), job)
    forward(windows[0][:8])  # Warms up.
    began = time.perf_counter()
    limit, tokens, in_statistics = job.left() * REFERENCE_SHARE, 0, 0.0
    for window in windows:
        outputs = forward(window)
        synchronise(job.device)
        forwarded = time.perf_counter()
        for output in outputs:
            magnitude = output.detach().cpu().view(-1).abs().float()
            magnitude.max().item(), magnitude.median().item()
        in_statistics += time.perf_counter() - forwarded
        tokens += len(window)
        if time.perf_counter() - began > limit:
            break
    taken = time.perf_counter() - began
    more = {"by": name, "load": loaded, "statistics": in_statistics, "tokens": tokens}
    records.measured("reference", taken, tokens, "tokens/s", **more)


def reference_model(name: str, job: Job, checkpoint: Path) -> Callable[[list[int]], list[torch.Tensor]]:
    """From ids to the layers' outputs."""
    dtype = getattr(torch, job.dtype)
    kept = []

    def keep(_module, _arguments, output) -> None:
        # A tuple in older versions.
        kept.append(output[0] if isinstance(output, tuple) else output)

    if name == "plain torch":
        model = Llama(checkpoint, job.device, dtype)

        def forward(ids: list[int]) -> list[torch.Tensor]:
            kept.clear()
            model.forward(ids, eager, kept.append, with_head=True)
            return kept

        return forward

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, attn_implementation="eager")
    model = model.eval().to(job.device)
    for layer in model.model.layers:
        layer.register_forward_hook(keep)

    @torch.no_grad()
    def forward(ids: list[int]) -> list[torch.Tensor]:
        kept.clear()
        model(torch.tensor([ids], device=job.device))
        return kept

    return forward


def timed(work: Callable, job: Job) -> tuple:
    """The result and the seconds, with the device's work done."""
    synchronise(job.device)
    began = time.perf_counter()
    result = work()
    synchronise(job.device)
    return result, time.perf_counter() - began
