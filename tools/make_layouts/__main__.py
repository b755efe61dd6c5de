"""Builds small files in the layouts that older checkpoints have, and what must be read from them.

    python tools/make_layouts [--out tests/layouts] [torch|tokenizers ...]

`torch`: files of weights as torch.save writes them (`pytorch_model.bin` and its shards), made of the
checkpoints in tests/checkpoints. `tokenizers`: tokenizers without tokenizer.json, with the ids that
transformers' AutoTokenizer gives a text. Needs torch, transformers, sentencepiece, protobuf and tiktoken.
"""

import argparse
from pathlib import Path

import tokenizer_folders
import torch_files

PARTS = {"torch": torch_files.build, "tokenizers": tokenizer_folders.build}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which (default: all)")
    parser.add_argument("--out", type=Path, default=Path("tests/layouts"))
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        PARTS[part](arguments.out / part)


if __name__ == "__main__":
    main()
