"""NVIDIA's compute-sanitizer on the self-test: accesses out of bounds, races, uninitialised memory."""

import glob
import os
import shutil
import sysconfig
from pathlib import Path

from job import Job
from processes import NoAnswer, last_line
from records import Records

# Its most important first: what the part's time does not suffice for is left out.
TOOLS = ("memcheck", "racecheck", "initcheck")
ERRORS_FOUND = 99
# The kernels of NVIDIA's own libraries, which are not ours to mend.
EXCLUDED = ("cutlass", "nvjet", "gemm", "cublas", "splitK")


def find() -> str | None:
    """On the PATH, in a CUDA toolkit, or from pip (nvidia-cuda-sanitizer-api)."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    homes += ["/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-*"), reverse=True), "/opt/cuda"]
    homes += [f"{sysconfig.get_path('purelib')}/nvidia/cu13"]
    places = [Path(home) for home in homes if home]
    found = [shutil.which("compute-sanitizer")]
    for place in places:
        found += [str(place / folder / "compute-sanitizer") for folder in ("bin", "compute-sanitizer")]
    return next((path for path in found if path and Path(path).is_file()), None)


def run(job: Job, records: Records) -> None:
    program = find() if job.on_card else None
    if program is None:
        reason = "compute-sanitizer is not installed" if job.on_card else "it needs a card"
        for tool in TOOLS:
            records.not_run(tool, reason)
        return
    for tool in TOOLS:
        if job.left() < 5:
            records.not_run(tool, "no time was left")
            continue
        options = ["--tool", tool, "--error-exitcode", str(ERRORS_FOUND), "--print-limit", "5"]
        for name in EXCLUDED:
            options += ["--kernel-name-exclude", f"kernel_substring={name}"]
        command = [program, *options, str(job.massact), "selftest", "--quick", *job.where]
        try:
            done = job.call(command, job.left() - 2)
        except NoAnswer as error:
            records.not_run(tool, str(error))
            continue
        said = [line for line in done.stdout.splitlines() if line.startswith("=========")]
        detail = last_line("\n".join(said)).strip("= ") or last_line(done.stderr)
        if "SUMMARY" not in done.stdout:
            # It does not work on every machine that has it.
            records.not_run(tool, detail)
            continue
        records.check(tool, done.returncode == 0, f"exit code {done.returncode}; {detail}")
