"""Does massact see the card?"""

from job import Job
from records import Records

# What such a machine is brought.
LARGEST = 64


def run(job: Job, records: Records) -> None:
    size = job.massact.stat().st_size / (1 << 20)
    detail = f"{size:.1f} MiB; `strip` removes what is not needed to run"
    records.check(f"the binary has at most {LARGEST} MiB", size <= LARGEST, detail)
    document = job.json("devices")
    cards = document["gpus"]
    if not job.on_card:
        records.check("the CPU is listed", document["cpu"]["usable"], document["cpu"]["name"])
        return
    names = ", ".join(card["name"] for card in cards) or str(document.get("gpus_missing_because"))
    records.check("a card that massact uses", any(card["usable"] for card in cards), names)
