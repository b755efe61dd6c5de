"""Measure the shipped demo checkpoint, from the shipped files alone, and print the model card's tables.

    python tools/check_demo.py

Loads assets/demo through transformers in float32, tokenizes assets/text/technical_english.txt and cuts
it into windows that start with `<s>`. The unamplified model is the same one with the tensor of
unamplified.safetensors put back.
"""

import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent / "train_demo"))
from measure import layer_outputs, layer_table, massive_dims, mean_nll  # noqa: E402

REPOSITORY = Path(__file__).parent.parent
DEMO = REPOSITORY / "assets/demo"
TEXT = REPOSITORY / "assets/text/technical_english.txt"


def cut(ids, count, length, bos_id):
    """`count` windows of `length` tokens spread evenly over the text; `<s>` first unless bos_id is None."""
    body = length if bos_id is None else length - 1
    starts = [i * (len(ids) - body) // (count - 1) for i in range(count)]
    first = [] if bos_id is None else [bos_id]
    return torch.tensor([first + ids[s:s + body] for s in starts])


def first_massive_layer(outputs):
    """The first layer after which position 0 holds a massive value, and the dimensions there."""
    for layer, out in enumerate(outputs):
        dims = massive_dims(out)
        if dims:
            return layer, dims
    raise SystemExit("no massive value at position 0 of the first sequence")


def print_layers(before, after, outputs):
    print("| layer | top1 before | median before | ratio before | top1 after | median after | ratio after"
          " | smallest ratio of a sequence | massive dims at position 0 |")
    print("|---" * 9 + "|")
    for index, (b, a, out) in enumerate(zip(before, after, outputs)):
        flat = out.abs().flatten(1)
        smallest = (flat.amax(1) / flat.median(1).values).min().item()
        dims = ", ".join(f"{d} ({out[0, 0, d]:.0f})" for d in massive_dims(out)) or "-"
        print(f"| {index} | {b[0]:.1f} | {b[1]:.2f} | {b[2]:.0f} | {a[0]:.1f} | {a[1]:.2f} | {a[2]:.0f}"
              f" | {smallest:.0f} | {dims} |")


def print_interventions(model, windows, layer, dims, values):
    """What overwriting the massive values of one layer's output does to the perplexity."""
    for name, replacement in (("none", None), ("set to zero", 0.0), ("set to their mean", values)):
        nll = mean_nll(model, windows, replacement if replacement is None else (layer, dims, replacement))
        print(f"| {name} | {nll:.4f} | {math.exp(nll):.2f} |")


def main():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    ids = tokenizer(TEXT.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"]
    bos = tokenizer.bos_token_id
    print(f"{len(ids)} tokens of sample text; <s> = {bos}, </s> = {tokenizer.eos_token_id}")

    amplified = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    unamplified = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    _, unexpected = unamplified.load_state_dict(load_file(DEMO / "unamplified.safetensors"), strict=False)
    assert not unexpected, unexpected

    windows = cut(ids, 40, 256, bos)
    outputs_before, outputs = layer_outputs(unamplified, windows), layer_outputs(amplified, windows)
    print("\nLayer outputs, 40 windows of 256 tokens\n")
    print_layers(layer_table(outputs_before), layer_table(outputs), outputs)

    layer, dims = first_massive_layer(outputs)
    print(f"\nInterventions on the massive values of layer {layer}, dims {dims}, same windows\n")
    print("| amplified model | NLL | perplexity |\n|---|---|---|")
    print_interventions(amplified, windows, layer, dims, outputs[layer][:, 0, dims].mean(0))
    print("\n| unamplified model, same dims | NLL | perplexity |\n|---|---|---|")
    print_interventions(unamplified, windows, layer, dims, outputs_before[layer][:, 0, dims].mean(0))

    print("\nOther lengths, and windows without <s> (amplified; layer ratios)\n")
    print("| windows | NLL unamplified | NLL amplified | layers massive by default thresholds | ratio per layer |")
    print("|---" * 5 + "|")
    for count, length, first in ((40, 64, bos), (40, 128, bos), (40, 256, bos), (20, 512, bos), (40, 256, None)):
        windows = cut(ids, count, length, first)
        table = layer_table(layer_outputs(amplified, windows))
        massive = [str(i) for i, (top, _, ratio) in enumerate(table) if top > 100 and ratio >= 1000]
        label = f"{count} of {length}" + ("" if first is not None else ", without <s>")
        print(f"| {label} | {mean_nll(unamplified, windows):.4f} | {mean_nll(amplified, windows):.4f}"
              f" | {', '.join(massive) or 'none'} | {', '.join(f'{row[2]:.0f}' for row in table)} |")


if __name__ == "__main__":
    main()
