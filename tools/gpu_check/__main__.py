"""Checks massact on a machine with a GPU, and measures it beside PyTorch, in less than seven minutes.

    python tools/gpu_check --massact target/release/massact [--out FOLDER] [--quick]
    python tools/gpu_check --massact target/gpu-check/massact.xz --out FOLDER
    python tools/gpu_check --massact target/release/massact --first
    python tools/gpu_check --massact target/release/massact --device cpu --quick

Needs a release binary, as it is or as `pack.py` packs it, and PyTorch, with transformers if it is there; no
Rust, no git and no network. The first stage, under a minute, needs the binary alone: it says what is
broken, check by check, with the first wrong value of each. Every part runs in a process of its own and
within its own time; what could not be run counts as not run, never as passed. Prints what failed and a
table of ratios, and writes both, with all numbers, as Markdown and JSON named by card and date: anew
after every part, so that what was found stays where a later one takes the machine down. Exit code 1 if a
check failed, a part did not end, or a target was missed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from math import prod
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path += [str(TOOLS), str(TOOLS / "make_checkpoints")]

import part  # noqa: E402
import sizes  # noqa: E402
from job import Job  # noqa: E402
from machine import about  # noqa: E402
from pack import unpacked  # noqa: E402
from plan import BUDGETS, FIRST_STAGE, Plan  # noqa: E402
from records import FAILED  # noqa: E402
from report import document, failures, markdown, write  # noqa: E402
from shapes import TENSORS  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--massact", type=Path, required=True, help="release binary, packed or not")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script itself")
    parser.add_argument("--quick", action="store_true", help="the 1.1B shape, every eighth checkpoint")
    parser.add_argument("--out", type=Path, help="folder of the Markdown and JSON; default: none is written")
    parser.add_argument("--only", nargs="+", choices=BUDGETS, default=list(BUDGETS), help="these parts alone")
    parser.add_argument("--first", action="store_true", help="the first stage alone: what is broken?")
    whole = sum(BUDGETS.values())
    text = f"of all parts; each has its share, whichever are run (default {whole})"
    parser.add_argument("--seconds", type=float, default=whole, help=text)
    # For this script's own processes.
    for flag in ("--part", "--work"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.massact = arguments.massact.resolve()
    if not arguments.massact.is_file():
        parser.error(f"{arguments.massact} is no file; build it with `cargo build --release`")
    return arguments


def main() -> None:
    arguments = parse()
    if arguments.part:
        part.main(arguments)
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    # A part is in a session of its own, which no terminal interrupts.
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, part.stop)
    with tempfile.TemporaryDirectory(dir=room(arguments)) as work, tempfile.TemporaryDirectory() as folder:
        arguments.massact = unpacked(arguments.massact, Path(folder))
        found = check(arguments, Path(work))
    print(markdown(found))
    wrong = ("failed", "missed", "unfinished", "not_begun")
    sys.exit(1 if any(found["summary"][kind] for kind in wrong) else 0)


def room(arguments: argparse.Namespace) -> str | None:
    """Memory if it holds the checkpoint twice over, else where temporary files go."""
    job = Job(arguments.massact, arguments.device, arguments.quick, 0, Path())
    config = sizes.whole(job).config
    values = sum(map(prod, TENSORS[config["model_type"]](config).values()))
    shared, bytes_each = Path("/dev/shm"), 2 if job.on_card else 4
    fits = shared.is_dir() and shutil.disk_usage(shared).free > 2 * values * bytes_each
    return str(shared) if fits else None


def check(arguments: argparse.Namespace, work: Path) -> dict:
    """The wanted parts, one after the other; what was found so far is written after each."""
    plan = Plan(FIRST_STAGE if arguments.first else arguments.only, arguments.seconds)
    say(str(plan))
    machine, parts, began = about(arguments.massact, arguments.device), [], time.monotonic()

    def told() -> dict:
        begun = [one["name"] for one in parts]
        waiting = [name for name in plan.budgets if name not in begun]
        found = document(parts, waiting, machine, settings(arguments))
        if arguments.out:
            write(found, arguments.out)
        return found

    # Before the first one, too: what is written here is where the later ones will be.
    found = told()
    # What the parts with PyTorch read is in memory before they begin.
    reading = subprocess.Popen([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL)
    try:
        for name in plan.budgets:
            one = part.run(name, arguments, work, plan.allowed(name, time.monotonic() - began))
            parts.append(one)
            say(f"{name}: {one['ended']}, {one['seconds']:.0f} s")
            for line in failures(one):
                say(f"  {line}")
            found = told()
            if one["ended"] == part.FROM_OUTSIDE or name == "devices" and no_card(one):
                # All others could do is fail. One that was only slow to answer may be quick now.
                break
    except part.Stopped:
        # Between two parts.
        pass
    finally:
        reading.kill()
    return found


def no_card(devices: dict) -> bool:
    """Whether massact has answered that there is none which it uses."""
    return any(record.get("verdict") == FAILED for record in devices["records"])


def settings(arguments: argparse.Namespace) -> dict:
    return {
        "date": date.today().isoformat(),
        "device": arguments.device,
        "dtype": Job(arguments.massact, arguments.device, arguments.quick, 0, Path()).dtype,
        "quick": arguments.quick,
        # The targets are a card's, at the whole shape.
        "judged": arguments.device != "cpu" and not arguments.quick,
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
