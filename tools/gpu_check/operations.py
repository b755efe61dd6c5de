"""The other operations of a layer, and statistics, beside PyTorch's."""

import beside
from job import Job
from records import Records
from sizes import micro


def run(job: Job, records: Records) -> None:
    size = micro(job)
    operations = [
        beside.rowwise("statistics", size, size.hidden),
        beside.rowwise("copy", size, size.hidden),
        beside.products(size, job.on_card),
        beside.rowwise("norm", size, size.hidden),
        beside.rowwise("add-norm", size, size.hidden),
        beside.rowwise("gated-activation", size, size.inner),
        beside.joined(job.on_card),
    ]
    beside.measure(job, records, operations)
