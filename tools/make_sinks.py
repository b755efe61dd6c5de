"""Attention sinks and the compression of hidden states, from transformers in float32 and numpy in float64.

    python tools/make_sinks.py [--checkpoints tests/checkpoints] [NAME ...]

Writes `sinks.json` into the folder of each checkpoint: the token ids of two sequences, and of all
layers what `docs/experiments.md` defines. Probabilities are the model's own (`output_attentions`), hidden
states the outputs of its layers, values the outputs of its value projections, and what heads give the inputs of
its output projections, by their weights.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from rounded import rounded

# Lower than the papers' 0.3, 0.9 and 4: small random models have no strong sinks.
EPSILON, COSINE, MORE_THAN = 0.17, 0.4, 1
TOKENS = 24
# Where the layers are, the module with the values, or none where they are part of a larger output, and the
# module that projects what the heads give.
PLACES = {
    "planted-llama": ("model.layers", "self_attn.v_proj", "self_attn.o_proj"),
    "planted-gpt2": ("transformer.h", None, "attn.c_proj"),
    "planted-gemma2": ("model.layers", "self_attn.v_proj", "self_attn.o_proj"),
    "planted-olmo2": ("model.layers", "self_attn.v_proj", "self_attn.o_proj"),
    "planted-lfm2": ("model.layers", "self_attn.v_proj", "self_attn.out_proj"),
}


def child(module, name: str | None):
    """The submodule, if there is one."""
    try:
        return module.get_submodule(name) if name else None
    except AttributeError:
        return None


@torch.no_grad()
def observe(model, layers: str, value: str | None, projection: str, token_ids: list[int]):
    """Hidden states and values by layer, and probabilities and what heads give by layer with attention."""
    hidden, values, given, handles = {}, {}, {}, []
    attends = []

    def keep(into, layer):
        def hook(_, __, output):
            output = output if isinstance(output, torch.Tensor) else output[0]
            into[layer] = output.detach()[0].double().numpy()

        return hook

    def keep_input(layer):
        def hook(_, arguments):
            given[layer] = arguments[0].detach()[0].double().numpy()

        return hook

    for number, layer in enumerate(model.get_submodule(layers)):
        handles.append(layer.register_forward_hook(keep(hidden, number)))
        if child(layer, "self_attn") is not None or child(layer, "attn") is not None:
            attends.append(number)
        if (module := child(layer, value)) is not None:
            handles.append(module.register_forward_hook(keep(values, number)))
        if (module := child(layer, projection)) is not None:
            handles.append(module.register_forward_pre_hook(keep_input(number)))
    output = model(torch.tensor([token_ids]), output_attentions=True, use_cache=False)
    for handle in handles:
        handle.remove()
    maps = [one for one in output.attentions if one is not None]
    assert len(maps) == len(attends) == len(given), (len(maps), attends, len(given))
    probabilities = {layer: one[0].double().numpy() for layer, one in zip(attends, maps)}
    return hidden, values, probabilities, given


def received(probabilities: np.ndarray) -> np.ndarray:
    """`[heads, T]`: alpha_k, over the queries that see key k."""
    tokens = probabilities.shape[-1]
    return probabilities.sum(1) / (tokens - np.arange(tokens))


def compression(states: np.ndarray) -> dict:
    """Of one sequence's hidden states."""
    shares = np.linalg.svd(states, compute_uv=False) ** 2 / (states**2).sum()
    shares = shares[shares > 0]
    entropy = float(-(shares * np.log(shares)).sum())
    norms = np.linalg.norm(states, axis=1)
    return {
        "matrix_entropy": entropy,
        "matrix_entropy_normalised": entropy / np.log(min(states.shape)),
        "anisotropy": float(shares.max()),
        "first_norm_ratio": float(norms[0] / norms.mean()),
    }


