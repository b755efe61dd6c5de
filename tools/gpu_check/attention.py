"""Attention without capture, and with what each key receives, beside PyTorch's fused attention."""

import beside
from job import Job
from records import Records
from sizes import micro

# The 7B shape's first, which the targets are about.
HEAD_DIMS = (128, 64, 256)


def run(job: Job, records: Records) -> None:
    beside.measure(job, records, [beside.attention(micro(job), head_dim) for head_dim in HEAD_DIMS])
