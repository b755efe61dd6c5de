"""massact's own comparison of every kernel with its CPU backend, check by check.

massact tells each check as soon as it is made. Where the card stops working, or does not answer, the
check at fault is named, and a new process goes on after it.
"""

import json
import queue
import subprocess
import threading
from collections.abc import Iterator

from job import Job, last_line
from records import Records

DTYPES = ("float32", "bfloat16", "float16")
# The slowest check of all takes a few seconds.
PATIENCE = 30
# A card that fails more often than this is broken altogether.
MOST_FAULTS = 5


def run(job: Job, records: Records) -> None:
    if not job.on_card:
        records.not_run("selftest", "it tests a card")
        return
    failed = [check for dtype in DTYPES for check in of_type(job, records, dtype)]
    records.check("this card is good", not failed, f"{len(failed)} checks failed")


def of_type(job: Job, records: Records, dtype: str) -> list[str]:
    """Records every check in a type; returns those that failed."""
    failed, step, name = [], 0, "the first check"
    for _ in range(MOST_FAULTS):
        options = ["--quick"] if job.quick else []
        options += ["--device", job.device, "--dtype", dtype, "--lines", "--from", step]
        process = job.start("selftest", *options)
        for check in lines(process, min(PATIENCE, job.left())):
            # What follows a failure of the card is not this check's.
            name, step = check["name"], check["step"] + 1
            records.check(f"{name}, {check['dtype']}", check["passed"], detail(check))
            failed += [] if check["passed"] else [name]
        ended = end_of(process)
        if ended is None:
            return failed
        if not ended.startswith(STOPPED) and failed:
            # Its own verdict, that checks failed; all of them are recorded.
            return failed
        records.check(f"after {name}, {dtype}", False, ended)
        failed.append(ended)
        if ended.startswith(SILENT):
            step += 1
        if job.left() < PATIENCE:
            break
    records.not_run(f"checks after {name}, {dtype}", "the card failed too often, or no time was left")
    return failed


# How an end is told from a verdict.
STOPPED, SILENT = "stopped: ", "stopped: no answer"


def lines(process: subprocess.Popen, patience: float) -> Iterator[dict]:
    """The checks, until there are no more or none comes in time; then the process is ended."""
    arrived: queue.Queue = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            arrived.put(line)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=patience)
        except queue.Empty:
            process.kill()
            process.silent = True
            return
        if line is None:
            return
        yield json.loads(line)


def end_of(process: subprocess.Popen) -> str | None:
    """Why the process ended early; None if it did not."""
    said = process.stderr.read()
    code = process.wait()
    if getattr(process, "silent", False):
        return f"{SILENT} to the next one within {PATIENCE} s"
    if code == 0:
        return None
    line = last_line(said)
    verdict = code == 1 and "checks failed" in line
    return line if verdict else f"{STOPPED}ended with {code}: {line}"


def detail(check: dict) -> str:
    # JSON has no infinity and no NaN.
    error = float("nan") if check["error"] is None else check["error"]
    text = check.get("failure") or f"error {error:.1e}, allowed {check['allowed']:.1e}"
    if wrong := check.get("first_wrong"):
        text += f"; value {wrong['index']} of {wrong['of']} is {wrong['got']} instead of {wrong['wanted']}"
    return text
