"""Checks massact on a machine with a GPU, and measures it beside PyTorch, in under nine minutes.

    python tools/gpu_check --massact target/release/massact [--out benches/results] [--quick]
    python tools/gpu_check --massact target/release/massact --first
    python tools/gpu_check --massact target/release/massact --device cpu --quick

Needs a release binary and PyTorch, with transformers if it is there; no Rust and no network. The first
stage, under two minutes, needs the binary alone: it says what is broken, check by check, with the
first wrong value of each. Every part runs in a process of its own and within its own time; what
could not be run counts as not run, never as passed. Prints a table of ratios, and writes it, with
all numbers, as Markdown and JSON named by card and date: anew after every part, so that what was
found stays where a later one takes the machine down. Exit code 1 if a check failed, a part did not
end, or a target was missed.
"""

import argparse
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path += [str(TOOLS), str(TOOLS / "make_checkpoints")]

from job import Job, last_line  # noqa: E402
from records import FAILED, NOT_JUDGED, NOT_RUN, PASSED, Records, read  # noqa: E402
from report import count, markdown  # noqa: E402
from side_by_side import commit  # noqa: E402
from targets import Ratio, ratios, verdict  # noqa: E402

# Seconds of each part; nine minutes at most, in all. The first stage is what says whether the rest is
# worth its time.
BUDGETS = {
    "devices": 15,
    "selftest": 95,
    "parity": 90,
    "ceilings": 20,
    "kernels": 80,
    "end_to_end": 135,
    "tuning": 30,
    "sanitizer": 70,
}
FIRST_STAGE = ("devices", "selftest")


def run_part(name: str, arguments: argparse.Namespace) -> dict:
    """Runs a part in a process of its own, and ends it when its time is up."""
    budget = BUDGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records"
        command = [sys.executable, __file__, "--part", name, "--records", str(records)]
        command += ["--massact", str(arguments.massact), "--device", arguments.device]
        command += ["--quick"] if arguments.quick else []
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            _, said = process.communicate(timeout=budget)
            ended = "done" if process.returncode == 0 else f"failed: {last_line(said)}"
        except subprocess.TimeoutExpired:
            # With the programs that it started.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            ended = f"stopped after its {budget} seconds"
        seconds = time.monotonic() - began
        print(f"{name}: {ended}, {seconds:.0f} s", file=sys.stderr)
        return {
            "name": name,
            "ended": ended,
            "seconds": seconds,
            "budget": budget,
            "records": read(records),
        }


def machine(arguments: argparse.Namespace) -> dict:
    """What the numbers depend on."""
    return {
        "device": device_name(arguments.device),
        "driver": nvidia_smi("driver_version") if arguments.device != "cpu" else None,
        "massact": first_line([str(arguments.massact), "--version"]),
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": installed("torch"),
        "cuda": cuda_of_torch(),
        "transformers": installed("transformers"),
        "cores": len(os.sched_getaffinity(0)),
    }


def cuda_of_torch() -> str | None:
    """From its file: importing it takes longer than the first stage has."""
    found = find_spec("torch")
    path = Path(found.origin).with_name("version.py") if found else None
    text = path.read_text() if path and path.is_file() else ""
    said = re.search(r"^cuda\b.*= *'([^']*)'", text, re.MULTILINE)
    return said[1] if said else None


def device_name(device: str) -> str:
    if device != "cpu":
        return nvidia_smi("name") or device
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")


def nvidia_smi(field: str) -> str | None:
    return first_line(["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"])


def first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return lines[0].strip() if lines and done.returncode == 0 else None


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def summarise(parts: list[dict], rows: list[Ratio], verdicts: list[str]) -> dict:
    records = [record for part in parts for record in part["records"]]
    return {
        "passed": count(records, PASSED),
        "failed": count(records, FAILED),
        "not_judged": count(records, NOT_JUDGED),
        "not_run": count(records, NOT_RUN),
        "met": verdicts.count("met"),
        "missed": verdicts.count("missed"),
        "unmeasured": sum(row.target is not None and row.ratio is None for row in rows),
        "unfinished": [part["name"] for part in parts if part["ended"] != "done"],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--massact", type=Path, required=True, help="release binary")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script itself")
    parser.add_argument("--quick", action="store_true", help="the 1.1B shape, every eighth checkpoint")
    parser.add_argument("--out", type=Path, help="folder of the Markdown and JSON; default: none is written")
    parser.add_argument("--only", nargs="+", choices=BUDGETS, default=BUDGETS, help="these parts alone")
    parser.add_argument("--first", action="store_true", help="the first stage alone: what is broken?")
    # For this script's own processes.
    for flag in ("--part", "--records"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.massact = arguments.massact.resolve()
    if not arguments.massact.is_file():
        parser.error(f"{arguments.massact} is no file; build it with `cargo build --release`")
    return arguments


def main() -> None:
    arguments = parse()
    if arguments.part:
        # A part leaves before it is stopped, if it can.
        job = Job(arguments.massact, arguments.device, arguments.quick, BUDGETS[arguments.part] - 3)
        importlib.import_module(arguments.part).run(job, Records(Path(arguments.records)))
        return
    wanted = FIRST_STAGE if arguments.first else arguments.only
    parts, document, text = [], {}, ""
    about = machine(arguments)
    for name in BUDGETS:
        if name not in wanted:
            continue
        parts.append(run_part(name, arguments))
        for line in broken(parts[-1]):
            print(f"  {line}", file=sys.stderr)
        document, text = report(parts, about, arguments)
        if arguments.out:
            write(document, text, arguments.out)
    print(text)
    if arguments.out:
        print(f"written to {stem(document, arguments.out)}.md and .json", file=sys.stderr)
    summary = document["summary"]
    sys.exit(1 if summary["failed"] or summary["missed"] or summary["unfinished"] else 0)


def broken(part: dict) -> list[str]:
    """What failed in a part."""
    failed = [record for record in part["records"] if record.get("verdict") == FAILED]
    return [f"{record['check']}: FAILED: {record['detail']}" for record in failed]


def report(parts: list[dict], about: dict, arguments: argparse.Namespace) -> tuple[dict, str]:
    """What was found so far, for programs and for people."""
    found = [record for part in parts for record in part["records"]]
    rows, judged = ratios(found), arguments.device != "cpu"
    verdicts = [verdict(row, judged) for row in rows]
    notes = {record["noted"]: record["content"] for record in found if "noted" in record}
    document = {
        # The binary knows its own commit, if it was built from a repository.
        "machine": about | {"commit": notes.get("binary", {}).get("git_commit") or commit()},
        "settings": {
            "date": date.today().isoformat(),
            "device": arguments.device,
            "dtype": Job(arguments.massact, arguments.device, arguments.quick, 0).dtype,
            "quick": arguments.quick,
            "shape": notes.get("pass", {}).get("shape"),
            "judged": judged,
        },
        "summary": summarise(parts, rows, verdicts),
        "ratios": [vars(row) | {"verdict": result} for row, result in zip(rows, verdicts, strict=True)],
        "parts": parts,
    }
    return document, markdown(document, rows)


def stem(document: dict, folder: Path) -> Path:
    card = re.sub(r"[^a-z0-9]+", "-", document["machine"]["device"].lower()).strip("-")
    return folder / f"gpu-check-{card}-{document['settings']['date']}"


def write(document: dict, text: str, folder: Path) -> None:
    """`<card>-<date>.md` and `.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = stem(document, folder)
    path.with_suffix(".md").write_text(text)
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
