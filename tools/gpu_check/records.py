"""What a part of the check found: one JSON object a line, written at once.

A part that is stopped, because its time is up, leaves what it found until then.
"""

import json
from collections.abc import Callable
from pathlib import Path

PASSED, FAILED = "passed", "failed"
# It ran, and nothing follows from it.
NOT_JUDGED = "not judged"
# It could not run; neither good nor bad.
NOT_RUN = "not run"


class Records:
    """The file that a part writes to."""

    def __init__(self, path: Path):
        self.path = path

    def _write(self, record: dict) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def check(self, name: str, passed: bool, detail: str = "") -> None:
        """Something that holds or does not."""
        self._write({"check": name, "verdict": PASSED if passed else FAILED, "detail": detail})

    def not_run(self, name: str, reason: str) -> None:
        """A check or a measurement that could not be made."""
        self._write({"check": name, "verdict": NOT_RUN, "detail": reason})

    def not_judged(self, name: str, detail: str) -> None:
        """What was found where there is no right or wrong."""
        self._write({"check": name, "verdict": NOT_JUDGED, "detail": detail})

    def attempt(self, name: str, work: Callable[[], object]) -> object:
        """What the work returns; where it fails, that is recorded and what follows goes on."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001: whatever it is, the other measurements matter too
            self.check(name, False, f"{type(error).__name__}: {first_line(str(error))}")
            return None

    def note(self, name: str, content: object) -> None:
        """What the measurements were made with."""
        self._write({"noted": name, "content": content})

    def measured(self, name: str, seconds: float, work: float = 0.0, unit: str = "", **more) -> None:
        """A time, and the rate it means: `work` a second, in `unit`."""
        rate = work / seconds if work else None
        self._write({"measured": name, "seconds": seconds, "rate": rate, "unit": unit, **more})


def first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


def read(path: Path) -> list[dict]:
    """Everything a part wrote; a line cut off by its end is none."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
