"""intervention-analysis of a checkpoint on its text, straight from the definitions."""

import hashlib
import math
import struct
from collections.abc import Callable
from statistics import fmean

import torch

from quantities import exact, massive_indices, mean_nll
from record import decoder_layers, observe

# reset[starting][dimension] is the value written at the starting or the other positions.
Reset = dict[bool, dict[int, float]]

# What is written beyond the published program's interventions.
CONSTANTS = {"set_to_zero": 0.0, "set_to_-50.5": -50.5}
# The values times 1 + this times a sample of `standard_normal`, drawn with this seed.
NOISE = {"noise_0.75": 0.75}
NOISE_SEED = 42


def standard_normal(token_ids: list[int], layer: int, position: int, dimension: int) -> float:
    """A sample that depends on seed, window and place alone: Box-Muller of a SHA-256 digest."""
    key = struct.pack(f"<Q{len(token_ids)}I3Q", NOISE_SEED, *token_ids, layer, position, dimension)
    words = struct.unpack("<4Q", hashlib.sha256(key).digest())
    radius, angle = ((words[0] >> 11) + 1) / 2**53, (words[1] >> 11) / 2**53
    return math.sqrt(-2 * math.log(radius)) * math.cos(2 * math.pi * angle)


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
    noise: float = 0.0,
) -> float:
    """exp of the mean of the windows' mean NLLs, with `reset` written at the outputs of `layers`.

    With noise, the dimensions of `reset` keep their values, each times a factor.
    """
    losses = []
    for token_ids, massive_positions in zip(samples, positions, strict=True):

        def writer(layer: int, token_ids=token_ids, massive_positions=massive_positions) -> Callable:
            def write(module, arguments, output):
                hidden = output[0] if isinstance(output, tuple) else output
                for position in massive_positions:
                    for dimension, value in reset[position == 0].items():
                        if noise:
                            sample = standard_normal(token_ids, layer, position, dimension)
                            hidden[0, position, dimension] *= 1 + noise * sample
                        else:
                            hidden[0, position, dimension] = value

            return write

        hooks = [decoder_layers(model)[layer].register_forward_hook(writer(layer)) for layer in layers]
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
    """Perplexity of `name` when constants or noise are written at the outputs of `layers`."""
    found = [first_massive(observe(model, token_ids).layers) for token_ids in samples]
    positions = [own[1] if own else [] for own in found]
    results = {}
    for key, value in CONSTANTS.items():
        values = dict.fromkeys(dimensions, value)
        changed = perplexity(model, samples, positions, layers, {True: values, False: values})
        results[key] = {name: exact(torch.tensor(changed))}
    anything = dict.fromkeys(dimensions, math.nan)
    for key, deviation in NOISE.items():
        changed = perplexity(
            model, samples, positions, layers, {True: anything, False: anything}, deviation
        )
        results[key] = {name: exact(torch.tensor(changed))}
    return {"layers": layers, "perplexity": results}
