"""The numbers a reference holds, derived from an observed forward pass.

Definitions: the median of |H| is the lower of the two middle values; a massive
activation is |h| > 100 and |h| > 1000 x that median.
"""

import torch

from record import Observed

ABS_THRESHOLD = 100.0
REL_THRESHOLD = 1000.0
TOP_K = 5
LAST_LOGITS = 16
# A masked score is the most negative finite number or close to it.
MASKED_BELOW = -1e30


def exact(value: torch.Tensor) -> float:
    """A float whose shortest decimal form still identifies the float32."""
    return float(f"{value.item():.9g}")


def entry(hidden: torch.Tensor, flat_index: int) -> dict:
    """One element of a layer's output, by its index in the flattened tensor."""
    position, dimension = divmod(flat_index, hidden.shape[1])
    return {"position": position, "dimension": dimension, "value": exact(hidden[position, dimension])}


def median(hidden: torch.Tensor) -> torch.Tensor:
    """torch.median takes the lower middle, which is the definition."""
    return hidden.abs().flatten().median()


def massive_indices(hidden: torch.Tensor) -> list[int]:
    """Flat indices of the massive activations, ascending."""
    magnitude = hidden.abs().flatten()
    return (
        torch.nonzero((magnitude > ABS_THRESHOLD) & (magnitude > REL_THRESHOLD * median(hidden)))
        .flatten()
        .tolist()
    )


def threshold_margin(hidden: torch.Tensor) -> float:
    """Least relative distance of any element from the threshold of being massive."""
    threshold = torch.maximum(torch.tensor(ABS_THRESHOLD), REL_THRESHOLD * median(hidden))
    return (hidden.abs() / threshold - 1).abs().min().item()


def layer_summary(layer: int, hidden: torch.Tensor) -> dict:
    """The per-layer statistics of one sequence."""
    top = hidden.abs().flatten().topk(TOP_K)
    return {
        "layer": layer,
        "max": exact(top.values[0]),
        "median": exact(median(hidden)),
        "top": [entry(hidden, index) for index in top.indices.tolist()],
        "massive": [entry(hidden, index) for index in massive_indices(hidden)],
    }


def smallest_gap(hidden: torch.Tensor) -> float:
    """Least relative distance between neighbours of the top list and its first absentee."""
    top = hidden.abs().flatten().topk(TOP_K + 1).values
    return ((top[:-1] - top[1:]) / top[:-1]).min().item()


def mean_nll(logits: torch.Tensor, token_ids: list[int]) -> torch.Tensor | None:
    """Mean next-token negative log likelihood in nats; none for a single token."""
    if len(token_ids) == 1:
        return None
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(token_ids[1:]))


def sequence_summary(observed: Observed, token_ids: list[int]) -> dict:
    """Everything reference.json says about one sequence."""
    nll = mean_nll(observed.logits, token_ids)
    return {
        "token_ids": token_ids,
        "nll": None if nll is None else exact(nll),
        "last_logits": [exact(value) for value in observed.logits[-1, :LAST_LOGITS]],
        "layers": [layer_summary(layer, hidden) for layer, hidden in enumerate(observed.layers)],
    }


def attention_summary(observed: Observed) -> dict[str, torch.Tensor]:
    """Head means of probabilities and logits, each key's sink mass and each head's largest logit,
    by tensor name.

    Entries that the mask hides (later keys, keys outside a window, keys not chosen) are NaN.
    """
    tensors = {}
    for layer, maps in enumerate(observed.attention):
        if maps is None:
            continue
        tensors[f"layer.{layer}.max_logit"] = maps[0].amax(dim=(1, 2)).float()
        # Compressed tokens are behind the tokens, which the other maps are of.
        logits, probabilities = (values[..., : values.shape[1]] for values in maps)
        hidden_by_mask = logits < MASKED_BELOW
        for name, values in (("logits", logits), ("probs", probabilities)):
            mean = values.masked_fill(hidden_by_mask, float("nan")).mean(dim=0)
            tensors[f"layer.{layer}.{name}_mean"] = mean.float()
        seen_by = (~hidden_by_mask).sum(dim=1)
        received = probabilities.masked_fill(hidden_by_mask, 0.0).sum(dim=1)
        # A key that no query sees receives nothing.
        tensors[f"layer.{layer}.sink_mass"] = (received / seen_by.clamp(min=1)).float()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
