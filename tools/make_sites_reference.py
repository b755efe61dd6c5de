"""Likelihoods under interventions at other places than the published one, from transformers in float64.

    python tools/make_sites_reference.py [--checkpoints tests/checkpoints] [--out tests/sites_reference.json]

Two windows of a checkpoint (the attention sequence of reference.json, and the same backwards). In one layer some
columns of one tensor are overwritten at some positions, by hooks on the modules that make or read it: with
zero, with the mean over both windows (position 0 apart from the others), with 3, or clipped to 0.25; or one
head of attention is switched off. Written is the mean next-token NLL of each window.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

LAYER = 1
DIMENSIONS = [1, 4]
CONSTANT, BOUND = 3.0, 0.25

# Where a site is, as (module inside a layer, "in" or "out"), or as the module of the model that makes it; the factor
# is on what a part adds.
LLAMA = {
    "layer_input": ("", "in"),
    "attention_input": ("self_attn", "in"),
    "v": ("self_attn.v_proj", "out"),
    "attention_output": ("self_attn", "out"),
    "mlp_input": ("mlp", "in"),
    "mlp_output": ("mlp", "out"),
    "layer_output": ("", "out"),
}
EXPERTS = {"expert_inner": ("mlp.experts", "inner"), "expert_output": ("mlp.experts", "given")}
FAMILIES = {
    "planted-llama": (
        "model.layers",
        "model.norm",
        "self_attn.o_proj",
        {**LLAMA, "mlp_inner": ("mlp.down_proj", "in")},
    ),
    "planted-gpt2": (
        "transformer.h",
        "transformer.ln_f",
        "attn.c_proj",
        {
            "layer_input": ("", "in"),
            "attention_output": ("attn", "out"),
            "mlp_inner": ("mlp.c_proj", "in"),
            "mlp_output": ("mlp", "out"),
        },
    ),
    "planted-gemma2": (
        "model.layers",
        "model.norm",
        "self_attn.o_proj",
        {
            "attention_output": ("post_attention_layernorm", "out"),
            "mlp_input": ("pre_feedforward_layernorm", "out"),
            "mlp_output": ("post_feedforward_layernorm", "out"),
        },
    ),
    "granite": (
        "model.layers",
        "model.norm",
        "self_attn.o_proj",
        {**LLAMA, "mlp_inner": ("mlp.down_proj", "in")},
    ),
    "mixtral": ("model.layers", "model.norm", "self_attn.o_proj", {**LLAMA, **EXPERTS}),
    "olmoe": ("model.layers", "model.norm", "self_attn.o_proj", EXPERTS),
    # A block beside the residual stream.
    "zamba2": (
        "model.layers",
        "model.final_layernorm",
        "shared_transformer.self_attn.o_proj",
        {
            # The block reads it, too.
            "embedding": "model.embed_tokens",
            "layer_input": ("", "in"),
            "attention_input": ("shared_transformer.self_attn", "in"),
            "attention_output": ("shared_transformer.self_attn", "out"),
            "mlp_input": ("shared_transformer.feed_forward", "in"),
            "mlp_inner": ("shared_transformer.feed_forward.down_proj", "in"),
            "mlp_output": ("linear", "out"),
            "mixer_output": ("mamba_decoder.mamba", "out"),
            "layer_output": ("", "out"),
        },
    ),
}


class Site:
    """Reads or overwrites a tensor; `change` maps [tokens, columns] to the same."""

    def __init__(self, model, layers, place, factor):
        self.change, self.seen, self.factor = None, None, factor
        if isinstance(place, str):
            model.get_submodule(place).register_forward_hook(self.after)
            return
        path, side = place
        layer = model.get_submodule(layers)[LAYER]
        module = layer.get_submodule(path) if path else layer
        if side in ("inner", "given"):
            module.forward = lambda *arguments: self.experts(module, side, *arguments)
        elif side == "in":
            module.register_forward_pre_hook(self.before, with_kwargs=True)
        else:
            module.register_forward_hook(self.after)

    def apply(self, tensor):
        values = tensor.reshape(-1, tensor.shape[-1]) * self.factor
        self.seen = values.detach().clone()
        if self.change is None:
            return tensor
        return (self.change(values.clone()) / self.factor).reshape(tensor.shape)

    def experts(self, module, side, hidden, indices, weights):
        """The experts' forward, a visit at a time, so that what is inside has a row a token: what the expert of
        the lowest number has first."""
        indices, order = indices.sort(dim=1)
        weights = weights.gather(1, order)
        gate, up = torch.einsum("th,tvoh->tvo", hidden, module.gate_up_proj[indices]).chunk(2, dim=-1)
        inner = module.act_fn(gate) * up
        if side == "inner":
            inner = self.apply(inner.flatten(1)).view_as(inner)
        given = torch.einsum("tvi,tvoi->tvo", inner, module.down_proj[indices])
        if side == "given":
            given = self.apply(given.flatten(1)).view_as(given)
        return (given * weights[..., None]).sum(1)

    def before(self, _module, args, kwargs):
        if args:
            return (self.apply(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.apply(kwargs["hidden_states"])}

    def after(self, _module, _args, output):
        if isinstance(output, tuple):
            return (self.apply(output[0]), *output[1:])
        return self.apply(output)


def likelihoods(model, windows):
    found = []
    for ids in windows:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        nll = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
        found.append(float(f"{nll.item():.9g}"))
    return found


def changes(site, model, windows, positions):
    """The changes by name, as functions of a window's tensor."""
    site.change = None
    seen = []
    for ids in windows:
        likelihoods(model, [ids])
        seen.append(site.seen)

    def each(value):
        def change(values):
            for position in positions:
                for dimension in DIMENSIONS:
                    values[position, dimension] = value(values, position, dimension)
            return values

        return change

    def mean(_values, position, dimension):
        group = [p for p in positions if (p == 0) == (position == 0)]
        return torch.stack([one[p, dimension] for one in seen for p in group]).mean()

    return {
        "set_to_zero": each(lambda *_: 0.0),
        f"set_to_mean_{LAYER}": each(mean),
        "set_to_3": each(lambda *_: CONSTANT),
        "clip_0.25": each(lambda values, p, d: values[p, d].clamp(-BOUND, BOUND)),
    }