def drain(values: np.ndarray, heads: int) -> list[float]:
    """By key/value head the first token's norm over the lower median."""
    norms = np.linalg.norm(values.reshape(len(values), heads, -1), axis=2)
    return list(norms[0] / np.sort(norms, axis=0)[(len(norms) - 1) // 2])


def head_norms(given: np.ndarray, module, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """By head the mean over tokens of the norm of its output, before and behind the projection."""
    weight = module.weight.detach().double().numpy()
    # A linear module has [out, in], GPT-2's Conv1D [in, out].
    weight = weight if type(module).__name__ == "Conv1D" else weight.T
    outputs = given.reshape(len(given), heads, -1).transpose(1, 0, 2)
    projected = outputs @ weight.reshape(heads, -1, weight.shape[1])
    return tuple(np.linalg.norm(x, axis=2).mean(1) for x in (outputs, projected))


def secondary(hidden: list[dict], masses: list[dict]) -> list[dict]:
    """Tokens that point where the first does in many layers."""
    found = []
    for sequence, states in enumerate(hidden):
        norms = {layer: np.linalg.norm(x, axis=1) for layer, x in states.items()}
        for position in range(1, len(states[0])):
            layers = [
                layer
                for layer, x in states.items()
                if abs(x[position] @ x[0] / norms[layer][position] / norms[layer][0]) > COSINE
            ]
            if len(layers) <= MORE_THAN:
                continue
            mass = [masses[sequence][n][:, position].mean() for n in layers if n in masses[sequence]]
            found.append(
                {
                    "sequence": sequence,
                    "position": position,
                    "first_layer": layers[0],
                    "last_layer": layers[-1],
                    "layers": len(layers),
                    "norm_ratio": float(np.mean([norms[n][position] / norms[n][0] for n in layers])),
                    "mass": float(np.mean(mass)) if mass else None,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=Path("tests/checkpoints"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    for name in arguments.names or PLACES:
        folder = arguments.checkpoints / name
        sequences = json.loads((folder / "reference.json").read_text())["sequences"]
        longest = max((one["token_ids"] for one in sequences), key=len)[:TOKENS]
        # The same tokens, but for the first, in another order.
        ids = [longest, longest[:1] + longest[:0:-1]]
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        observed = [observe(model, *PLACES[name], one) for one in ids]
        hidden = [one[0] for one in observed]
        masses = [{n: received(p) for n, p in one[2].items()} for one in observed]
        heads = getattr(model.config, "num_key_value_heads", model.config.num_attention_heads)
        layers = []
        for layer in hidden[0]:
            parts = [compression(states[layer]) for states in hidden]
            found = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
            if layer in masses[0]:
                mass = np.stack([one[layer] for one in masses])
                found["sink_rate"] = float((mass[:, :, 0] > EPSILON).mean())
                found["head_rates"] = (mass[:, :, 0] > EPSILON).mean(0).tolist()
                found["head_masses"] = mass[:, :, 0].mean(0).tolist()
                found["rates"] = (mass > EPSILON).mean(0).tolist()
                query_heads = model.config.num_attention_heads
                projection = model.get_submodule(PLACES[name][0])[layer].get_submodule(PLACES[name][2])
                norms = [head_norms(one[3][layer], projection, query_heads) for one in observed]
                own, projected = np.mean(norms, axis=0)
                found["output_norms"] = own.tolist()
                found["projected_norms"] = projected.tolist()
                found["norm_ratios"] = (own / own.mean()).tolist()
            if layer in observed[0][1]:
                drains = [drain(one[1][layer], heads) for one in observed]
                found["value_drain"] = np.mean(drains, axis=0).tolist()
            layers.append(found | {"layer": layer})
        everything = np.concatenate([one.ravel() for m in masses for one in [x[:, 0] for x in m.values()]])
        document = {
            "token_ids": ids,
            "epsilon": EPSILON,
            "cosine": COSINE,
            "secondary_layers": MORE_THAN,
            "sink_rate": float((everything > EPSILON).mean()),
            "margin": float(min(abs(x - EPSILON).min() for m in masses for x in m.values())),
            "secondary_sinks": secondary(hidden, masses),
            "layers": layers,
        }
        for layer in document["layers"]:
            # Only the positions with a rate, as pairs.
            if "rates" in layer:
                layer["rates"] = [
                    [[k, rate] for k, rate in enumerate(head) if rate > 0] for head in layer["rates"]
                ]
        text = json.dumps(rounded(document))
        (folder / "sinks.json").write_text(text + "\n")
        print(f"{name}: rate {document['sink_rate']:.3f}, {len(document['secondary_sinks'])} secondary, "
              f"margin {document['margin']:.1e}, {len(text)} bytes")


if __name__ == "__main__":
    main()
