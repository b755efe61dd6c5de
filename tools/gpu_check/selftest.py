"""massact's own comparison of every kernel with its CPU backend, check by check, in bfloat16.

massact tells each check as soon as it is made. Where the card stops working, or does not answer, the
check at fault is named, and a new process goes on after it.
"""

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator

from job import Job
from processes import FAREWELL, last_line
from records import Records

# The share of the part's time that a check may take, of which the slowest takes a few seconds; the first
# one opens the card, too.
PATIENCE, FIRST_PATIENCE = 1 / 4, 1 / 2
# A card that fails more often than this is broken altogether.
MOST_FAULTS = 5


def run(job: Job, records: Records) -> None:
    compare(job, records, ("bfloat16",))


def compare(job: Job, records: Records, dtypes: tuple[str, ...]) -> None:
    if not job.on_card:
        records.not_run("selftest", "it tests a card")
        return
    for dtype in dtypes:
        failed, made_all = of_type(job, records, dtype)
        # Without all of them nothing good is said.
        if failed or made_all:
            records.check(f"this card is good in {dtype}", not failed, f"{len(failed)} checks failed")


def of_type(job: Job, records: Records, dtype: str) -> tuple[list[str], bool]:
    """Records every check in a type; returns those that failed, and whether all were made."""
    failed, step, name, before = [], 0, "the first check", None
    for _ in range(MOST_FAULTS):
        if job.left() <= 0:
            records.not_run(f"checks after {name}, {dtype}", "no time was left")
            return failed, False
        options = ["--quick"] if job.quick else []
        options += ["--device", job.device, "--dtype", dtype, "--lines", "--from", step]
        with tempfile.TemporaryFile("w+") as said:
            process = job.start("selftest", *options, said=said)
            lines, told = Lines(process, job), False
            for check in lines:
                told = True
                # What follows a failure of the card is not this check's.
                name, step = check["name"], check["step"] + 1
                records.check(f"{name}, {check['dtype']}", check["passed"], detail(check))
                failed += [] if check["passed"] else [name]
            ended = lines.end or end_of(process, said)
        if ended is None:
            return failed, True
        if ended == OUT_OF_TIME:
            records.not_run(f"checks after {name}, {dtype}", ended)
            return failed, False
        if not ended.startswith(STOPPED) and failed:
            # Its own verdict, that checks failed; all of them are recorded.
            return failed, True
        records.check(f"after {name}, {dtype}", False, ended)
        failed.append(ended)
        if not told and ended == before:
            break
        before = ended
        if not told or ended.startswith(SILENT):
            # It is this one's fault; else the next process tells what comes after the last one told.
            step += 1
    records.not_run(f"checks after {name}, {dtype}", "the card failed too often")
    return failed, False


# How an end is told from a verdict.
STOPPED, SILENT = "stopped: ", "stopped: no answer"
OUT_OF_TIME = "no time was left"


class Lines:
    """The checks that a process tells, until there are no more or none comes in time; then it is killed."""

    def __init__(self, process: subprocess.Popen, job: Job):
        self.process, self.job = process, job
        # Why the process was killed.
        self.end: str | None = None

    def __iter__(self) -> Iterator[dict]:
        arrived: queue.Queue = queue.Queue()

        def read() -> None:
            for line in self.process.stdout:
                arrived.put(line)
            arrived.put(None)

        threading.Thread(target=read, daemon=True).start()
        share = FIRST_PATIENCE
        while True:
            patience, left = share * self.job.seconds, self.job.left()
            try:
                line = arrived.get(timeout=max(min(patience, left), 0.01))
            except queue.Empty:
                self.process.kill()
                short = left < patience
                self.end = OUT_OF_TIME if short else f"{SILENT} to the next one within {patience:.1f} s"
                return
            if line is None:
                return
            try:
                check = json.loads(line)
            except json.JSONDecodeError:
                # Cut off by the process's end.
                continue
            yield check
            share = PATIENCE


def end_of(process: subprocess.Popen, said) -> str | None:
    """Why the process ended early; None if it did not."""
    try:
        code = process.wait(FAREWELL)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"{STOPPED}it does not end"
    said.seek(0)
    line = last_line(said.read())
    if code == 0:
        return None
    verdict = code == 1 and "checks failed" in line
    return line if verdict else f"{STOPPED}ended with {code}: {line}"


def detail(check: dict) -> str:
    # JSON has no infinity and no NaN.
    error = float("nan") if check["error"] is None else check["error"]
    text = check.get("failure") or f"error {error:.1e}, allowed {check['allowed']:.1e}"
    if wrong := check.get("first_wrong"):
        text += f"; value {wrong['index']} of {wrong['of']} is {wrong['got']} instead of {wrong['wanted']}"
    return text
