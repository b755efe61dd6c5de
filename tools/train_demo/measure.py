"""Measurements on the demo model: what its layers put out, and what its massive values are worth."""

import torch
from torch.nn import functional

# massact's default thresholds: a value is massive if it is above both.
ABSOLUTE = 100.0
RELATIVE = 1000.0


@torch.no_grad()
def layer_outputs(model, windows):
    """The output of every decoder layer, before the final norm: a list of [sequences, T, D]."""
    outputs = []
    hooks = [layer.register_forward_hook(lambda _module, _args, out: outputs.append(out))
             for layer in model.model.layers]
    model(windows, use_cache=False)
    for hook in hooks:
        hook.remove()
    return outputs


@torch.no_grad()
def mean_nll(model, windows, replace=None):
    """Mean next-token NLL in nats.

    `replace` = (layer, dims, values) overwrites those dimensions of the layer's output at
    position 0 of every sequence.
    """
    hook = None
    if replace is not None:
        layer, dims, values = replace

        def overwrite(_module, _args, out):
            out = out.clone()
            out[:, 0, dims] = values
            return out

        hook = model.model.layers[layer].register_forward_hook(overwrite)
    logits = model(windows, use_cache=False).logits
    if hook is not None:
        hook.remove()
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten()).item()


def layer_table(outputs):
    """Per layer: mean over sequences of the largest |h| and of the median |h|, and their quotient.

    torch.median takes the lower of the two middle values, as massact does.
    """
    rows = []
    for out in outputs:
        flat = out.abs().flatten(1)
        top, median = flat.amax(1).mean().item(), flat.median(1).values.mean().item()
        rows.append((top, median, top / median))
    return rows


def massive_dims(out):
    """Dimensions in which position 0 of the first sequence is massive, largest first."""
    sizes = out[0, 0].abs()
    bound = max(ABSOLUTE, RELATIVE * out[0].abs().median().item())
    order = sizes.argsort(descending=True)
    return [d for d in order.tolist() if sizes[d] > bound]
