"""Measures existence- and intervention-analysis of a real model in massact and as the reference program does it.

    python tools/bench_real_model.py --massact target/release/massact --work DIR [--repetitions 3]

The model is that of tools/real_model, SmolLM2-135M-Instruct. Every variant gets the same text files, cut into the
same windows, finds the massive activations of the calibration windows, and measures the perplexity of the
evaluation windows as they are, with zeros and with means:

    reference      transformers in float32 with eager attention and hooks (tools/real_model/reference.py): a forward
                   pass for every window and intervention
    massact        the release binary on the same float32 weights
    massact-gguf   the release binary on the GGUF file in 4 bits, which it decodes

Every run is a process of its own, from start to exit, loading included; repetitions are interleaved. Wall time
and CPU time (user and system, all threads) are the kernel's account. Run it on an idle machine.
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

sys.path.append(str(Path(__file__).resolve().parent / "real_model"))

import fetch  # noqa: E402
import runs  # noqa: E402
from side_by_side import commit  # noqa: E402

TOOLS = Path(__file__).resolve().parent


def timed(command: list[str]) -> tuple[dict, dict]:
    """The JSON on stdout, and what the run took."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[0]} ended with {process.returncode}")
        output.seek(0)
        found = json.loads(output.read())
    cpu = usage.ru_utime + usage.ru_stime
    return found, {"wall_seconds": wall, "cpu_seconds": cpu, "peak_bytes": usage.ru_maxrss * 1024}


def markdown(rows: dict, arguments: argparse.Namespace, windows: int) -> str:
    lines = [
        f"{fetch.LABEL} (SHA-256 {fetch.SHA256[:16]}...), intervention-analysis: {runs.SAMPLES} calibration and "
        f"{windows} evaluation windows of {runs.LENGTH} tokens, three perplexities; {os.cpu_count()} cores, "
        f"median of {arguments.repetitions} interleaved repetitions, {date.today()}, commit {commit()}.",
        "",
        "| variant | wall (s) | CPU (s) | peak memory (MB) | wall, reference over it | perplexity | with zeros |",
        "|---|---|---|---|---|---|---|",
    ]
    slow = rows["reference"]["wall_seconds"]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['wall_seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['peak_bytes'] / 1e6:.0f} "
            f"| {slow / row['wall_seconds']:.2f} | {row['original']:.5g} | {row['set_to_zero']:.4g} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--massact", type=Path, default=Path("target/release/massact"))
    parser.add_argument("--work", type=Path, required=True, help="where model, text and results go")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="write <out>.json and <out>.md")
    arguments = parser.parse_args()

    # Imported late: the workers load transformers themselves.
    from reference import dequantise

    gguf = fetch.model(arguments.work)
    folder = dequantise(gguf, arguments.work / "float32")
    calibration, evaluation = runs.texts(arguments.work)
    numbers = [str(number) for number in (runs.LENGTH, runs.SAMPLES, arguments.threads)]
    flags = runs.commands(calibration, evaluation)["intervention-analysis"]

    def massact(model: Path) -> list[str]:
        line = [str(arguments.massact), "intervention-analysis", "--pretrained", str(model), *flags]
        return [*line, "--save-dir", str(arguments.work / "results"), "--json", "--quiet"]

    commands = {
        "reference": [sys.executable, str(TOOLS / "real_model" / "reference.py"), str(folder)]
        + [str(calibration), str(evaluation), *numbers],
        "massact": massact(folder),
        "massact-gguf": massact(gguf),
    }
    taken = {name: [] for name in commands}
    found = {}
    for repetition in range(arguments.repetitions):
        for name, command in commands.items():
            found[name], one = timed(command)
            taken[name].append(one)
            print(f"{repetition + 1}: {name}: {one['wall_seconds']:.1f} s, CPU {one['cpu_seconds']:.1f} s", flush=True)
    rows = {}
    for name, repetitions in taken.items():
        perplexity = found[name]["perplexity"]
        perplexity = {key: value["text"] if name != "reference" else value for key, value in perplexity.items()}
        rows[name] = {key: statistics.median(one[key] for one in repetitions) for key in repetitions[0]}
        rows[name] |= {key: perplexity[key] for key in ("original", "set_to_zero")}
    windows = found["massact"]["evaluation"][0]["windows"]
    table = markdown(rows, arguments, windows)
    print(table)
    if arguments.out:
        record = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "runs": taken, "rows": rows}
        arguments.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(table)


if __name__ == "__main__":
    main()
