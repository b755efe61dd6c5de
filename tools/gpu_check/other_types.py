"""As the part `selftest`, in the types in which nothing is timed."""

from job import Job
from records import Records
from selftest import compare


def run(job: Job, records: Records) -> None:
    compare(job, records, ("float16", "float32"))
