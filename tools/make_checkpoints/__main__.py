"""Builds the small test checkpoints and their references from transformers.

    python tools/make_checkpoints [--out tests/checkpoints] [NAME ...]

Without names every row of the table is built. The result is deterministic for given
library versions: each row searches its weight seed upwards from 0 until the draw is
well separated (see `acceptable`) and no value of the text is close to being massive or not.
"""

import argparse
import sys
from pathlib import Path

import torch

# What several tools share lies beside them.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from build import build  # noqa: E402
from families import ROWS  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to build (default: all)")
    parser.add_argument("--out", type=Path, default=Path("tests/checkpoints"))
    arguments = parser.parse_args()

    rows = {row.name: row for row in ROWS}
    unknown = [name for name in arguments.names if name not in rows]
    if unknown:
        parser.error(f"no such checkpoint: {', '.join(unknown)}; known: {', '.join(rows)}")
    # One thread: sums keep their order, so the references are reproducible.
    torch.set_num_threads(1)
    for name in arguments.names or rows:
        print(build(rows[name], arguments.out / name), flush=True)


if __name__ == "__main__":
    main()