def of_checkpoint(folder, description):
    layers, final_norm, output, sites = description
    reference = json.loads((folder / "reference.json").read_text())
    ids = reference["sequences"][reference["attention_sequence"]]["token_ids"]
    windows = [ids, ids[::-1]]
    cases = []

    def load():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        ).eval()
        model.config._experts_implementation = "eager"
        return model

    places = {**sites, "final_norm": final_norm}
    for name, place in places.items():
        model = load()
        multiplier = getattr(model.config, "residual_multiplier", None)
        factor = multiplier if multiplier and name in ("attention_output", "mlp_output") else 1.0
        site = Site(model, layers, place, factor)
        for at, positions in (("first", [0]), ("all", list(range(len(ids))))):
            nll = {}
            for change, function in changes(site, model, windows, positions).items():
                site.change = function
                # A module of the model is of no layer.
                key = change.replace(f"mean_{LAYER}", "mean_0") if isinstance(place, str) else change
                nll[key] = likelihoods(model, windows)
            cases.append({"site": name, "positions": at, "nll": nll})
    model = load()
    original = likelihoods(model, windows)
    heads = model.config.num_attention_heads
    projection = model.get_submodule(layers)[LAYER].get_submodule(output)

    def off(_module, args):
        context = args[0].clone()
        width = context.shape[-1] // heads
        context[..., width : 2 * width] = 0.0
        return (context, *args[1:])

    projection.register_forward_pre_hook(off)
    return {
        "windows": windows,
        "layer": LAYER,
        "dimensions": DIMENSIONS,
        "original": original,
        f"head_off_{LAYER}.1": likelihoods(model, windows),
        "cases": cases,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--checkpoints", type=Path, default=root / "tests/checkpoints")
    parser.add_argument("--out", type=Path, default=root / "tests/sites_reference.json")
    arguments = parser.parse_args()
    found = {
        name: of_checkpoint(arguments.checkpoints / name, description)
        for name, description in FAMILIES.items()
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
