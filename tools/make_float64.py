"""What transformers computes in float64 and in float32 on every committed checkpoint: the measure of float32.

    python tools/make_float64.py [--out tests/float64.safetensors] [NAME ...]

Runs the longest sequence of every checkpoint in both types. Packed and changed models, which transformers cannot
read from their folders, are built again with the seed that reference.json names, and refused if their weights are
not the committed ones. For each checkpoint there are
two tensors: `NAME.float64` and `NAME.float32`, of shape [layers, SAMPLES]: values of the layers' outputs, flat
[tokens * width], at the places `floor(i * size / SAMPLES)`; a few have more samples. With names, only those are replaced in the file.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

sys.path.append(str(Path(__file__).resolve().parent / "make_checkpoints"))

from build import load, transformers, write_checkpoint  # noqa: E402
from families import ROWS  # noqa: E402
from record import observe  # noqa: E402

SAMPLES = 64
# Where a few values have most of the error, 64 of them are too few to tell two errors apart.
MORE = {"zamba": 1024}
CHECKPOINTS = Path("tests/checkpoints")
DECODER_ALONE = ("llama4",)


def same_weights(ours: Path, committed: Path) -> bool:
    """Whether two folders hold the same tensors."""
    files = sorted(path.name for path in committed.glob("model*.safetensors"))
    return files == sorted(path.name for path in ours.glob("model*.safetensors")) and all(
        (ours / name).read_bytes() == (committed / name).read_bytes() for name in files
    )


def sampled(layers: list[torch.Tensor], count: int) -> torch.Tensor:
    """[layers, count]"""
    rows = []
    for hidden in layers:
        flat = hidden.flatten()
        places = torch.arange(count) * flat.numel() // count
        rows.append(flat[places])
    return torch.stack(rows)


def opened(row, folder: Path, tensors: dict) -> torch.nn.Module:
    """The float32 model; of a wrapper whose file has its decoder alone, the decoder."""
    if row.name not in DECODER_ALONE:
        return load(row, folder, tensors)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    if info["missing_keys"] or info["mismatched_keys"] or info["unexpected_keys"]:
        raise ValueError(f"{row.name}: {info}")
    return model.eval()


def measured(row) -> dict[str, torch.Tensor]:
    """The two tensors of a checkpoint."""
    reference = json.loads((CHECKPOINTS / row.name / "reference.json").read_text())
    token_ids = max((one["token_ids"] for one in reference["sequences"]), key=len)
    committed = CHECKPOINTS / row.name
    with tempfile.TemporaryDirectory() as name:
        folder, tensors = committed, {}
        if row.variant or row.packing:
            # What transformers cannot read from the folder.
            folder = Path(name)
            tensors = write_checkpoint(row, reference["seed"], folder)
            if not same_weights(folder, committed):
                raise ValueError(f"{row.name}: other weights than the committed ones")
        single = observe(opened(row, folder, tensors), token_ids)
        double = observe(opened(row, folder, tensors).double(), token_ids, float64=True)
    count = MORE.get(row.name, SAMPLES)
    return {
        f"{row.name}.float32": sampled(single.layers, count).float(),
        f"{row.name}.float64": sampled(double.layers, count).double(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="checkpoints (default: all)")
    parser.add_argument("--out", type=Path, default=Path("tests/float64.safetensors"))
    arguments = parser.parse_args()
    # One thread: sums keep their order, so the references are reproducible.
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found = load_file(arguments.out) if arguments.names and arguments.out.exists() else {}
    for row in ROWS:
        if arguments.names and row.name not in arguments.names:
            continue
        found |= measured(row)
        save_file(found, arguments.out)
        ours, theirs = found[f"{row.name}.float32"].double(), found[f"{row.name}.float64"]
        print(f"{row.name}: {len(ours)} layers, error {(ours - theirs).abs().max():.1e}", flush=True)


if __name__ == "__main__":
    main()
