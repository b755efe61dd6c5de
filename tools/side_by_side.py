"""massact's existence-validation beside another program's: the command, its numbers, the difference."""

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

# Runs a command to its end and returns its stdout and what else the caller measures.
Runner = Callable[[list[str]], tuple[str, dict]]


def existence_validation(
    runner: Runner,
    massact: Path,
    checkpoint: Path,
    text: Path,
    samples: int,
    length: int,
    device: str,
    dtype: str,
) -> dict:
    """One run of the binary: timings of its run.json, per-layer means, and what the runner measured."""
    with tempfile.TemporaryDirectory() as results:
        command = [str(massact), "existence-validation", "--pretrained", str(checkpoint)]
        command += ["--text-file", str(text), "--context-length", str(length), "--nsamples", str(samples)]
        command += ["--add-bos-token", "false", "--device", device, "--dtype", dtype]
        command += ["--save-dir", results, "--json", "--quiet"]
        output, measured = runner(command)
        (run_file,) = Path(results).rglob("run.json")
        timings = json.loads(run_file.read_text())["timings"]
    layers = json.loads(output)["layers"]
    return {
        **{key: timings[key] for key in ("load_seconds", "forward_seconds", "statistics_seconds")},
        "layers": [[layer["top1_mean"], layer["median_mean"]] for layer in layers],
        **measured,
    }


def largest_difference(layers: list, truth: list) -> float:
    """Largest relative difference of any per-layer mean."""
    return max(
        abs(value - expected) / abs(expected)
        for row, expected_row in zip(layers, truth, strict=True)
        for value, expected in zip(row, expected_row, strict=True)
    )


def commit() -> str | None:
    """Of this source tree, if it is one and git is there to say so."""
    command, folder = ["git", "describe", "--always", "--dirty"], Path(__file__).parent
    try:
        described = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
