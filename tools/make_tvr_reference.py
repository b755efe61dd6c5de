"""What target variance rescaling makes of the small checkpoints: truth for tests/tvr.rs.

    python tools/make_tvr_reference.py [--check OUT_OF_MASSACT]

Writes tests/tvr_reference.json. The definition (arXiv 2503.17500): a 2-D weight of a decoder
layer with std / target > threshold becomes (W - mean) / std * target + mean, the bias of its
module zero. Mean and standard deviation (Bessel-corrected) here are correctly rounded sums
(math.fsum); the formula runs in float64 and is rounded to the stored type once, by exact
scaling and rounding half to even. Nothing of massact is used.

With --check FOLDER it loads a folder that `massact tvr --out` wrote with transformers and runs
a forward pass: weights that from_pretrained does not take would show.
"""

import argparse
import hashlib
import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "tests" / "checkpoints"
LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
# Significant bits and the exponent of the smallest number.
FORMATS = {torch.float32: (24, -149), torch.bfloat16: (8, -133), torch.float16: (11, -24)}

DEFAULTS = {"target_std": 0.01, "scale_with_depth": False, "ratio_threshold": 1.2, "exclude": []}
CASES = [
    ("planted-llama", {}),
    ("llama-tied-bf16-sharded", {"target_std": 0.02, "scale_with_depth": True}),
    ("llama-f16", {"target_std": 0.2, "ratio_threshold": 1.35, "exclude": ["q_proj", "self_attn.k_proj"]}),
    ("gpt2-f32", {"target_std": 0.02}),
    ("gpt2-gelu-f16", {"scale_with_depth": True}),
    ("llama-biases", {}),
    ("mixtral", {"target_std": 0.3}),
    ("gpt-oss", {"target_std": 0.02}),
    ("opt-pre-norm", {"target_std": 0.25}),
    ("cohere-qk-norm", {"target_std": 0.25}),
    # Convolutions' weights have three dimensions.
    ("lfm2", {"target_std": 0.2}),
]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            found.update({name: file.get_tensor(name) for name in file.keys()})
    return found


def rounded(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The nearest numbers of `dtype`, ties to even: scaling by a power of two is exact."""
    bits, smallest = FORMATS[dtype]
    _, exponents = np.frexp(values)
    steps = np.maximum(exponents - bits, smallest)
    return np.ldexp(np.rint(np.ldexp(values, -steps)), steps)


def mean_and_std(values: np.ndarray) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    squares = math.fsum((values - mean) ** 2)
    return mean, math.sqrt(squares / (len(values) - 1))


def stored(values: np.ndarray, dtype: torch.dtype) -> bytes:
    # Exact: the values are numbers of the type already.
    tensor = torch.from_numpy(values).to(dtype)
    assert (tensor.double().numpy() == values).all()
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def rescale(name: str, settings: dict) -> dict:
    all_tensors = tensors(CHECKPOINTS / name)
    weights, zeroed = [], []
    for tensor_name, tensor in sorted(all_tensors.items()):
        layer = LAYER.search(tensor_name)
        if layer is None or tensor.ndim != 2 or not tensor_name.endswith(".weight"):
            continue
        target = settings["target_std"]
        if settings["scale_with_depth"]:
            target /= math.sqrt(int(layer[1]) + 1)
        values = tensor.double().numpy().ravel()
        mean, std = mean_and_std(values)
        excluded = any(f".{part}." in tensor_name for part in settings["exclude"])
        weight = {"name": tensor_name, "mean": mean, "std": std, "ratio": std / target}
        weight["changed"] = not excluded and std / target > settings["ratio_threshold"]
        if weight["changed"]:
            result = rounded((values - mean) / std * target + mean, tensor.dtype)
            weight["std_after"] = mean_and_std(result)[1]
            weight["sha256"] = hashlib.sha256(stored(result, tensor.dtype)).hexdigest()
            bias = tensor_name.removesuffix("weight") + "bias"
            if bias in all_tensors:
                zeroed.append(bias)
        weights.append(weight)
    return {"checkpoint": name, "settings": settings, "weights": weights, "zeroed": zeroed}


def check(folder: str) -> None:
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, experts_implementation="eager"
    )
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    with torch.no_grad():
        logits = model.float()(torch.tensor([[1, 5, 7, 11]])).logits
    assert torch.isfinite(logits).all()
    print(f"{folder}: loaded by transformers, logits {tuple(logits.shape)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check)
        return
    cases = [rescale(name, DEFAULTS | settings) for name, settings in CASES]
    (ROOT / "tests" / "tvr_reference.json").write_text(json.dumps(cases, indent=1) + "\n")
    for case in cases:
        changed = sum(weight["changed"] for weight in case["weights"])
        print(f"{case['checkpoint']}: {changed} of {len(case['weights'])}, {len(case['zeroed'])} biases")


if __name__ == "__main__":
    main()
