"""Amplify the massive activation of a trained demo checkpoint, in the open, and ship both.

    python tools/amplify_demo.py --work DIR --checkpoint DIR/checkpoints/STEP --out assets/demo

Why: in the trained model one neuron of one layer writes a vector at position 0 that stands out by a
factor of about a hundred, where massact's default thresholds ask for a thousand times the layer's
median. The layers after it read that vector through RMSNorm, which divides its length out, so the model
hardly cares how long it is. This script makes it longer: the neuron's column of the down projection is
multiplied by a power of two (W' = W + (factor - 1) w e^T, a rank-one change, exact in bfloat16), and
nothing else changes.

Written to OUT: the Hugging Face folder in bfloat16, and `unamplified.safetensors` with the one tensor
that differs as it was. tools/check_demo.py measures what was written.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent / "train_demo"))
from data import even_windows, token_stream  # noqa: E402
from measure import layer_outputs, layer_table, mean_nll  # noqa: E402
from sink import module_outputs  # noqa: E402


def find_writer(model, outputs, windows):
    """The layer at which position 0 begins to stand out, and its neuron that writes most there."""
    ratios = [0.0] + [out[:, 0].abs().max().item() / out.abs().median().item() for out in outputs]
    growth = [after - before for before, after in zip(ratios, ratios[1:])]
    layer = max(range(len(growth)), key=growth.__getitem__)
    mlp = model.model.layers[layer].mlp
    first, _ = module_outputs(model, mlp.act_fn, windows)
    up, _ = module_outputs(model, mlp.up_proj, windows)
    written = (first * up).abs() * mlp.down_proj.weight.norm(dim=0)
    return layer, written.argmax().item()


def round_to_bfloat16(model):
    """Replace every weight by its bfloat16 rounding, still held in float32."""
    for tensor in model.state_dict().values():
        tensor.copy_(tensor.to(torch.bfloat16))


def write_folder(model, work, out, layer, original):
    """The Hugging Face folder, and beside it the tensor that the amplification changed."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    model.to(torch.float32)
    name = f"model.layers.{layer}.mlp.down_proj.weight"
    save_file({name: original.to(torch.bfloat16).contiguous()}, out / "unamplified.safetensors")
    shutil.copyfile(work / "tokenizer.json", out / "tokenizer.json")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "add_bos_token": False,
        "model_max_length": model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


@torch.no_grad()
def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--work", type=Path, required=True)
    cli.add_argument("--checkpoint", type=Path, required=True)
    cli.add_argument("--out", type=Path, required=True)
    cli.add_argument("--factor", type=float, default=16.0)
    args = cli.parse_args()
    torch.set_num_threads(1)

    model = LlamaForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    round_to_bfloat16(model)
    held_out = even_windows(token_stream(args.work, "val"), 40, 256)

    nll_before = mean_nll(model, held_out)
    layer, neuron = find_writer(model, layer_outputs(model, held_out), held_out)
    weight = model.model.layers[layer].mlp.down_proj.weight
    original = weight.clone()
    weight[:, neuron] *= args.factor

    nll = mean_nll(model, held_out)
    print(f"layer {layer}, neuron {neuron}, times {args.factor:g}")
    for index, (top, median, ratio) in enumerate(layer_table(layer_outputs(model, held_out))):
        print(f"layer {index}: top1 {top:.1f} median {median:.3f} ratio {ratio:.0f}")
    print(f"val NLL {nll_before:.4f} -> {nll:.4f} ({100 * (nll / nll_before - 1):+.2f} %)")
    write_folder(model, args.work, args.out, layer, original)


if __name__ == "__main__":
    main()
