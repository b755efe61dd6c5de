"""What the reference model computes, observed from outside.

Decoder layers are watched by forward hooks. Attention is watched at its softmax: the
argument of that call is exactly the logits after scale, soft cap, bias and mask, the
result the probabilities, whatever the family's module looks like.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch.overrides import TorchFunctionMode

SOFTMAXES = (torch.nn.functional.softmax, torch.softmax, torch.Tensor.softmax)


@dataclass
class Observed:
    """One forward pass: `layers[l]` is [T, D], or [T, N * D] where a layer hands on N streams,
    `attention[l]` logits and probabilities, [heads, T, T], or None in a layer without attention. Columns
    behind the tokens' are those of compressed ones (DeepSeek-V4)."""

    logits: torch.Tensor = None
    layers: list[torch.Tensor] = field(default_factory=list)
    attention: list[tuple[torch.Tensor, torch.Tensor] | None] = field(default_factory=list)


class RecordAttention(TorchFunctionMode):
    """Collects argument and result of every attention softmax, in the order of the layers. Where the
    code subtracts each row's maximum before (MiMo-V2), the argument is what was there before that."""

    def __init__(self, maps: list):
        super().__init__()
        self.maps = maps
        self.shifted = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        # Four dimensions set attention apart from a router's softmax over experts.
        if function in SOFTMAXES and args[0].dim() == 4:
            own = self.shifted is not None and args[0] is self.shifted[1]
            self.maps.append(((self.shifted[0] if own else args[0])[0], result[0]))
        if function is torch.Tensor.sub and all(torch.is_tensor(part) and part.dim() == 4 for part in args):
            if args[1].shape[-1] == 1 < args[0].shape[-1]:
                self.shifted = (args[0], result)
        return result


class StayInFloat64(TorchFunctionMode):
    """Keeps a float64 model in float64 where its code casts to float32 (norms, softmax, rotary angles)."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def widen(value):
            return torch.float64 if value is torch.float32 else value

        if function is torch.Tensor.float:
            function = torch.Tensor.double
        kwargs = {key: widen(value) for key, value in (kwargs or {}).items()}
        return function(*map(widen, args), **kwargs)


def decoder_layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    """The list of decoder layers, found by its length: no family keeps two such lists."""
    depth = model.config.get_text_config().num_hidden_layers
    found = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList)
        and len(module) == depth
        and type(module[0]).__name__.endswith(("Layer", "Block", "Decoder"))
    ]
    if len(found) != 1:
        raise ValueError(f"{type(model).__name__}: {len(found)} candidates for the decoder layers")
    return found[0]


def without_sink(layer: torch.nn.Module, logits: torch.Tensor, probabilities: torch.Tensor):
    """Drops gpt-oss's sink column and undoes the shift that its code applies before the softmax."""
    sinks = getattr(getattr(layer, "self_attn", None), "sinks", None)
    if sinks is None:
        return logits, probabilities
    shift = sinks.view(-1, 1, 1) - logits[..., -1:]
    return logits[..., :-1] + shift, probabilities[..., :-1]


@torch.no_grad()
def observe(model: torch.nn.Module, token_ids: list[int], float64: bool = False) -> Observed:
    """Runs one sequence and records layer outputs, attention and the model's logits."""
    observed = Observed()
    maps = []

    def keep(module, arguments, output):
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.dim() == 4 and hidden.shape[0] == 1:
            # All streams of each token, one behind the other.
            hidden = hidden.flatten(2)
        # Of several residual streams (Gemma 3n) the first, which attention and MLP read and write.
        first = hidden[0] if hidden.dim() == 4 else hidden
        observed.layers.append(first[0].clone())
        if len(maps) > 1:
            # Others of a layer with hyper-connections are over streams, or over the tokens of an entry.
            heads, length = model.config.get_text_config().num_attention_heads, len(token_ids)
            maps[:] = [own for own in maps if own[0].shape[:2] == (heads, length) and own[0].shape[2] > length]
        if len(maps) > 1:
            raise ValueError(f"{len(maps)} attention softmaxes in layer {len(observed.layers) - 1}")
        observed.attention.append(without_sink(module, *maps.pop()) if maps else None)

    with ExitStack() as stack:
        for layer in decoder_layers(model):
            stack.callback(layer.register_forward_hook(keep).remove)
        stack.enter_context(RecordAttention(maps))
        if float64:
            stack.enter_context(StayInFloat64())
        observed.logits = model(torch.tensor([token_ids], device=model.device), use_cache=False).logits[0]
    return observed
