"""What timing cuBLASLt's algorithms gains: the products of a shape before and after `massact bench --tune`."""

import os
import tempfile
from pathlib import Path

from job import Job
from kernels import settings
from records import Records


def run(job: Job, records: Records) -> None:
    if not job.on_card:
        records.not_run("tuned products", "cuBLASLt is of cards alone")
        return
    with tempfile.TemporaryDirectory() as folder:
        # Not what was tuned here before, and nothing that stays.
        os.environ["MASSACT_CACHE_DIR"] = folder
        before = records.attempt("products before", lambda: products(job))
        records.attempt("tuning", lambda: products(job, "--tune"))
        kept = list(Path(folder).glob("*.json"))
        records.check("what was tuned is kept", len(kept) == 1, ", ".join(path.name for path in kept))
        after = records.attempt("products after", lambda: products(job))
        for name, (seconds, work, unit) in (before or {}).items():
            records.measured(f"untuned {name}", seconds, work, unit)
            if tuned := (after or {}).get(name):
                records.measured(f"tuned {name}", *tuned)


def products(job: Job, *flags: str) -> dict[str, tuple[float, float, str]]:
    """Best seconds, work and unit of each shape."""
    where = ["--device", job.device, "--dtype", job.dtype]
    document = job.json("bench", "--parts", "product", *settings(job), *where, *flags)
    return {
        "product {rows} x {in} x {out}".format(**one["shape"]): (
            one["best_seconds"],
            one["rate"] * one["best_seconds"],
            one["unit"],
        )
        for one in document["measurements"]
    }
