"""Measures existence-validation in massact and in transformers, side by side in one run.

    python tools/bench_transformers.py --massact target/release/massact
    python tools/bench_transformers.py --shape tiny            # the Python side alone

All variants read the same random-weight checkpoint and the same text, cut into the same
windows, and compute per layer the largest |value| and the exact median:

    eager         transformers, eager attention, forward hooks that keep the layer outputs,
                  then max and torch.median: how the reference program works
    sdpa          the same with fused attention and topk inside the hooks
    sdpa-no-head  sdpa without the language model head, whose result nothing here needs
    massact       the release binary

Every run is a process of its own (so that its peak memory is its own); repetitions are
interleaved, so that a slow minute of the machine hits all variants. Two rates are
reported: on steady work (forward passes and statistics, without loading) and on the
whole process (start, imports and loading included).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from shapes import SHAPES
from side_by_side import commit, existence_validation, largest_difference

PYTHON_VARIANTS = ("eager", "sdpa", "sdpa-no-head")
BASELINE = "eager"
WRITER = "write"
TOP_K = 5
# Largest relative difference of two variants' per-layer numbers; float32 sums in other orders.
AGREEMENT = 1e-3


def write_input(job: argparse.Namespace) -> None:
    """The checkpoint and the text."""
    from random_model import random_windows, write_checkpoint, write_text

    config, _ = SHAPES[job.shape]
    write_checkpoint(config, job.stored_dtype, Path(job.checkpoint))
    windows = random_windows(job.nsamples, job.context_length, config["vocab_size"])
    write_text(windows, Path(job.text))


# --- one run of the Python side, inside its own process ---------------------------------


def python_worker(variant: str, folder: Path, text: Path, length: int, samples: int, threads: int) -> dict:
    """Loads, runs all windows, returns timings and the per-layer means."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager" if variant == "eager" else "sdpa",
    ).eval()
    loaded = time.perf_counter()

    token_ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text.read_text()).ids
    windows = [token_ids[start : start + length] for start in range(0, samples * length, length)]
    runner = model.base_model if variant == "sdpa-no-head" else model
    layers = getattr(model.base_model, "layers", None) or model.base_model.h
    # A few tokens first: lazy imports and thread start-up are not steady work.
    with torch.no_grad():
        runner(torch.tensor([token_ids[:8]]), use_cache=False)
    kept, in_hooks, rows = {}, 0.0, []

    def keep(module, arguments, output):
        kept[module] = output

    def reduce(module, arguments, output):
        nonlocal in_hooks
        began = time.perf_counter()
        magnitude = output.abs().flatten()
        kept[module] = magnitude.topk(TOP_K).values[0].item(), magnitude.median().item()
        in_hooks += time.perf_counter() - began

    for layer in layers:
        layer.register_forward_hook(keep if variant == "eager" else reduce)
    began = time.perf_counter()
    with torch.no_grad():
        for window in windows:
            runner(torch.tensor([window]), use_cache=False)
            after_forward = time.perf_counter()
            if variant == "eager":
                for layer, output in kept.items():
                    magnitude = output.detach().cpu().view(-1).abs().float()
                    kept[layer] = magnitude.max(0).values.item(), magnitude.median().item()
                in_hooks += time.perf_counter() - after_forward
            rows.append(list(kept.values()))
    steady = time.perf_counter() - began
    return {
        "load_seconds": loaded - started,
        "forward_seconds": steady - in_hooks,
        "statistics_seconds": in_hooks,
        "layers": [
            [statistics.fmean(numbers) for numbers in zip(*one_layer, strict=True)]
            for one_layer in zip(*rows, strict=True)
        ],
    }


# --- running and watching processes -----------------------------------------------------


