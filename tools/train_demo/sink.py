"""Plant an attention sink in a half-trained model, for the rest of the training to build on.

Large language models end up with a neuron that fires on the first token only and writes a huge vector
there, and with heads that rest on that token when they have nothing to fetch. Both take more tokens
to emerge than the demo can afford, so they are put in by hand:

* one neuron of one layer's MLP becomes a detector of `<s>` at position 0: its gate is far below zero
  at all other positions, so that what it writes there is next to nothing;
* it writes to few dimensions of the hidden state (the largest of position 0 already);
* in the layers after it, keys recognise that vector, and queries want it by a constant amount; its
  value vector starts at zero.

What is held stays out of the optimizer's reach. What position 0 looks like drifts as the rest trains,
so what is held is aimed again every hundred steps. Everything else trains on.
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


def hold_writer(model, layer, neuron):
    """Keep the optimizer away from the writer."""
    mlp = model.model.layers[layer].mlp
    hold(mlp.gate_proj.weight, neuron)
    hold(mlp.up_proj.weight, neuron)
    hold(mlp.down_proj.weight, (slice(None), neuron))


def hold(weight, index):
    """From now on the gradient of weight[index] is zero."""
    def without(grad):
        grad = grad.clone()
        grad[index] = 0.0
        return grad

    weight.register_hook(without)


def sink_rows(model):
    """The rows of q_proj and k_proj that carry the sink: in each head, half of the slowest pair of the
    rotary embedding, whose angle hardly changes with the distance."""
    head_dim = model.config.head_dim
    return slice(head_dim // 2 - 1, None, head_dim)


@torch.no_grad()
def aim_readers(model, first_layer, logit, windows):
    """From `first_layer` on, give every query a liking of `logit` nats for position 0."""
    rows = sink_rows(model)
    size = (logit * model.config.head_dim ** 0.5) ** 0.5
    for decoder in model.model.layers[first_layer:]:
        first, others = module_outputs(model, decoder.input_layernorm, windows)
        decoder.self_attn.q_proj.weight[rows] = size * fit(first, others, 1.0, 1.0)
        decoder.self_attn.k_proj.weight[rows] = size * fit(first, others, 1.0, 0.0)


@torch.no_grad()
def empty_value(model, first_layer, windows):
    """From `first_layer` on, make the value vector of position 0 zero."""
    for decoder in model.model.layers[first_layer:]:
        first, others = module_outputs(model, decoder.input_layernorm, windows)
        weight = decoder.self_attn.v_proj.weight
        weight.sub_(torch.outer(weight @ first, fit(first, others, 1.0, 0.0)))


def hold_readers(model, first_layer):
    """Keep the optimizer away from what aim_readers sets."""
    for decoder in model.model.layers[first_layer:]:
        hold(decoder.self_attn.q_proj.weight, sink_rows(model))
        hold(decoder.self_attn.k_proj.weight, sink_rows(model))
