"""What the numbers depend on."""

import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from processes import lines_of
from side_by_side import commit


def about(massact: Path, device: str) -> dict:
    """The card, the binary and the libraries."""
    first, *build = lines_of([massact, "--version"]) or [None]
    known = dict(line.split(maxsplit=1) for line in build if " " in line)
    card, driver = card_and_driver() if device != "cpu" else (processor(), None)
    return {
        "device": card or device,
        "driver": driver,
        "massact": first,
        # The binary knows it, wherever it was brought; a tree only where git is.
        "commit": known.get("commit") or commit(),
        "kernels": known.get("kernels"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": installed("torch"),
        "cuda": cuda_of_torch(),
        "transformers": installed("transformers"),
        "cores": len(os.sched_getaffinity(0)),
    }


def card_and_driver() -> tuple[str | None, str | None]:
    found = lines_of(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    name, _, driver = found[0].rpartition(",") if found else ("", "", "")
    return name.strip() or None, driver.strip() or None


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")


def cuda_of_torch() -> str | None:
    """From its file: importing it takes longer than the first stage has."""
    found = find_spec("torch")
    path = Path(found.origin).with_name("version.py") if found and found.origin else None
    text = path.read_text() if path and path.is_file() else ""
    said = re.search(r"^cuda\b.*= *'([^']*)'", text, re.MULTILINE)
    return said[1] if said else None


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
