"""What the reference model has inside its layers: the truth of sites beside the layers' outputs.

What a token mixer adds is the output of the modules that a row's `mixers` names, and `outputs` has others. Gates and routers
are watched where they are computed, whatever their modules look like: at the sigmoid in an attention
module, and at the product with a matrix of as many rows as there are experts.
"""

from contextlib import ExitStack

import torch
from torch.overrides import TorchFunctionMode

from record import StayInFloat64, decoder_layers
from table import Checkpoint

SIGMOIDS = (torch.sigmoid, torch.Tensor.sigmoid, torch.nn.functional.sigmoid)
COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")


class Inside(TorchFunctionMode):
    """Collects `{site}.{layer}`, [T, ...] each."""

    def __init__(self, experts: int | None):
        super().__init__()
        self.experts = experts
        self.tensors = {}
        self.layer, self.attends = 0, False

    def keep(self, site: str, value: torch.Tensor) -> None:
        name = f"{site}.{self.layer}"
        if name in self.tensors:
            raise ValueError(f"{name} was there before")
        self.tensors[name] = value

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in SIGMOIDS and self.attends:
            self.keep("attention_gate", result[0].flatten(1))
        if function is torch.nn.functional.linear and args[1].shape[0] == self.experts:
            self.keep("router_logits", result.reshape(-1, self.experts))
        return result


def experts_of(model: torch.nn.Module) -> int | None:
    """The number of experts that a router chooses from."""
    config = model.config.get_text_config()
    return next((count for name in COUNTS if (count := getattr(config, name, None))), None)


@torch.no_grad()
def sites(row: Checkpoint, model: torch.nn.Module, token_ids: list[int]) -> dict[str, torch.Tensor]:
    """The tensors of a float64 model, in float32."""
    inside = Inside(experts_of(model))

    def enter(layer: int):
        def hook(module, arguments):
            inside.layer = layer

        return hook

    def attention(begins: bool):
        def hook(*_):
            inside.attends = begins

        return hook

    def made(site: str):
        def hook(module, arguments, output):
            output = output[0] if isinstance(output, tuple) else output
            inside.keep(site, output[0].clone())

        return hook

    outputs = [("mixer_output", name) for name in row.mixers] + list(row.outputs)

    with ExitStack() as stack:
        for layer, decoder in enumerate(decoder_layers(model)):
            stack.callback(decoder.register_forward_pre_hook(enter(layer)).remove)
            modules = dict(decoder.named_modules())
            for site, name in outputs:
                if name in modules:
                    stack.callback(modules[name].register_forward_hook(made(site)).remove)
            for module in decoder.children():
                if "Attention" in type(module).__name__:
                    stack.callback(module.register_forward_pre_hook(attention(True)).remove)
                    stack.callback(module.register_forward_hook(attention(False)).remove)
        stack.enter_context(inside)
        stack.enter_context(StayInFloat64())
        model(torch.tensor([token_ids]), use_cache=False)
    return {name: tensor.float().contiguous() for name, tensor in inside.tensors.items()}
