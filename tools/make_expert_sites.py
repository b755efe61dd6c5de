"""What the experts that each token visits read at their down projection and give, from transformers in float64.

    python tools/make_expert_sites.py [--checkpoints tests/checkpoints] [NAME ...]

Writes `experts.safetensors` into the folder of each checkpoint: for each layer with experts `expert_inner.{l}` and
`expert_output.{l}` of the attention sequence of reference.json, [T, visits * width], in a token's row what the
experts that it visits have, those of lower number first; outputs are those before they are weighted.

The model's own experts run. Their products with a slice of `down_proj` are watched: the slice says which expert
it is, and the indices with which the module is called say which tokens.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent / "make_checkpoints"))

from record import StayInFloat64, decoder_layers  # noqa: E402

NAMES = ("qwen3-moe", "mixtral", "gpt-oss", "deepseek-v2", "lfm2-moe")
PRODUCTS = (torch.nn.functional.linear, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul)


class Watch(TorchFunctionMode):
    """Of one experts module at a time, what its down projections read and give, by expert."""

    def __init__(self):
        super().__init__()
        self.module, self.seen = None, {}

    def begin(self, module) -> None:
        self.module, self.seen = module, {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if self.module is None or function not in PRODUCTS:
            return result
        down = self.module.down_proj
        first, factor = down.data_ptr(), args[1]
        offset = factor.data_ptr() - first
        if 0 <= offset < down.numel() * down.element_size():
            expert = offset // (down[0].numel() * down.element_size())
            bias = getattr(self.module, "down_proj_bias", None)
            given = result if bias is None else result + bias[expert]
            self.seen[expert] = (args[0].clone(), given.clone())
        return result


def by_token(seen: dict, indices: torch.Tensor) -> list[torch.Tensor]:
    """[T, visits * width] of what was read and of what was given."""
    tokens, visits = indices.shape
    places = indices.sort(dim=1).values
    found = []
    for which in (0, 1):
        width = next(iter(seen.values()))[which].shape[-1]
        out = torch.full((tokens, visits, width), float("nan"), dtype=torch.float64)
        for expert, values in seen.items():
            # As the modules pick them: by place among a token's experts, then by token.
            _, rows = torch.where((indices == expert).T)
            slots = (places[rows] == expert).int().argmax(1)
            out[rows, slots] = values[which]
        assert not out.isnan().any()
        found.append(out.flatten(1))
    return found


@torch.no_grad()
def sites(folder: Path) -> dict[str, torch.Tensor]:
    """Of all layers of one checkpoint."""
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    token_ids = reference["sequences"][reference["attention_sequence"]]["token_ids"]
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    model = model.eval().double()
    watch, tensors = Watch(), {}

    def before(module, arguments, named):
        watch.begin(module)

    def after(layer: int):
        def hook(module, arguments, named, output):
            indices = next(x for x in (*arguments, *named.values()) if x is not None and not x.is_floating_point())
            inner, given = by_token(watch.seen, indices)
            tensors[f"expert_inner.{layer}"], tensors[f"expert_output.{layer}"] = inner, given
            watch.module = None

        return hook

    with ExitStack() as stack:
        for layer, decoder in enumerate(decoder_layers(model)):
            for _, module in decoder.named_modules():
                if hasattr(module, "down_proj") and isinstance(module.down_proj, torch.nn.Parameter):
                    stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                    stack.callback(module.register_forward_hook(after(layer), with_kwargs=True).remove)
        stack.enter_context(watch)
        stack.enter_context(StayInFloat64())
        model(torch.tensor([token_ids]), use_cache=False)
    return {name: tensor.float().contiguous() for name, tensor in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    parser.add_argument("--checkpoints", type=Path, default=Path("tests/checkpoints"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        folder = arguments.checkpoints / name
        tensors = sites(folder)
        save_file(tensors, folder / "experts.safetensors")
        shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
        print(f"{name}: {shapes}", flush=True)


if __name__ == "__main__":
    main()
