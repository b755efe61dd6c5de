"""`massact existence-validation` from its start to its end, weights in files to numbers and tables."""

import json
import time

import sizes
from job import Job
from processes import last_line
from records import Records
from side_by_side import existence_validation, largest_difference

# Largest relative difference of two ways' per-layer means: float32 sums in another order; 16 bits through
# all layers, of which the largest value of a layer shows one rounding in full.
AGREEMENT = {"float32": 1e-3, "bfloat16": 0.05}
# The first may find files that no memory holds yet.
RUNS = 2


def run(job: Job, records: Records) -> None:
    if not job.checkpoint.is_dir():
        records.not_run("existence-validation", "there is no checkpoint: PyTorch writes it")
        return
    found = None
    for left in range(RUNS, 0, -1):
        seconds = job.left() if left == 1 else 0.7 * job.left()
        attempted = records.attempt("existence-validation", lambda: one(job, seconds))
        if attempted and (found is None or attempted["wall_seconds"] < found["wall_seconds"]):
            found = attempted
            measured(records, found, sizes.whole(job).tokens)
    means = job.checkpoint.with_suffix(".means.json")
    if found and means.is_file():
        difference = largest_difference(found["layers"], json.loads(means.read_text()))
        allowed = AGREEMENT[job.dtype]
        detail = f"largest difference {difference:.1e}, allowed {allowed:.0e}"
        records.check("per-layer means agree with PyTorch's", difference <= allowed, detail)


def one(job: Job, seconds: float) -> dict:
    def runner(command: list[str]) -> tuple[str, dict]:
        began = time.perf_counter()
        done = job.call(command, seconds)
        if done.returncode:
            raise RuntimeError(f"massact existence-validation: {last_line(done.stderr)}")
        return done.stdout, {"wall_seconds": time.perf_counter() - began}

    size, text = sizes.whole(job), job.checkpoint.with_suffix(".txt")
    shape = (size.samples, size.length, job.device, job.dtype)
    return existence_validation(runner, job.massact, job.checkpoint, text, *shape)


def measured(records: Records, found: dict, tokens: int) -> None:
    steady = found["forward_seconds"] + found["statistics_seconds"]
    records.measured("massact existence-validation", steady, tokens, "tokens/s", load=found["load_seconds"])
    records.measured("massact whole process", found["wall_seconds"], tokens, "tokens/s")
