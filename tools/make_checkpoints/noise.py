"""How far float32 transformers is from float64 transformers: the scale of any tolerance."""

import torch

from quantities import MASKED_BELOW, TOP_K, mean_nll, median
from record import Observed

# A draw of weights noisier than this has an unlucky near-tie somewhere (a router's
# choice of experts, say) and would make every comparison against it meaningless.
LIMIT = {
    "max": 2e-5,
    "median": 2e-5,
    "top": 2e-5,
    "hidden": 1e-4,
    "nll": 2e-5,
    "last_logits": 1e-4,
    "attention_probs": 1e-4,
    "attention_logits": 1e-4,
}


def relative(value: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest relative difference."""
    return ((value.double() - truth).abs() / truth.abs()).max().item()


def against_row_rms(values: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest difference of any element, in units of its row's root mean square."""
    rms = truth.pow(2).mean(dim=-1, keepdim=True).sqrt()
    return ((values.double() - truth).abs() / rms).max().item()


def measure(single: Observed, double: Observed, token_ids: list[int]) -> dict[str, float]:
    """The largest difference of each quantity in one sequence.

    `max`, `median`, `top` and `nll` are relative; `hidden` and `last_logits` are in
    units of the row's rms; `attention_probs` is absolute, `attention_logits` in units
    of the rms over the map's visible entries.
    """
    noise = dict.fromkeys(LIMIT, 0.0)

    def note(quantity: str, difference: float) -> None:
        noise[quantity] = max(noise[quantity], difference)

    for hidden, truth in zip(single.layers, double.layers, strict=True):
        order = truth.abs().flatten().topk(TOP_K).indices
        note("max", relative(hidden.abs().max(), truth.abs().max()))
        note("median", relative(median(hidden), median(truth)))
        note("top", relative(hidden.flatten()[order], truth.flatten()[order]))
        note("hidden", against_row_rms(hidden, truth))
    for maps, true_maps in zip(single.attention, double.attention, strict=True):
        if maps is None:
            continue
        (logits, probs), (true_logits, true_probs) = maps, true_maps
        # Masked scores are huge in either precision; a masked probability is exactly zero.
        visible = true_logits > MASKED_BELOW
        note("attention_probs", (probs.double() - true_probs).abs().max().item())
        note("attention_logits", against_row_rms(logits[visible], true_logits[visible]))
    note("last_logits", against_row_rms(single.logits[-1], double.logits[-1]))
    if len(token_ids) > 1:
        note("nll", relative(mean_nll(single.logits, token_ids), mean_nll(double.logits, token_ids)))
    return noise