def watched(command: list[str], environment: dict) -> tuple[str, float, dict]:
    """Runs to the end: stdout, wall seconds, and peaks of resident memory in bytes.

    The overall peak is the kernel's own account; the split into anonymous memory and
    mapped files has no such account on Linux, so it is sampled.
    """
    peaks = {"anonymous": 0, "file": 0}
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, env=os.environ | environment)
        status_file = Path(f"/proc/{process.pid}/status")
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            for line in status_file.read_text().splitlines():
                for kind, field in (("anonymous", "RssAnon:"), ("file", "RssFile:")):
                    if line.startswith(field):
                        peaks[kind] = max(peaks[kind], int(line.split()[1]) * 1024)
            time.sleep(0.02)
        wall = time.perf_counter() - began
        output.seek(0)
        text = output.read()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return text, wall, {"resident": usage.ru_maxrss * 1024} | peaks


def run_python(variant: str, job: argparse.Namespace, environment: dict) -> dict:
    """One repetition of a transformers variant."""
    command = [sys.executable, __file__, "--worker", variant, "--checkpoint", str(job.checkpoint)]
    command += ["--text", str(job.text), "--nsamples", str(job.nsamples)]
    command += ["--context-length", str(job.context_length), "--threads", str(job.threads)]
    text, wall, peaks = watched(command, environment)
    return json.loads(text.splitlines()[-1]) | {"wall_seconds": wall, "peak_bytes": peaks}


def run_massact(job: argparse.Namespace, environment: dict) -> dict:
    """One repetition of the binary."""

    def runner(command: list[str]) -> tuple[str, dict]:
        text, wall, peaks = watched(command, environment)
        return text, {"wall_seconds": wall, "peak_bytes": peaks}

    size = (job.nsamples, job.context_length)
    return existence_validation(runner, job.massact, job.checkpoint, job.text, *size, "cpu", "float32")


# --- summary ----------------------------------------------------------------------------


def summarise(runs: dict[str, list[dict]], tokens: int) -> list[dict]:
    """One row per variant; ratios are of best repetitions, against the baseline."""
    rows = []
    for variant, repetitions in runs.items():
        steady = [run["forward_seconds"] + run["statistics_seconds"] for run in repetitions]
        wall = [run["wall_seconds"] for run in repetitions]
        rows.append(
            {
                "variant": variant,
                "steady_tokens_per_second_best": tokens / min(steady),
                "steady_tokens_per_second_median": tokens / statistics.median(steady),
                "wall_tokens_per_second_best": tokens / min(wall),
                "wall_tokens_per_second_median": tokens / statistics.median(wall),
                "statistics_share": statistics.median(
                    run["statistics_seconds"] / total for run, total in zip(repetitions, steady, strict=True)
                ),
                "load_seconds": statistics.median(run["load_seconds"] for run in repetitions),
                "peak_bytes": {
                    kind: max(run["peak_bytes"][kind] for run in repetitions)
                    for kind in repetitions[0]["peak_bytes"]
                },
                "largest_difference": largest_difference(
                    repetitions[0]["layers"], runs[BASELINE][0]["layers"]
                ),
            }
        )
    baseline = next(row for row in rows if row["variant"] == BASELINE)
    for row in rows:
        for rate in ("steady", "wall"):
            key = f"{rate}_tokens_per_second_best"
            row[f"{rate}_ratio"] = row[key] / baseline[key]
        row["memory_ratio"] = row["peak_bytes"]["resident"] / baseline["peak_bytes"]["resident"]
    return rows


