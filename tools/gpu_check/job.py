"""What the parts are told: which program, on which device, how thoroughly, and for how long."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Job:
    """The settings of one part."""

    massact: Path
    device: str
    quick: bool
    seconds: float
    began: float = field(default_factory=time.monotonic)

    @property
    def on_card(self) -> bool:
        return self.device != "cpu"

    @property
    def dtype(self) -> str:
        """Type of the speed measurements: what models are run in on each."""
        return "bfloat16" if self.on_card else "float32"

    def left(self) -> float:
        """Seconds until this part has to end."""
        return self.seconds - (time.monotonic() - self.began)

    def run(self, *arguments: object, before: tuple = ()) -> subprocess.CompletedProcess:
        """Runs massact to its end, offline; `before` is what starts it."""
        command = [str(part) for part in (*before, self.massact, *arguments)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def start(self, *arguments: object) -> subprocess.Popen:
        """Starts massact, to read what it prints while it runs."""
        command = [str(part) for part in (self.massact, *arguments)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)

    def json(self, *arguments: object) -> dict:
        """What massact prints with --json. Ends the part if it fails."""
        done = self.run(*arguments, "--json")
        if done.returncode:
            reason = f"ended with {done.returncode}: {last_line(done.stderr)}"
            raise RuntimeError(f"massact {arguments[0]} {reason}")
        return json.loads(done.stdout)


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
