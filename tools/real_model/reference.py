"""The same numbers by the reference program's own definitions, with transformers and forward hooks.

As the reference does it: float32, eager attention, one window at a time, every layer's output kept by hooks, and a
whole forward pass for every window and intervention.
"""

import json
import math
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ABSOLUTE, RELATIVE = 100.0, 1000.0


def dequantise(gguf: Path, folder: Path) -> Path:
    """The model as float32 safetensors, which loads as fast as a checkpoint does."""
    if not (folder / "config.json").is_file():
        where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


class Reference:
    """A model, its windows, and what its layers put out."""

    def __init__(self, folder: Path, length: int):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.layers = self.model.model.layers
        self.length = length

    def windows(self, text: Path) -> list[list[int]]:
        """BOS and the first tokens of each full slice of the text."""
        ids = self.tokenizer(text.read_text(), add_special_tokens=False).input_ids
        starts = range(0, len(ids) - self.length + 1, self.length)
        return [[self.tokenizer.bos_token_id, *ids[at : at + self.length - 1]] for at in starts]

    @torch.no_grad()
    def hidden(self, window: list[int]) -> list[torch.Tensor]:
        """Every layer's output, [tokens, width]."""
        kept = []
        hooks = [layer.register_forward_hook(lambda _m, _i, out: kept.append(first(out)[0])) for layer in self.layers]
        self.model(torch.tensor([window]))
        for hook in hooks:
            hook.remove()
        return kept

    @torch.no_grad()
    def nll(self, window: list[int], layer: int, change) -> float:
        """Mean next-token NLL with a change at the output of a layer; `change` may be none."""
        hooks = []
        if change is not None:
            hooks = [self.layers[layer].register_forward_hook(lambda _m, _i, out: change(out))]
        ids = torch.tensor([window])
        logits = self.model(ids).logits[0, :-1].float()
        for hook in hooks:
            hook.remove()
        return torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item()


def first(output):
    return output[0] if isinstance(output, tuple) else output


def massive(hidden: torch.Tensor) -> list[tuple[int, int]]:
    """Places above both thresholds."""
    magnitude = hidden.abs()
    median = magnitude.flatten().median()
    places = ((magnitude > ABSOLUTE) & (magnitude > RELATIVE * median)).nonzero()
    return [tuple(place) for place in places.tolist()]


def first_massive(layers: list[torch.Tensor]) -> tuple[int, list[tuple[int, int]]] | None:
    for index, hidden in enumerate(layers):
        if places := massive(hidden):
            return index, places
    return None


def analysis(folder: Path, calibration: Path, evaluation: Path, length: int, samples: int) -> dict:
    """existence-validation and intervention-analysis."""
    reference = Reference(folder, length)
    top1, medians, found = [], [], []
    for window in reference.windows(calibration)[:samples]:
        layers = reference.hidden(window)
        top1.append([hidden.abs().max().item() for hidden in layers])
        medians.append([hidden.abs().flatten().median().item() for hidden in layers])
        found.append((first_massive(layers), layers))
    with_massive = [(layer, places, layers) for known, layers in found if known for layer, places in [known]]
    first_layer = min(layer for layer, _, _ in with_massive)
    dimensions = sorted({d for known, layers in found for h in layers for _, d in massive(h)})
    values: dict[tuple[bool, int], list[float]] = {}
    for layer, places, layers in with_massive:
        if layer != first_layer:
            continue
        for position in {position for position, _ in places}:
            for dimension in dimensions:
                value = layers[layer][position, dimension].item()
                values.setdefault((position == 0, dimension), []).append(value)
    means = {key: math.fsum(all_values) / len(all_values) for key, all_values in values.items()}

    def write(window: list[int], value):
        known = first_massive(reference.hidden(window))
        positions = {position for position, _ in known[1]} if known else set()

        def change(output):
            hidden = first(output)
            for position in positions:
                for dimension in dimensions:
                    to = value((position == 0, dimension))
                    if to is not None:
                        hidden[0, position, dimension] = to
            return output

        return change

    windows = reference.windows(evaluation)

    def perplexity(value) -> float:
        changes = [None if value is None else write(window, value) for window in windows]
        nlls = [reference.nll(w, first_layer, change) for w, change in zip(windows, changes, strict=True)]
        return math.exp(math.fsum(nlls) / len(nlls))

    mean = [math.fsum(column) / len(column) for column in zip(*top1, strict=True)]
    median = [math.fsum(column) / len(column) for column in zip(*medians, strict=True)]
    return {
        "layers": [list(pair) for pair in zip(mean, median, strict=True)],
        "first_layer": first_layer,
        "dimensions": dimensions,
        "perplexity": {
            "original": perplexity(None),
            "set_to_zero": perplexity(lambda _key: 0.0),
            f"set_to_mean_{first_layer}": perplexity(means.get),
        },
    }


if __name__ == "__main__":
    # As a process of its own, so that its time is its own.
    folder, calibration, evaluation = (Path(argument) for argument in sys.argv[1:4])
    length, samples, threads = (int(argument) for argument in sys.argv[4:7])
    torch.set_num_threads(threads)
    print(json.dumps(analysis(folder, calibration, evaluation, length, samples)))
