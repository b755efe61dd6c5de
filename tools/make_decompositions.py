"""What chosen tokens give to the attention output, from transformers in float64.

    python tools/make_decompositions.py [--checkpoints tests/checkpoints] [NAME ...]

Writes `decomposition.safetensors` into the folder of each checkpoint: `positions` (the
tokens), and for each layer with attention `layer.{l}.output` and `layer.{l}.followed`, [T, hidden_size]
each: what attention makes of the attention sequence of reference.json, and the part of it
that comes from those tokens as keys, both through the output projection without its bias.

Nothing is computed twice here: the probabilities of all other keys are set to zero where
the softmax returns them, in one layer at a time, and the attention module's own output is
read. With every key set to zero it returns its bias (and whatever it adds to itself), which
is subtracted.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent / "make_checkpoints"))

from record import SOFTMAXES, StayInFloat64, decoder_layers  # noqa: E402

# One of every kind of attention: plain, grouped, soft-capped and windowed, with sinks, with
# ALiBi, latent, with a residual inside, in some layers only.
NAMES = (
    "planted-llama",
    "planted-gpt2",
    "llama-gqa7-head-dim",
    "gemma2",
    "mistral-window",
    "gpt-oss",
    "falcon-alibi",
    "bloom",
    "deepseek-v2",
    "planted-lfm2",
)
# Where nothing is massive.
POSITIONS = (0, 7, 12)


class KeepKeys(TorchFunctionMode):
    """Sets the probabilities of all but some keys to zero in the layer that attends as the `place`-th."""

    def __init__(self, place: int, keys: list[int]):
        super().__init__()
        self.place, self.keys, self.seen = place, keys, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in SOFTMAXES and args[0].dim() == 4:
            if self.seen == self.place:
                kept = torch.zeros(result.shape[-1], dtype=result.dtype)
                kept[self.keys] = 1.0
                result = result * kept
            self.seen += 1
        return result


def attention_modules(model) -> dict[int, torch.nn.Module]:
    """By layer, its self-attention, by the name of its class."""
    modules = {}
    for number, layer in enumerate(decoder_layers(model)):
        children = layer.named_children()
        found = [child for _, child in children if "Attention" in type(child).__name__]
        if len(found) > 1:
            raise ValueError(f"{type(layer).__name__}: {len(found)} attention modules")
        if found:
            modules[number] = found[0]
    return modules


@torch.no_grad()
def attention_output(model, module, place: int, keys: list[int], token_ids: list[int]) -> torch.Tensor:
    """The output of an attention module, the `place`-th, from these keys alone."""
    kept = []

    def keep(module, arguments, output):
        kept.append((output[0] if isinstance(output, tuple) else output)[0].clone())

    handle = module.register_forward_hook(keep)
    try:
        with KeepKeys(place, keys), StayInFloat64():
            model(torch.tensor([token_ids]), use_cache=False)
    finally:
        handle.remove()
    return kept[0]


def decompose(folder: Path) -> dict[str, torch.Tensor]:
    """All layers of one checkpoint."""
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    sequence = reference["sequences"][reference["attention_sequence"]]
    massive = {entry["position"] for layer in sequence["layers"] for entry in layer["massive"]}
    positions = sorted(massive) or list(POSITIONS)
    token_ids = sequence["token_ids"]
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
    )
    model = model.eval().double()
    tensors = {"positions": torch.tensor(positions, dtype=torch.float32)}
    for place, (layer, module) in enumerate(attention_modules(model).items()):
        nothing = attention_output(model, module, place, [], token_ids)
        for name, keys in (("output", range(len(token_ids))), ("followed", positions)):
            given = attention_output(model, module, place, list(keys), token_ids) - nothing
            tensors[f"layer.{layer}.{name}"] = given.float().contiguous()
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    parser.add_argument("--checkpoints", type=Path, default=Path("tests/checkpoints"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        folder = arguments.checkpoints / name
        tensors = decompose(folder)
        save_file(tensors, folder / "decomposition.safetensors")
        print(f"{name}: positions {tensors['positions'].int().tolist()}", flush=True)


if __name__ == "__main__":
    main()
