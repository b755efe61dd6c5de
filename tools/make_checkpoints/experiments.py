"""Experiment summaries of a checkpoint on its text, straight from the definitions.

Written without looking at speed: every window is run on its own and every layer's
full output is kept.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer

from interventions import constants, interventions
from quantities import (
    ABS_THRESHOLD,
    REL_THRESHOLD,
    entry,
    exact,
    massive_indices,
    median,
    threshold_margin,
)
from record import observe
from table import Checkpoint
from tokenizers_and_text import TEXT_FILE

EXISTENCE_SAMPLES = 10
TOKENS_SAMPLES = 20
CALIBRATION_SAMPLES = 30
EVALUATION = "text"
# Overwritten beside all massive layers: one before the first massive layer, one behind it.
LISTED_LAYERS = [0, 2]


def windows(token_ids: list[int], length: int, count: int, bos: int | None) -> list[list[int]]:
    """Consecutive slices of `length` tokens; with BOS it takes the place of a slice's last token."""
    slices = [token_ids[start : start + length] for start in range(0, length * count, length)]
    return slices if bos is None else [[bos, *part[:-1]] for part in slices]


def existence(layers_by_sequence: list[list[torch.Tensor]]) -> dict:
    """existence-validation: per layer, means over sequences of the largest value and the median."""
    layers = []
    for layer, hiddens in enumerate(zip(*layers_by_sequence, strict=True)):
        top1 = torch.stack([hidden.abs().max() for hidden in hiddens]).double().mean()
        middle = torch.stack([median(hidden) for hidden in hiddens]).double().mean()
        layers.append(
            {
                "layer": layer,
                "top1_mean": exact(top1),
                "median_mean": exact(middle),
                "massive": bool(top1 > ABS_THRESHOLD and top1 >= REL_THRESHOLD * middle),
            }
        )
    return {
        "has_massive_activations": any(layer["massive"] for layer in layers),
        "layers": layers,
    }


def magnitude_list(magnitudes: dict[tuple[int, int], list[float]]) -> list[dict]:
    """Mean, population standard deviation and count by (position, dimension), in the given order."""
    return [
        {
            "position": position,
            "dimension": dimension,
            "mean": exact(torch.tensor(values, dtype=torch.float64).mean()),
            "std": exact(torch.tensor(values, dtype=torch.float64).std(correction=0)),
            "count": len(values),
        }
        for (position, dimension), values in magnitudes.items()
    ]


def reference_magnitudes(hits: list[dict[int, list[dict]]]) -> list[dict]:
    """The reference program's own list, which it prints by position in the order of appearance.

    It collects a sequence's values in the smallest layer seen so far, and keeps what it
    has when that layer drops.
    """
    smallest, by_position = None, {}
    for found in hits:
        smallest = min(found) if smallest is None else min(smallest, *found)
        for item in found.get(smallest, []):
            values = by_position.setdefault(item["position"], {})
            values.setdefault(item["dimension"], []).append(abs(item["value"]))
    return magnitude_list(
        {
            (position, dimension): values
            for position, dimensions in by_position.items()
            for dimension, values in dimensions.items()
        }
    )


def tokens(
    samples: list[list[int]], layers_by_sequence: list[list[torch.Tensor]], tokenizer: Tokenizer
) -> dict:
    """tokens-analysis: where the massive activations of each sequence are, and their summary."""
    sequences = []
    for layers in layers_by_sequence:
        found = {}
        for layer, hidden in enumerate(layers):
            indices = massive_indices(hidden)
            if indices:
                found[layer] = [entry(hidden, index) for index in indices]
        sequences.append(found)

    hits = [found for found in sequences if found]
    first_layer = min((min(found) for found in hits), default=None)
    all_dimensions = {item["dimension"] for found in hits for items in found.values() for item in items}
    # The reference program's own set: its first hit contributes one layer, later ones all.
    reference_dimensions = set()
    for found in hits:
        counted = found if reference_dimensions else [min(found)]
        reference_dimensions |= {item["dimension"] for layer in counted for item in found[layer]}

    magnitudes, unique_tokens = {}, {}
    for token_ids, found in zip(samples, sequences, strict=True):
        for layer, items in found.items():
            for item in items:
                token = tokenizer.decode([token_ids[item["position"]]], skip_special_tokens=False)
                unique_tokens.setdefault(item["position"], set()).add(token)
                if layer == first_layer:
                    place = item["position"], item["dimension"]
                    magnitudes.setdefault(place, []).append(abs(item["value"]))
    return {
        "first_layer": first_layer,
        "dimensions": sorted(all_dimensions),
        "dimensions_reference": sorted(reference_dimensions),
        "unique_tokens": {str(position): sorted(found) for position, found in sorted(unique_tokens.items())},
        "magnitudes": magnitude_list(dict(sorted(magnitudes.items()))),
        "magnitudes_reference": reference_magnitudes(hits),
        "sequences": [
            {
                "sequence": index,
                "layers": [{"layer": layer, "massive": items} for layer, items in found.items()],
            }
            for index, found in enumerate(sequences)
        ],
    }


def summaries(row: Checkpoint, folder: Path, model: torch.nn.Module) -> tuple[dict, float]:
    """The experiments on the folder's text, without and with BOS, and the least threshold margin."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = (folder / TEXT_FILE).read_text(encoding="utf-8")
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    # Without a BOS token the end-of-sequence token serves.
    bos = tokenizer.token_to_id("<s>")
    if bos is None:
        bos = tokenizer.token_to_id("<|endoftext|>")
    runs, margin = [], float("inf")
    for start in (None, bos):
        # The evaluation set: every full window.
        evaluation = windows(token_ids, row.context_length, len(token_ids) // row.context_length, start)
        observed = [observe(model, sample).layers for sample in evaluation]
        margin = min([margin, *(threshold_margin(hidden) for layers in observed for hidden in layers)])
        calibration = observed[:CALIBRATION_SAMPLES]
        analysis = tokens(evaluation[:TOKENS_SAMPLES], calibration[:TOKENS_SAMPLES], tokenizer)
        common = model, EVALUATION, evaluation
        first_layer, dimensions = analysis["first_layer"], analysis["dimensions"]
        other_dimensions = analysis["dimensions_reference"]
        massive_layers = sorted({found["layer"] for item in analysis["sequences"] for found in item["layers"]})
        runs.append(
            {
                "add_bos_token": start is not None,
                "first_window": evaluation[0],
                "existence_validation": existence(calibration[:EXISTENCE_SAMPLES]),
                "tokens_analysis": analysis,
                "intervention_analysis": interventions(*common, calibration, first_layer, dimensions),
                # With the reference program's dimensions, where these are others.
                "intervention_analysis_reference": None
                if other_dimensions == dimensions
                else interventions(*common, calibration, first_layer, other_dimensions),
                "constants": [
                    constants(*common, layers, dimensions) for layers in (massive_layers, LISTED_LAYERS)
                ],
            }
        )
    document = {
        "text_file": TEXT_FILE,
        "text_tokens": len(token_ids),
        "context_length": row.context_length,
        "existence_nsamples": EXISTENCE_SAMPLES,
        "tokens_nsamples": TOKENS_SAMPLES,
        "calibration_nsamples": CALIBRATION_SAMPLES,
        "runs": runs,
    }
    return document, margin
