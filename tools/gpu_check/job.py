"""What the parts are told: which program, on which device, how thoroughly, and for how long."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import IO

import processes

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Job:
    """The settings of one part."""

    massact: Path
    device: str
    quick: bool
    seconds: float
    # What parts leave for each other.
    work: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def on_card(self) -> bool:
        return self.device != "cpu"

    @property
    def dtype(self) -> str:
        """Type of the speed measurements: what models are run in on each."""
        return "bfloat16" if self.on_card else "float32"

    @property
    def where(self) -> list[str]:
        """The device and the type of measurements, as massact's arguments."""
        return ["--device", self.device, "--dtype", self.dtype]

    @property
    def checkpoint(self) -> Path:
        """The part `pytorch` writes it."""
        return self.work / "checkpoint"

    def cache(self, tuned: bool) -> Path:
        """Where massact finds the algorithms that `bench --tune` kept; nothing is kept in the other."""
        return self.work / ("tuned" if tuned else "untuned")

    def left(self) -> float:
        """Seconds until this part has to end."""
        return self.seconds - (time.monotonic() - self.began)

    def environment(self, tuned: bool = True) -> dict:
        """Of massact: offline, with its own folder of what was tuned, and this PyTorch's libraries."""
        own = {"HF_HUB_OFFLINE": "1", "MASSACT_CACHE_DIR": str(self.cache(tuned))}
        return {"CUDA_PYTHON": sys.executable} | os.environ | own

    def call(self, command: list, seconds: float = inf, tuned: bool = True) -> subprocess.CompletedProcess:
        """Runs a program to its end, within these seconds and those of the part."""
        return processes.run(command, min(seconds, self.left()), self.environment(tuned))

    def start(self, *arguments: object, said: IO) -> subprocess.Popen:
        """Starts massact, to read what it prints while it runs; `said` gets its stderr."""
        command = [str(part) for part in (self.massact, *arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=said, text=True, env=self.environment())

    def json(self, *arguments: object, seconds: float = inf, tuned: bool = True) -> dict:
        """What massact prints with --json. An error if it fails, or takes longer than these seconds."""
        done = self.call([self.massact, *arguments, "--json"], seconds, tuned)
        if done.returncode:
            reason = f"ended with {done.returncode}: {processes.last_line(done.stderr)}"
            raise RuntimeError(f"massact {arguments[0]} {reason}")
        return json.loads(done.stdout)