def markdown(machine: dict, settings: dict, rows: list[dict]) -> str:
    """The table, with what it was measured on."""
    columns = [
        "variant",
        "tokens/s (best)",
        "tokens/s (median)",
        f"x {BASELINE}",
        "whole process tokens/s (best)",
    ]
    columns += [
        f"x {BASELINE}",
        "statistics",
        "load s",
        "peak MiB (anonymous + file)",
        f"x {BASELINE}",
        "difference",
    ]
    lines = [
        f"### {settings['shape']}, stored {settings['stored_dtype']}, "
        f"{settings['nsamples']} x {settings['context_length']} tokens",
        "",
        f"{machine['cpu']}, {settings['threads']} threads; {machine['date']}; commit {machine['commit']}; "
        f"torch {machine['torch']}, transformers {machine['transformers']}; "
        f"{settings['repeats']} interleaved repetitions.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for row in rows:
        peak = {kind: size / 2**20 for kind, size in row["peak_bytes"].items()}
        cells = [
            row["variant"],
            f"{row['steady_tokens_per_second_best']:.0f}",
            f"{row['steady_tokens_per_second_median']:.0f}",
            f"{row['steady_ratio']:.2f}",
            f"{row['wall_tokens_per_second_best']:.0f}",
            f"{row['wall_ratio']:.2f}",
            f"{row['statistics_share']:.1%}",
            f"{row['load_seconds']:.2f}",
            f"{peak['resident']:.0f} ({peak['anonymous']:.0f} + {peak['file']:.0f})",
            f"{row['memory_ratio']:.2f}",
            f"{row['largest_difference']:.1e}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def machine() -> dict:
    """What the numbers depend on besides the settings."""
    from importlib.metadata import version

    names = [
        line.split(":")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": names[0].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "date": date.today().isoformat(),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-124m")
    parser.add_argument("--stored-dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--massact", type=Path, help="release binary; without it only the Python side runs")
    parser.add_argument("--variants", nargs="+", choices=PYTHON_VARIANTS, default=PYTHON_VARIANTS)
    parser.add_argument("--nsamples", type=int, default=4)
    parser.add_argument("--context-length", type=int, help="default: the shape's own")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent.parent / "benches" / "results")
    # The remaining flags are for this script's own subprocesses.
    for flag in ("--worker", "--checkpoint", "--text"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    job = parse()
    if job.worker == WRITER:
        write_input(job)
        return
    if job.worker:
        result = python_worker(
            job.worker, Path(job.checkpoint), Path(job.text), job.context_length, job.nsamples, job.threads
        )
        print(json.dumps(result))
        return
    if BASELINE not in job.variants:
        raise SystemExit(f"the ratios need the variant {BASELINE}")
    job.context_length = job.context_length or SHAPES[job.shape][1]
    environment = {
        "RAYON_NUM_THREADS": str(job.threads),
        "OMP_NUM_THREADS": str(job.threads),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    runs = {variant: [] for variant in (*job.variants, *(["massact"] if job.massact else []))}
    tokens = job.nsamples * job.context_length
    with tempfile.TemporaryDirectory() as folder:
        job.checkpoint = Path(folder) / job.shape
        job.text = Path(folder) / "text.txt"
        # In a process of its own: this one stays small, since the kernel's peak account of
        # a child starts at the size of its parent.
        command = [sys.executable, __file__, "--worker", WRITER, "--checkpoint", str(job.checkpoint)]
        command += ["--shape", job.shape, "--stored-dtype", job.stored_dtype, "--text", str(job.text)]
        command += ["--nsamples", str(job.nsamples), "--context-length", str(job.context_length)]
        subprocess.run(command, check=True)
        for repetition in range(job.repeats):
            for variant, repetitions in runs.items():
                massact = variant == "massact"
                result = run_massact(job, environment) if massact else run_python(variant, job, environment)
                repetitions.append(result)
                print(
                    f"{repetition + 1}/{job.repeats} {variant}: {result['wall_seconds']:.1f} s",
                    file=sys.stderr,
                )

    settings = {
        key: getattr(job, key)
        for key in ("shape", "stored_dtype", "nsamples", "context_length", "repeats", "threads")
    }
    rows = summarise(runs, tokens)
    table = markdown(machine(), settings, rows)
    print(table)
    job.results.mkdir(parents=True, exist_ok=True)
    stem = job.results / f"transformers-{job.shape}-{job.stored_dtype}-cpu"
    stem.with_name(f"{stem.name}.md").write_text(table)
    document = {"machine": machine(), "settings": settings, "rows": rows, "runs": runs}
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    differing = [row["variant"] for row in rows if row["largest_difference"] > AGREEMENT]
    if differing:
        raise SystemExit(f"not the same numbers as {BASELINE}: {', '.join(differing)}")


if __name__ == "__main__":
    main()
