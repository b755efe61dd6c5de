"""The life of single values of the residual stream, from transformers in float64.

    python tools/make_life_reference.py [--checkpoints tests/checkpoints] [--out tests/life_reference.json]

For chosen (position, dimension) of the attention sequence of reference.json: the value before and after every
decoder layer, what attention and the MLP add to it, the layers of the rise and of the fall, and in each layer
the neuron of the MLP with the largest product of activation and weight; of experts, the expert too.

Hooks on modules give the tensors; the sums and products are numpy's. Nothing of massact is used. The families
are those whose layers are wired differently: pre-norm (Llama; GPT-2, whose weights are transposed), sandwich
norms (Gemma 2), both parts on one input (Falcon), factors on what is added (Granite), norms on the stream
itself (OPT with its norms behind), experts (Mixtral).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM


class Family:
    """Where a family has what is needed, by paths inside a decoder layer."""

    def __init__(self, layers, attention, mlp, down, factor=lambda config: 1.0, norms=()):
        self.layers = layers
        # Modules whose output is what attention and the MLP add, but for the factor.
        self.attention, self.mlp = attention, mlp
        # The down projection, or the module of the experts.
        self.down = down
        self.factor = factor
        # Norms on the stream itself.
        self.norms = norms


FAMILIES = {
    "planted-llama": Family("model.layers", "self_attn", "mlp", "mlp.down_proj"),
    "planted-gpt2": Family("transformer.h", "attn", "mlp", "mlp.c_proj"),
    "planted-gemma2": Family(
        "model.layers", "post_attention_layernorm", "post_feedforward_layernorm", "mlp.down_proj"
    ),
    "planted-falcon": Family("transformer.h", "self_attention", "mlp", "mlp.dense_4h_to_h"),
    "granite": Family(
        "model.layers",
        "self_attn",
        "mlp",
        "mlp.down_proj",
        factor=lambda config: config.residual_multiplier,
    ),
    "opt-post-norm-projected": Family(
        "model.decoder.layers",
        "self_attn",
        "fc2",
        "fc2",
        norms=("self_attn_layer_norm", "final_layer_norm"),
    ),
    "mixtral": Family("model.layers", "self_attn", "mlp", "mlp.experts"),
}

# Followed where nothing is massive, and beside what is.
PLACES = [(2, 4), (5, 0), (12, 7)]
MOST = 6


def first(value):
    return value[0] if isinstance(value, tuple) else value


def rows(tensor):
    """[tokens, columns] as numpy, of [1, tokens, columns] or [tokens, columns]."""
    return first(tensor).detach().reshape(-1, first(tensor).shape[-1]).numpy()


class Recorder:
    """Inputs and outputs of modules, by layer and path."""

    def __init__(self, layers, paths):
        self.inputs, self.outputs = {}, {}
        for index, layer in enumerate(layers):
            for path in paths:
                module = layer.get_submodule(path) if path else layer
                module.register_forward_hook(self.hook(index, path), with_kwargs=True)

    def hook(self, index, path):
        def keep(_module, args, kwargs, output):
            arguments = list(args) + list(kwargs.values())
            self.inputs[index, path] = [a.detach() for a in arguments if torch.is_tensor(a)]
            # A copy: Falcon adds to it in place.
            self.outputs[index, path] = rows(output).copy()

        return keep


def experts_neuron(module, arguments, position, dimension):
    """Of the experts that a token visits: what each adds, and the largest product."""
    hidden, indices, weights = arguments[:3]
    hidden = hidden.reshape(-1, hidden.shape[-1])[position].numpy()
    added, best = {}, None
    gate_up, down = module.gate_up_proj.detach().numpy(), module.down_proj.detach().numpy()
    for expert, weight in zip(indices[position].tolist(), weights[position].tolist()):
        gate, up = np.split(gate_up[expert] @ hidden, 2)
        inner = module.act_fn(torch.from_numpy(gate)).numpy() * up
        products = down[expert][dimension] * inner
        added[expert] = weight * products.sum()
        neuron = int(np.abs(products).argmax())
        found = {
            "expert": expert,
            "neuron": neuron,
            "weight": down[expert][dimension][neuron],
            "activation": inner[neuron],
            "product": products[neuron],
        }
        if best is None or abs(found["product"]) > abs(best["product"]):
            best = found
    return best, added


def dense_neuron(module, arguments, position, dimension):
    inner = rows(arguments[0])[position]
    matrix = module.weight.detach().numpy()
    # GPT-2's Conv1D stores [in, out].
    row = matrix[:, dimension] if type(module).__name__ == "Conv1D" else matrix[dimension]
    products = row * inner
    neuron = int(np.abs(products).argmax())
    return {
        "expert": None,
        "neuron": neuron,
        "weight": row[neuron],
        "activation": inner[neuron],
        "product": products[neuron],
    }


def turns(changes):
    rise = int(np.argmax(changes))
    after = changes[rise + 1 :]
    fall = rise + 1 + int(np.argmin(after)) if len(after) and min(after) < 0 else None
    return rise, fall


def life(model, family, recorder, stream, position, dimension):
    factor = family.factor(model.config)
    layers = model.get_submodule(family.layers)
    steps = []
    for index, layer in enumerate(layers):
        added = {
            "attention": factor * recorder.outputs[index, family.attention][position, dimension],
            "mlp": factor * recorder.outputs[index, family.mlp][position, dimension],
        }
        before, after = stream[index][position, dimension], stream[index + 1][position, dimension]
        norm = None
        if family.norms:
            norm = 0.0
            for path in family.norms:
                inside = rows(recorder.inputs[index, path][0])[position, dimension]
                norm += recorder.outputs[index, path][position, dimension] - inside
        total = before + sum(added.values()) + (norm or 0.0)
        assert abs(total - after) <= 1e-9 * max(1.0, abs(after)), (index, total, after)
        arguments = recorder.inputs[index, family.down]
        module = layer.get_submodule(family.down)
        experts = None
        if hasattr(module, "gate_up_proj"):
            neuron, parts = experts_neuron(module, arguments, position, dimension)
            experts = [[expert, value] for expert, value in sorted(parts.items())]
        else:
            neuron = dense_neuron(module, arguments, position, dimension)
        steps.append(
            {
                "input": before,
                **added,
                "norm": norm,
                "output": after,
                "neuron": neuron,
                "experts": experts,
            }
        )
    values = np.abs([stream[index][position, dimension] for index in range(len(layers) + 1)])
    norms = [float(np.linalg.norm(tensor[position])) for tensor in stream]
    rise, fall = turns(np.diff(values))
    token_rise, token_fall = turns(np.diff(norms))
    step = steps[rise]["output"] - steps[rise]["input"]
    return {
        "position": position,
        "dimension": dimension,
        "rise": rise,
        "fall": fall,
        "mlp_share": steps[rise]["mlp"] / step if step else None,
        "norms": norms,
        "token_rise": token_rise,
        "token_fall": token_fall,
        "layers": steps,
    }


def of_checkpoint(folder, family):
    reference = json.loads((folder / "reference.json").read_text())
    sequence = reference["sequences"][reference["attention_sequence"]]
    found = [
        (abs(entry["value"]), entry["position"], entry["dimension"])
        for layer in sequence["layers"]
        for entry in layer["massive"]
    ]
    places = []
    for _, position, dimension in sorted(found, reverse=True):
        if (position, dimension) not in places:
            places.append((position, dimension))
    places = places[:MOST] + [place for place in PLACES if place not in places[:MOST]]
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    # Grouped products have no float64.
    model.config._experts_implementation = "eager"
    layers = model.get_submodule(family.layers)
    paths = {"", family.attention, family.mlp, family.down, *family.norms}
    recorder = Recorder(layers, paths)
    with torch.no_grad():
        model(torch.tensor([sequence["token_ids"]]))
    stream = [rows(recorder.inputs[0, ""][0])]
    stream += [recorder.outputs[index, ""] for index in range(len(layers))]
    lives = [life(model, family, recorder, stream, *place) for place in places]
    return {"token_ids": sequence["token_ids"], "lives": lives}


def rounded(value):
    """Nine digits: more than float32 has."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.9g}")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--checkpoints", type=Path, default=root / "tests/checkpoints")
    parser.add_argument("--out", type=Path, default=root / "tests/life_reference.json")
    arguments = parser.parse_args()
    found = {
        name: rounded(of_checkpoint(arguments.checkpoints / name, family))
        for name, family in FAMILIES.items()
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
