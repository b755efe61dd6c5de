"""Builds the small GGUF files of the tests, and what transformers computes on the same weights.

    python tools/make_gguf [--out tests/gguf] [NAME ...]

The Python package `gguf` (llama.cpp's own) encodes and decodes the values, names the tensors and writes
the files; what its converter does to weights and settings beyond that is in `convert.py`. The reference
is transformers in float32 on the decoded weights. Beside it lie sampled rows of the decoded weights.
"""

import argparse
import sys
from pathlib import Path

import torch

TOOLS = Path(__file__).resolve().parents[1]
sys.path += [str(TOOLS), str(TOOLS / "make_checkpoints")]

from checkpoints import build  # noqa: E402
from rows import ROWS  # noqa: E402
from vocabularies import build_all as build_vocabularies  # noqa: E402

VOCABULARIES = "vocabularies"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to build (default: all)")
    parser.add_argument("--out", type=Path, default=Path("tests/gguf"))
    arguments = parser.parse_args()
    rows = {row.name: row for row in ROWS}
    unknown = [name for name in arguments.names if name not in rows and name != VOCABULARIES]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; known: {', '.join([*rows, VOCABULARIES])}")
    torch.set_num_threads(1)
    for name in arguments.names or [*rows, VOCABULARIES]:
        if name == VOCABULARIES:
            print(build_vocabularies(arguments.out / name), flush=True)
        else:
            print(build(rows[name], arguments.out / name), flush=True)


if __name__ == "__main__":
    main()
