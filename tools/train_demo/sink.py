"""Plant an attention sink in a half-trained model, for the rest of the training to build on.

Large language models end up with a neuron that fires on the first token only and writes a huge vector
there, and with heads that rest on that token when they have nothing to fetch. Both take more tokens
to emerge than the demo can afford, so they are put in by hand, once, early:

* one neuron of one layer's MLP becomes a detector of `<s>` at position 0: its gate is far below zero
  at all other positions, so that what it writes there is next to nothing;
* it writes to few dimensions of the hidden state (the largest of position 0 already);
* in the layers after it, keys recognise that vector, and queries want it by a constant amount; its
  value vector starts at zero.

The detector neuron is out of the optimizer's reach afterwards. What it sees at position 0 drifts as the
rest trains, so it is aimed again every hundred steps. Everything else goes on training, keys, queries
and values of the sink included, and is free to use the sink or to unlearn it.
"""

import torch
from torch.nn import functional

GATE = 8.0  # gate pre-activation: +8 at position 0, about -8 elsewhere (silu(-8) = -0.003)
RIDGE = 1e-3  # times the mean of the diagonal of the second moment
FIRST_WEIGHT = 100.0  # of position 0 in the fits, against 1 for all other positions together


def fit(first, others, at_first, elsewhere):
    """The vector w, by ridge regression, with w.first = at_first and w.x = elsewhere for other x."""
    first, others = first.double(), others.double()
    moment = others.T @ others / len(others)
    moment += RIDGE * moment.diagonal().mean() * torch.eye(len(first))
    moment += FIRST_WEIGHT * torch.outer(first, first)
    aim = elsewhere * others.mean(0) + FIRST_WEIGHT * at_first * first
    return torch.linalg.solve(moment, aim).float()


@torch.no_grad()
def module_outputs(model, module, windows):
    """What a module puts out at position 0 of the first sequence, and at all positions after it."""
    kept = []
    hook = module.register_forward_hook(lambda _module, _args, out: kept.append(out))
    model(windows, use_cache=False)
    hook.remove()
    return kept[0][0, 0], kept[0][:, 1:].flatten(0, 1)


@torch.no_grad()
def idle_neuron(model, layer, windows):
    """The neuron of the layer's MLP that positions after the first would miss least."""
    decoder = model.model.layers[layer]
    mlp = decoder.mlp
    _, hidden = module_outputs(model, decoder.post_attention_layernorm, windows)
    acts = functional.silu(hidden @ mlp.gate_proj.weight.T) * (hidden @ mlp.up_proj.weight.T)
    return (acts.square().mean(0).sqrt() * mlp.down_proj.weight.norm(dim=0)).argmin().item()


@torch.no_grad()
def aim_writer(model, layer, neuron, dims, top1, windows):
    """Make the neuron detect position 0 as it is now, and write until its `dims` largest dimensions
    are ±top1. Returns those dimensions."""
    decoder = model.model.layers[layer]
    mlp = decoder.mlp
    out, _ = module_outputs(model, decoder, windows)
    chosen = out.abs().topk(dims).indices
    goal = out[chosen].sign() * top1

    first, others = module_outputs(model, decoder.post_attention_layernorm, windows)
    mlp.gate_proj.weight[neuron] = fit(first, others, GATE, -GATE)
    mlp.up_proj.weight[neuron] = fit(first, others, GATE, 0.0)
    mlp.down_proj.weight[:, neuron] = 0.0
    out, _ = module_outputs(model, decoder, windows)
    fired = functional.silu(mlp.gate_proj.weight[neuron] @ first) * (mlp.up_proj.weight[neuron] @ first)
    mlp.down_proj.weight[chosen, neuron] = (goal - out[chosen]) / fired
    return chosen.tolist()


def freeze_writer(model, layer, neuron):
    """Keep the optimizer away from the writer: the gradient of its weights is set to zero."""
    mlp = model.model.layers[layer].mlp

    def without_row(grad):
        grad = grad.clone()
        grad[neuron] = 0.0
        return grad

    mlp.gate_proj.weight.register_hook(without_row)
    mlp.up_proj.weight.register_hook(without_row)
    mlp.down_proj.weight.register_hook(lambda grad: without_row(grad.T).T)


@torch.no_grad()
def plant_readers(model, first_layer, logit, windows):
    """From `first_layer` on, give every query a liking of `logit` nats for position 0."""
    head_dim = model.config.head_dim
    # The slowest pair of the rotary embedding: its angle hardly changes with the distance.
    slow = head_dim // 2 - 1
    size = (logit * head_dim ** 0.5) ** 0.5
    for decoder in model.model.layers[first_layer:]:
        first, others = module_outputs(model, decoder.input_layernorm, windows)
        attention = decoder.self_attn
        recognise = fit(first, others, 1.0, 0.0)
        attention.q_proj.weight[slow::head_dim] = size * fit(first, others, 1.0, 1.0)
        attention.k_proj.weight[slow::head_dim] = size * recognise
        value = attention.v_proj.weight @ first
        attention.v_proj.weight.sub_(torch.outer(value, recognise))
