"""intervention-analysis of a checkpoint on its text, straight from the definitions."""

import math
from statistics import fmean

import torch

from quantities import exact, massive_indices, mean_nll
from record import decoder_layers, observe

# reset[starting][dimension] is the value written at the starting or the other positions.
Reset = dict[bool, dict[int, float]]

# What is written beyond the published program's interventions.
CONSTANTS = {"set_to_zero": 0.0, "set_to_-50.5": -50.5}


def first_massive(layers: list[torch.Tensor]) -> tuple[int, list[int], list[int]] | None:
    """A sequence's first massive layer with its massive positions and dimensions."""
    for layer, hidden in enumerate(layers):
        indices = massive_indices(hidden)
        if indices:
            width = hidden.shape[1]
            positions = sorted({index // width for index in indices})
            return layer, positions, sorted({index % width for index in indices})
    return None


def perplexity(
    model: torch.nn.Module,
    samples: list[list[int]],
    positions: list[list[int]],
    layers: list[int],
    reset: Reset,
) -> float:
    """exp of the mean of the windows' mean NLLs, with `reset` written at the outputs of `layers`."""
    losses = []
    for token_ids, massive_positions in zip(samples, positions, strict=True):

        def write(module, arguments, output, massive_positions=massive_positions):
            hidden = output[0] if isinstance(output, tuple) else output
            for position in massive_positions:
                for dimension, value in reset[position == 0].items():
                    hidden[0, position, dimension] = value

        hooks = [decoder_layers(model)[layer].register_forward_hook(write) for layer in layers]
        losses.append(mean_nll(observe(model, token_ids).logits, token_ids).item())
        for hook in hooks:
            hook.remove()
    return math.exp(fmean(losses))


def calibrated_means(
    calibration: list[list[torch.Tensor]], dimensions: list[int]
) -> dict[int, dict[bool, dict[int, list[float]]]]:
    """Signed values by (a sequence's own first layer, starting position or not, dimension)."""
    values = {}
    for layers in calibration:
        found = first_massive(layers)
        if found is None:
            continue
        layer, positions, own_dimensions = found
        groups = values.setdefault(layer, {True: {}, False: {}})
        for dimension in own_dimensions:
            if dimension not in dimensions:
                continue
            for position in positions:
                value = layers[layer][position, dimension].item()
                groups[position == 0].setdefault(dimension, []).append(value)
    return values


def interventions(
    model: torch.nn.Module,
    name: str,
    samples: list[list[int]],
    calibration: list[list[torch.Tensor]],
    first_layer: int,
    dimensions: list[int],
) -> dict:
    """Perplexity of the evaluation set `name` as it is and under each intervention."""
    found = [first_massive(observe(model, token_ids).layers) for token_ids in samples]
    positions = [own[1] if own else [] for own in found]
    zeros = dict.fromkeys(dimensions, 0.0)
    resets = {"original": {True: {}, False: {}}, "set_to_zero": {True: zeros, False: zeros}}
    values = calibrated_means(calibration, dimensions)
    for layer, groups in sorted(values.items()):
        resets[f"set_to_mean_{layer}"] = {
            starting: {dimension: fmean(listed) for dimension, listed in group.items()}
            for starting, group in groups.items()
        }
    measured = {dimension for groups in values.values() for group in groups.values() for dimension in group}
    return {
        "first_layer": first_layer,
        "dimensions": dimensions,
        "windows": {name: len(samples)},
        "perplexity": {
            key: {name: exact(torch.tensor(perplexity(model, samples, positions, [first_layer], reset)))}
            for key, reset in resets.items()
        },
        "missing_dimensions": [dimension for dimension in dimensions if dimension not in measured],
        "means": [
            {
                "layer": layer,
                "starting": starting,
                "dimension": dimension,
                "mean": exact(torch.tensor(fmean(listed))),
                "count": len(listed),
            }
            for layer, groups in sorted(values.items())
            for starting, group in groups.items()
            for dimension, listed in sorted(group.items())
        ],
    }


def constants(
    model: torch.nn.Module,
    name: str,
    samples: list[list[int]],
    layers: list[int],
    dimensions: list[int],
) -> dict:
    """Perplexity of `name` when constants are written at the outputs of `layers`."""
    found = [first_massive(observe(model, token_ids).layers) for token_ids in samples]
    positions = [own[1] if own else [] for own in found]
    results = {}
    for key, value in CONSTANTS.items():
        values = dict.fromkeys(dimensions, value)
        changed = perplexity(model, samples, positions, layers, {True: values, False: values})
        results[key] = {name: exact(torch.tensor(changed))}
    return {"layers": layers, "perplexity": results}
