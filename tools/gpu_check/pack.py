"""Makes massact small enough to be carried to a machine with a card, beside the files of the tree.

    python tools/gpu_check/pack.py target/release/massact [--to target/gpu-check/massact.xz] [--most 64]

Strips a copy of the binary and compresses it; git ignores where it lies, so that it is carried beside the
files of the tree. `tools/gpu_check --massact` takes it as it is. Exit code 1 if the two together are too
large, or if the binary has no kernels.
"""

import argparse
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path.append(str(TOOLS))

from processes import lines_of, run  # noqa: E402

MIB = 1 << 20
# What is left free, for what travels beside the files' bytes.
RESERVE = 4
# Of files that could be left out.
NAMED = 8


def pack(binary: Path, to: Path) -> None:
    """A stripped, compressed copy; nothing is under its name until it is whole."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy2(binary, folder))
        if not stripped(copy):
            print("strip is missing, or does not know this file: packed as it is", file=sys.stderr)
        unfinished = to.with_name(f"{to.name}.unfinished")
        with copy.open("rb") as source, lzma.open(unfinished, "wb", preset=9) as target:
            shutil.copyfileobj(source, target, MIB)
        os.replace(unfinished, to)


def stripped(binary: Path) -> bool:
    try:
        return run(["strip", binary], 60).returncode == 0
    except (OSError, RuntimeError):
        return False


def is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\xfd7zXZ\x00"


def unpacked(path: Path, folder: Path) -> Path:
    """A binary that can be run: the file itself, if it is not packed."""
    if not is_packed(path):
        return path
    binary = folder / "massact"
    with lzma.open(path) as source, binary.open("wb") as target:
        shutil.copyfileobj(source, target, MIB)
    binary.chmod(0o755)
    return binary


def carried(root: Path) -> dict[str, int]:
    """Bytes of every file that git has or does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    names = sorted(set(filter(None, done.stdout.split("\0"))))
    return {name: (root / name).lstat().st_size for name in names if (root / name).is_file()}


def largest(files: dict[str, int]) -> list[tuple[str, int]]:
    """The folders, two names deep, that hold most."""
    folders: Counter = Counter()
    for name, size in files.items():
        folders["/".join(name.split("/")[:2])] += size
    return folders.most_common(NAMED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("massact", type=Path, help="release binary, built with kernels")
    parser.add_argument("--to", type=Path, default=TOOLS.parent / "target" / "gpu-check" / "massact.xz")
    parser.add_argument("--most", type=float, default=64, help="MiB that can be carried")
    arguments = parser.parse_args()
    if not arguments.massact.is_file():
        parser.error(f"{arguments.massact} is no file; build it with `cargo build --release`")
    said = lines_of([arguments.massact.resolve(), "--version"])
    kernels = next((line for line in said if line.startswith("kernels")), "it does not say")
    if "built in" not in kernels:
        remedy = "build it where nvcc is, with --features require-cuda"
        sys.exit(f"{arguments.massact}: it has no kernels ({kernels}); {remedy}")
    pack(arguments.massact, arguments.to)
    try:
        files = carried(TOOLS.parent)
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"git cannot say what is carried: {error}; {arguments.to} is written")
    tree, binary = sum(files.values()) / MIB, arguments.to.stat().st_size / MIB
    total, room = tree + binary, arguments.most - RESERVE
    print(f"tree {tree:.1f} MiB + {arguments.to} {binary:.1f} MiB = {total:.1f} MiB, at most {room:g}")
    for line in said:
        print(line)
    if total > room:
        print("too large; most is in:")
        for folder, size in largest(files):
            print(f"  {size / MIB:6.1f} MiB  {folder}")
        sys.exit(1)
    packed = os.path.relpath(arguments.to, TOOLS.parent)
    print(f"there: python tools/gpu_check --massact {packed} --out FOLDER")


if __name__ == "__main__":
    main()
