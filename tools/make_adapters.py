"""Builds the small LoRA adapters of tests/adapters and what peft computes with them.

    python tools/make_adapters.py [--out tests/adapters] [NAME ...]

Each adapter sits on a committed checkpoint of tests/checkpoints, with random values in all of its
parameters (a new adapter's B is zero, which would test nothing). reference.json has the base's name, token
ids, and what peft's model, in float32 with eager attention and not merged, makes of them: largest and median
magnitude of every layer's output, mean NLL, logits of the last position. `noise` is the largest difference
of float32, whether the products are merged into the weights or not, from float64: in the units of the numbers
for NLL, of their root mean square for logits, relative for the rest.
"""

import argparse
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

CHECKPOINTS = Path(__file__).resolve().parents[1] / "tests" / "checkpoints"
LLAMA = ["q_proj", "v_proj", "down_proj"]


def config(**keys) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", **keys})


# Name: base, settings, type that the adapter is stored in.
CASES = {
    "llama-list": ("llama-gqa3-f32", config(target_modules=LLAMA), torch.float32),
    "llama-all-linear": (
        "llama-gqa7-head-dim",
        config(target_modules="all-linear", r=3, layers_to_transform=None),
        torch.float32,
    ),
    # A regular expression, ranks and factors by pattern, the root of the rank, 16 bits on 16 bits; the head
    # is tied, and its module is adapted, the embedding's not.
    "llama-patterns": (
        "llama-tied-bf16-sharded",
        config(
            target_modules=r".*\.layers\.[02]\.(self_attn\.[qkvo]_proj|mlp\.up_proj)|lm_head",
            use_rslora=True,
            rank_pattern={"k_proj": 2, r"^model\.layers\.2\.self_attn\.q_proj": 7},
            alpha_pattern={"layers.0.mlp.up_proj": 11, ".*q_proj": 3},
        ),
        torch.bfloat16,
    ),
    "llama-layers": (
        "llama-f16",
        config(target_modules=LLAMA, layers_to_transform=[1]),
        torch.float16,
    ),
    "llama-lora-bias": (
        "llama-biases",
        config(target_modules=["q_proj", "up_proj"], bias="lora_only"),
        torch.float32,
    ),
    "qwen2-saved-modules": (
        "qwen2",
        config(target_modules=LLAMA, bias="all", modules_to_save=["embed_tokens", "lm_head", "norm"]),
        torch.float32,
    ),
    # Stored as [in, out]; the embedding's module is adapted, the tied head's not.
    "gpt2-embedding": (
        "gpt2-f32",
        config(target_modules=["c_attn", "c_fc", "c_proj", "wte"], fan_in_fan_out=True),
        torch.float32,
    ),
    "gpt2-bare-names": (
        "gpt2-bare-names",
        config(target_modules=["attn.c_proj", "c_attn"], fan_in_fan_out=True),
        torch.float32,
    ),
    # One matrix for queries, keys and values.
    "gpt-neox-fused": (
        "gpt-neox-parallel",
        config(target_modules=["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
        torch.float32,
    ),
    # As older versions of the library save it.
    "llama-pickled": (
        "llama-gqa3-f32",
        config(target_modules=["o_proj"], r=2),
        torch.bfloat16,
    ),
    "phi3-fused": (
        "phi3-window",
        config(target_modules=["qkv_proj", "gate_up_proj"]),
        torch.float32,
    ),
}


def base(name: str, dtype=torch.float32):
    folder = CHECKPOINTS / name
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.to(dtype).eval()


def make(name: str, out: Path) -> None:
    on, settings, stored = CASES[name]
    torch.manual_seed(sum(name.encode()))
    model = get_peft_model(base(on), settings)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn_like(value) * (0.3 if "_B" in key else 0.5))
            elif value.requires_grad:
                value.add_(torch.randn_like(value) * 0.1)
    shutil.rmtree(out, ignore_errors=True)
    safe = "pickled" not in name
    model.to(stored).save_pretrained(out, save_embedding_layers=False, safe_serialization=safe)
    (out / "README.md").unlink(missing_ok=True)
    path = out / "adapter_config.json"
    written = json.loads(path.read_text())
    # The library's own version and empty settings say nothing here.
    written["base_model_name_or_path"] = f"../../checkpoints/{on}"
    for key, value in written.items():
        # Sets, which the library writes in any order.
        if isinstance(value, list):
            written[key] = sorted(value)
    path.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")


def layers(model):
    count = model.config.num_hidden_layers
    lists = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count)
    return next(lists)


def merge(model) -> None:
    for module in model.modules():
        if isinstance(module, LoraLayer):
            layer = module.get_base_layer()
            # Another module's weight may be the same tensor.
            layer.weight = torch.nn.Parameter(layer.weight.clone())
            module.merge()


@torch.no_grad()
def measure(on: str, folder: Path, ids: list[int], dtype, merged: bool = False) -> dict:
    # As float32, whatever it is stored in: the adapter's values are widened, not its products.
    model = PeftModel.from_pretrained(base(on), folder, torch_dtype=torch.float32).float().to(dtype).eval()
    if merged:
        merge(model)
    hidden = []
    hooks = [
        layer.register_forward_hook(
            lambda _m, _i, output: hidden.append(output[0] if isinstance(output, tuple) else output)
        )
        for layer in layers(model.get_base_model())
    ]
    logits = model(torch.tensor([ids])).logits[0]
    for hook in hooks:
        hook.remove()
    nll = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
    magnitudes = [h.abs().flatten() for h in hidden]
    return {
        "nll": nll.item(),
        "last_logits": logits[-1].tolist(),
        "layers": [{"max": m.max().item(), "median": m.median().item()} for m in magnitudes],
    }


def noise(one: dict, two: dict) -> dict:
    def relative(key: str) -> float:
        pairs = zip(one["layers"], two["layers"])
        return max(abs(a[key] - b[key]) / b[key] for a, b in pairs)

    a, b = np.array(one["last_logits"]), np.array(two["last_logits"])
    return {
        "nll": abs(one["nll"] - two["nll"]),
        "last_logits": float(np.abs(a - b).max() / np.sqrt((b * b).mean())),
        "max": relative("max"),
        "median": relative("median"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="adapters to build (default: all)")
    parser.add_argument("--out", type=Path, default=Path("tests/adapters"))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in arguments.names or CASES:
        out = arguments.out / name
        make(name, out)
        on = CASES[name][0]
        vocabulary = json.loads((CHECKPOINTS / on / "config.json").read_text())["vocab_size"]
        ids = np.random.default_rng(len(name)).integers(3, vocabulary, 17).tolist()
        single = measure(on, out, ids, torch.float32)
        double = measure(on, out, ids, torch.float64)
        merged = measure(on, out, ids, torch.float32, merged=True)
        noises = noise(single, double), noise(merged, double)
        largest = {key: max(each[key] for each in noises) for key in noises[0]}
        reference = {"base": on, "token_ids": ids, **single, "noise": largest}
        (out / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")
        size = sum(file.stat().st_size for file in out.iterdir())
        print(f"{name}: {size} bytes, noise {reference['noise']}", flush=True)


if __name__ == "__main__":
    main()
