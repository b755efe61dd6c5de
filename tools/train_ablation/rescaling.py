"""Target variance rescaling (TVR) of a model in training."""

import torch

TOLERATED = 1.2


@torch.no_grad()
def rescale(layers: torch.nn.ModuleList, target: float) -> None:
    """Brings every weight matrix of the layers whose standard deviation is more than a fifth above
    `target` back to it; a rescaled module's bias becomes zero. The mean stays."""
    for module in layers.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.nn.Parameter) or weight.dim() != 2:
            continue
        deviation, mean = weight.std(), weight.mean()
        if deviation / target > TOLERATED:
            weight.copy_((weight - mean) / deviation * target + mean)
            bias = getattr(module, "bias", None)
            if bias is not None:
                bias.zero_()
