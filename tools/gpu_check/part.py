"""A part of the check: a process of its own, which is ended when its time is up."""

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from job import Job
from processes import FAREWELL, kill_session, last_line
from records import Records, read

FROM_OUTSIDE = "stopped from outside"
# A part leaves before it is stopped, if it can: by so many seconds, or this share of its time.
EARLIER, EARLIER_SHARE = 3, 1 / 4


class Stopped(Exception):
    """Somebody wants the check to end."""


def stop(_signal, _frame) -> None:
    raise Stopped


def run(name: str, arguments: argparse.Namespace, work: Path, allowed: float) -> dict:
    """What it found until its end, however it ended."""
    command = [sys.executable, str(Path(__file__).with_name("__main__.py")), "--part", name]
    command += ["--massact", str(arguments.massact), "--device", arguments.device]
    command += ["--work", str(work), "--seconds", str(allowed)]
    command += ["--quick"] if arguments.quick else []
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
        try:
            code = process.wait(allowed)
            said.seek(0)
            ended = "done" if code == 0 else f"failed: {last_line(said.read())}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after its {allowed:.0f} seconds"
        except Stopped:
            ended = FROM_OUTSIDE
        # With the programs that it started. What hangs on a card may not go, and is left behind.
        kill_session(process.pid)
        try:
            process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            pass
    return {
        "name": name,
        "ended": ended,
        "seconds": time.monotonic() - began,
        "budget": allowed,
        "records": read(records_of(work, name)),
    }


def records_of(work: Path, name: str) -> Path:
    return work / f"{name}.records"


def main(arguments: argparse.Namespace) -> None:
    """In that process."""
    work, name = Path(arguments.work), arguments.part
    seconds = arguments.seconds - min(EARLIER, arguments.seconds * EARLIER_SHARE)
    job = Job(arguments.massact, arguments.device, arguments.quick, seconds, work)
    records = Records(records_of(work, name))
    try:
        importlib.import_module(name).run(job, records)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        records.not_run(name, "PyTorch is not installed")
