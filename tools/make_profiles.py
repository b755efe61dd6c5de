"""The distribution of tensors of the forward pass, from transformers in float32 and numpy in float64.

    python tools/make_profiles.py [--checkpoints tests/checkpoints] [NAME ...]

Writes `profile.json` into the folder of each checkpoint: for the longest sequence of reference.json the
statistics of every tensor that a module of the reference model takes or returns, by their definitions:

- median: the lower of the two middle values of |x|; quantiles: numpy.quantile of |x| in float64;
- kurtosis: the fourth central moment over the squared variance, less 3;
- per_token_ratio: the largest over tokens of max |x| over the lower median of |x|, tokens with median 0
  left out;
- residual_sinks: dimensions above 5 times the token's root mean square on more than half of the tokens;
- int8: s * clip(rint(x / s), -127, 127) with s = max |x| / 127, clipped with s = quantile 0.999 / 127.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from rounded import rounded

QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
TOP_K = 5
LARGE = 5.0

# For each wiring: where the layers are, what stands after them, and for each site the module whose input
# ("in") or output ("out") it is.
PRE_NORM = {
    "attention_input": ("input_layernorm", "out"),
    "v": ("self_attn.v_proj", "out"),
    "attention_output": ("self_attn", "out"),
    "residual_mid": ("post_attention_layernorm", "in"),
    "mlp_input": ("post_attention_layernorm", "out"),
    "mlp_output": ("mlp", "out"),
}
GATED = {"gate": ("mlp.act_fn", "out"), "mlp_inner": ("mlp.down_proj", "in")}
SITES = {
    "planted-llama": ("model.layers", "model.norm", PRE_NORM | GATED),
    "planted-gpt2": (
        "transformer.h",
        "transformer.ln_f",
        {
            "attention_input": ("ln_1", "out"),
            "attention_output": ("attn", "out"),
            "residual_mid": ("ln_2", "in"),
            "mlp_input": ("ln_2", "out"),
            "gate": ("mlp.act", "out"),
            "mlp_inner": ("mlp.c_proj", "in"),
            "mlp_output": ("mlp", "out"),
        },
    ),
    "planted-gemma2": (
        "model.layers",
        "model.norm",
        GATED
        | {
            "attention_input": ("input_layernorm", "out"),
            "v": ("self_attn.v_proj", "out"),
            "attention_output": ("post_attention_layernorm", "out"),
            "residual_mid": ("pre_feedforward_layernorm", "in"),
            "mlp_input": ("pre_feedforward_layernorm", "out"),
            "mlp_output": ("post_feedforward_layernorm", "out"),
        },
    ),
    "planted-olmo2": (
        "model.layers",
        "model.norm",
        GATED
        | {
            "v": ("self_attn.v_proj", "out"),
            "attention_output": ("post_attention_layernorm", "out"),
            "residual_mid": ("mlp", "in"),
            "mlp_input": ("mlp", "in"),
            "mlp_output": ("post_feedforward_layernorm", "out"),
        },
    ),
    "gpt-neox-parallel": (
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        {
            "attention_input": ("input_layernorm", "out"),
            "attention_output": ("attention", "out"),
            "mlp_input": ("post_attention_layernorm", "out"),
            "gate": ("mlp.act", "out"),
            "mlp_output": ("mlp", "out"),
        },
    ),
    "qwen3-moe": ("model.layers", "model.norm", PRE_NORM),
}


def first(value) -> torch.Tensor:
    """The tensor of a module's arguments or of what it returns."""
    return value if isinstance(value, torch.Tensor) else value[0]


@torch.no_grad()
def observe(model, layers: str, norm: str, sites: dict, token_ids: list[int]) -> dict:
    """By (site, layer) the `[tokens, width]` values."""
    found, handles = {}, []

    def watch(module, site: str, layer: int, end: str):
        def keep(value):
            found[site, layer] = first(value).detach().clone().flatten(0, -2).double().numpy()

        if end == "in":
            hook = module.register_forward_pre_hook(lambda _, arguments: keep(arguments))
        else:
            hook = module.register_forward_hook(lambda _, __, output: keep(output))
        handles.append(hook)

    modules = list(model.get_submodule(layers))
    for number, layer in enumerate(modules):
        if number == 0:
            watch(layer, "embedding", 0, "in")
        watch(layer, "layer_input", number, "in")
        watch(layer, "layer_output", number, "out")
        for site, (name, end) in sites.items():
            watch(layer.get_submodule(name), site, number, end)
    watch(model.get_submodule(norm), "final_norm", 0, "out")
    model(torch.tensor([token_ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def lower_median(magnitudes: np.ndarray) -> float:
    """The lower of the two middle values."""
    return float(np.sort(magnitudes.ravel())[(magnitudes.size - 1) // 2])


def sqnr(x: np.ndarray, most: float) -> float | None:
    """Signal over noise of eight bits, in decibels."""
    if most == 0:
        return None
    scale = most / 127
    noise = ((x - scale * np.clip(np.rint(x / scale), -127, 127)) ** 2).sum()
    return float(10 * np.log10((x**2).sum() / noise)) if noise > 0 else None


def profile(x: np.ndarray) -> dict:
    """The statistics of one tensor."""
    magnitudes = np.abs(x)
    order = np.argsort(-magnitudes.ravel(), kind="stable")[:TOP_K]
    places = [divmod(int(index), x.shape[1]) for index in order]
    mean, variance = x.mean(), x.var()
    ratios = [row.max() / lower_median(row) for row in magnitudes if lower_median(row) > 0]
    large = (magnitudes > LARGE * np.sqrt((x**2).mean(1, keepdims=True))).mean(0)
    most = magnitudes.max()
    quantiles = {str(q): float(np.quantile(magnitudes, q)) for q in QUANTILES}
    return {
        "max": float(most),
        "top": [{"position": p, "dimension": d, "value": float(x[p, d])} for p, d in places],
        "rms": float(np.sqrt((x**2).mean())),
        "mean": float(mean),
        "std": float(np.sqrt(variance)),
        "kurtosis": float(((x - mean) ** 4).mean() / variance**2 - 3),
        "median": lower_median(magnitudes),
        "quantiles": quantiles,
        "per_token_ratio": float(max(ratios)) if ratios else None,
        "residual_sinks": [int(d) for d in np.flatnonzero(large > 0.5)],
        "float16_headroom": float(65504 / most),
        "int8_sqnr_db": sqnr(x, most),
        "int8_sqnr_clipped_db": sqnr(x, quantiles["0.999"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=Path("tests/checkpoints"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    for name in arguments.names or SITES:
        folder = arguments.checkpoints / name
        sequences = json.loads((folder / "reference.json").read_text())["sequences"]
        token_ids = max((one["token_ids"] for one in sequences), key=len)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            experts_implementation="eager",
        ).eval()
        layers, norm, sites = SITES[name]
        found = observe(model, layers, norm, sites, token_ids)
        profiles = [
            {"site": site, "layer": layer} | rounded(profile(x)) for (site, layer), x in found.items()
        ]
        lines = ",\n".join(json.dumps(one) for one in profiles)
        text = f'{{"token_ids": {json.dumps(token_ids)}, "sites": [\n{lines}\n]}}\n'
        (folder / "profile.json").write_text(text)
        print(f"{name}: {len(profiles)} tensors of {len(token_ids)} tokens, {len(text)} bytes")


if __name__ == "__main__":
    main()
