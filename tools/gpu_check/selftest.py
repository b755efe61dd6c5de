"""massact's own comparison of every kernel with its CPU backend."""

import json

from job import Job, last_line
from records import Records


def run(job: Job, records: Records) -> None:
    if not job.on_card:
        records.not_run("selftest", "it tests a card")
        return
    done = job.run("selftest", "--device", job.device, "--json")
    try:
        document = json.loads(done.stdout)
    except json.JSONDecodeError:
        records.check("selftest", False, f"ended with {done.returncode}: {last_line(done.stderr)}")
        return
    for check in document["checks"]:
        # JSON has no infinity and no NaN.
        error = float("nan") if check["error"] is None else check["error"]
        detail = check.get("failure") or f"error {error:.1e}, allowed {check['allowed']:.1e}"
        records.check(f"{check['name']}, {check['dtype']}", check["passed"], detail)
    good = document["good"] and done.returncode == 0
    records.check("this card is good", good, f"exit code {done.returncode}")
