"""Passes of massact whose weights are on the device already: bare, and with the statistics of all layers.

`bench --tune` first times the algorithms of every product that the pass meets; its file is kept for the
parts that follow. The same without that file comes last.
"""

import json

import sizes
from job import Job
from records import Records

REPETITIONS = 3


def run(job: Job, records: Records) -> None:
    size = sizes.whole(job)
    checkpoint = job.checkpoint.is_dir()
    about = {"shape": size.shape if checkpoint else f"{size.noise_shape}, noise", "samples": size.samples}
    records.note("pass", about | {"length": size.length, "flops": size.flops(noise=not checkpoint)})
    if not checkpoint:
        reason = "PyTorch writes it, and did not; noise is run instead, whose products are not joined"
        records.not_run("passes of a checkpoint", reason)
    passes(job, records, "massact" if checkpoint else "noise", tuned=True)
    if not job.on_card:
        records.not_run("tuned products", "cuBLASLt is of cards alone")
        return
    kept = list(job.cache(tuned=True).glob("*.json"))
    names = ", ".join(path.name for path in kept) or "there is no file"
    records.check("what was tuned is kept", len(kept) == 1, names)
    for file in kept:
        records.note("tuned", json.loads(file.read_text()))
    if checkpoint:
        passes(job, records, "untuned", tuned=False)


def passes(job: Job, records: Records, name: str, tuned: bool) -> None:
    size = sizes.whole(job)
    arguments = ["bench", "--parts", "model", "--repetitions", REPETITIONS]
    arguments += ["--sequences", size.samples, "--tokens", size.length, *job.where]
    arguments += ["--tune"] if tuned and job.on_card else []
    weights = ["--shape", size.noise_shape] if name == "noise" else ["--pretrained", job.checkpoint]
    # The second has what the first leaves.
    seconds = job.left() * (0.7 if tuned else 1)
    document = records.attempt(
        f"passes, {name}", lambda: job.json(*arguments, *weights, seconds=seconds, tuned=tuned)
    )
    for ours in document["measurements"] if document else ():
        best, median = ours["best_seconds"], ours["median_seconds"]
        records.measured(f"{name} {ours['name']}", best, ours["work"], ours["unit"], median=median)
