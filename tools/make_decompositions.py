"""What chosen tokens give to the attention output, from transformers in float64.

    python tools/make_decompositions.py [--checkpoints tests/checkpoints] [NAME ...]

Writes `decomposition.safetensors` into the folder of each checkpoint: `positions` (the
tokens), and for each layer with attention `layer.{l}.output` and `layer.{l}.followed`, [T, hidden_size]
each: what attention makes of the attention sequence of reference.json, and the part of it
that comes from those tokens as keys, both through the output projection without its bias.
And `decomposition.json`: of both, and of their difference, what comes through each head
(norms, and the cosine of the two parts, means over the queries that see one of those tokens;
`noise` is what the cosine is off in float32).

Nothing is computed twice here: the probabilities of all other keys are set to zero where
the softmax returns them, in one layer at a time, and the attention module's own output is
read. With every key set to zero it returns its bias (and whatever it adds to itself), which
is subtracted. Heads are read where the output projection reads them, and multiplied by
their part of its weight.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

from rounded import rounded

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
# What attention modules call their output projection.
PROJECTIONS = ("o_proj", "c_proj", "out_proj", "dense")


class KeepKeys(TorchFunctionMode):
    """Sets the probabilities of all but some keys to zero in the layer that attends as the `place`-th."""

    def __init__(self, place: int, keys: list[int]):
        super().__init__()
        self.place, self.keys, self.seen = place, keys, 0
        self.sees = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in SOFTMAXES and args[0].dim() == 4:
            if self.seen == self.place:
                kept = torch.zeros(result.shape[-1], dtype=result.dtype)
                kept[self.keys] = 1.0
                result = result * kept
                # Of each query whether a head attends to one of the keys.
                self.sees = (result[0] > 0).any(0).any(-1)
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


def projection_of(module) -> torch.nn.Module:
    """The output projection of an attention module."""
    return next(child for name, child in module.named_children() if name in PROJECTIONS)


@torch.no_grad()
def heads_given(model, place: int, keys: list[int], token_ids: list[int]):
    """What an attention module's projection makes of each head from these keys alone, [heads, T, D], and of
    each query whether it sees one of them."""
    kept = []
    projection = projection_of(list(attention_modules(model).values())[place])
    wide = StayInFloat64() if model.dtype == torch.float64 else contextlib.nullcontext()
    handle = projection.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0][0].clone()))
    mode = KeepKeys(place, keys)
    try:
        with mode, wide:
            model(torch.tensor([token_ids]), use_cache=False)
    finally:
        handle.remove()
    heads = model.config.get_text_config().num_attention_heads
    weight = projection.weight.detach().numpy()
    # A linear module has [out, in], GPT-2's Conv1D [in, out].
    weight = weight if type(projection).__name__ == "Conv1D" else weight.T
    outputs = kept[0].numpy().reshape(len(token_ids), heads, -1).transpose(1, 0, 2)
    return outputs @ weight.reshape(heads, -1, weight.shape[1]), mode.sees.numpy()


def by_head(whole: np.ndarray, part: np.ndarray, queries: np.ndarray) -> list[dict]:
    """Norms and cosines of the two parts of `[heads, T, D]`, means over queries."""
    found = []
    for whole, part in zip(whole[:, queries], part[:, queries]):
        rest = whole - part
        norms = [np.linalg.norm(x, axis=1) for x in (whole, part, rest)]
        angled = (norms[1] > 0) & (norms[2] > 0)
        cosines = (part * rest).sum(1)[angled] / (norms[1] * norms[2])[angled]
        mean = [float(x.mean()) if len(x) else None for x in (*norms, cosines)]
        found.append(dict(zip(("norm_attention", "norm_followed", "norm_rest", "cosine"), mean)))
    return found


def heads_of(model, layers: list[int], positions: list[int], token_ids: list[int]) -> list[dict]:
    """Of every layer with attention."""
    found = []
    everything = list(range(len(token_ids)))
    for place, layer in enumerate(layers):
        whole, _ = heads_given(model, place, everything, token_ids)
        part, sees = heads_given(model, place, positions, token_ids)
        sees[positions] = False
        found.append({"layer": layer, "heads": by_head(whole, part, sees)})
    return found


def decompose(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
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
    layers = list(attention_modules(model))
    narrow = heads_of(model.eval(), layers, positions, token_ids)
    model = model.double()
    heads = heads_of(model, layers, positions, token_ids)
    for ours, theirs in zip(heads, narrow):
        for head, other in zip(ours["heads"], theirs["heads"]):
            if head["cosine"] is not None:
                head["noise"] = abs(head["cosine"] - other["cosine"])
    tensors = {"positions": torch.tensor(positions, dtype=torch.float32)}
    for place, (layer, module) in enumerate(attention_modules(model).items()):
        nothing = attention_output(model, module, place, [], token_ids)
        for name, keys in (("output", range(len(token_ids))), ("followed", positions)):
            given = attention_output(model, module, place, list(keys), token_ids) - nothing
            tensors[f"layer.{layer}.{name}"] = given.float().contiguous()
    return tensors, {"positions": positions, "layers": heads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    parser.add_argument("--checkpoints", type=Path, default=Path("tests/checkpoints"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        folder = arguments.checkpoints / name
        tensors, heads = decompose(folder)
        save_file(tensors, folder / "decomposition.safetensors")
        (folder / "decomposition.json").write_text(json.dumps(rounded(heads)) + "\n", encoding="utf-8")
        print(f"{name}: positions {tensors['positions'].int().tolist()}", flush=True)


if __name__ == "__main__":
    main()
