"""Does massact see the card?"""

from job import Job
from records import Records


def run(job: Job, records: Records) -> None:
    document = job.json("devices")
    cards = document["gpus"]
    if not job.on_card:
        records.check("the CPU is listed", document["cpu"]["usable"], document["cpu"]["name"])
        return
    names = ", ".join(card["name"] for card in cards) or str(document.get("gpus_missing_because"))
    records.check("a card that massact uses", any(card["usable"] for card in cards), names)
