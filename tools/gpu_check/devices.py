"""Does massact see the card?"""

from job import Job
from records import Records


def run(job: Job, records: Records) -> None:
    document = job.json("devices")
    records.note("devices", document)
    if not job.on_card:
        records.check("the CPU is listed", document["cpu"]["usable"], document["cpu"]["name"])
        return
    cards = document["gpus"]
    found = [described(card) for card in cards] or [str(document.get("gpus_missing_because"))]
    records.check("a card that massact uses", any(card["usable"] for card in cards), ", ".join(found))


def described(card: dict) -> str:
    """Its name, and why massact does not use it."""
    reason = card.get("unusable_because")
    return f"{card['name']} (not used: {reason})" if reason else card["name"]
