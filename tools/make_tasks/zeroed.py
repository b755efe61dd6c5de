"""set_to_zero on the items' sequences, by the definitions in docs/experiments.md."""

from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = ROOT / "assets" / "text" / "technical_english.txt"

# The corpus: windows of so many tokens of the built-in text, each begun by BOS.
WINDOWS, CONTEXT_LENGTH = 4, 128
# What counts as massive.
ABSOLUTE, RELATIVE = 100.0, 1000.0


def massive(hidden: torch.Tensor) -> list[tuple[int, int]]:
    """(position, dimension) of one sequence's massive values in one layer's output."""
    sizes = hidden.abs()
    # The lower one of two in the middle, as torch.median has it.
    bar = max(ABSOLUTE, RELATIVE * sizes.median().item())
    return [tuple(place) for place in (sizes > bar).nonzero().tolist()]


class Zeroed:
    """A model whose massive activations are set to zero."""

    def __init__(self, harness):
        self.harness = harness
        self.model = harness.model
        tokenizer = harness.tokenizer
        ids = tokenizer(TEXT.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
        windows = [ids[n * CONTEXT_LENGTH : (n + 1) * CONTEXT_LENGTH - 1] for n in range(WINDOWS)]
        found = [self.found([tokenizer.bos_token_id, *window]) for window in windows]
        layers = [layer for own in found for layer, places in enumerate(own) if places]
        self.first_layer = min(layers)
        self.dimensions = sorted({dimension for own in found for places in own for _, dimension in places})

    def layers(self):
        return self.model.model.layers

    def outputs(self, token_ids: list[int]) -> list[torch.Tensor]:
        """The output of every layer."""
        kept = []
        hooks = [
            layer.register_forward_hook(
                lambda module, arguments, output: kept.append(output[0] if isinstance(output, tuple) else output[None][0])
            )
            for layer in self.layers()
        ]
        with torch.no_grad():
            self.model(torch.tensor([token_ids]))
        for hook in hooks:
            hook.remove()
        return [hidden.reshape(len(token_ids), -1) for hidden in kept]

    def found(self, token_ids: list[int]) -> list[list[tuple[int, int]]]:
        return [massive(hidden) for hidden in self.outputs(token_ids)]

    def log_likelihood(self, context: str, continuation: str, zeroing: bool) -> float:
        before, behind = self.harness._encode_pair(context, continuation)
        read = [*before, *behind][:-1]
        own = next((places for places in self.found(read) if places), []) if zeroing else []
        positions = sorted({position for position, _ in own})

        def zero(module, arguments, output):
            hidden = output[0] if isinstance(output, tuple) else output
            for position in positions:
                hidden.view(len(read), -1)[position, self.dimensions] = 0.0

        hook = self.layers()[self.first_layer].register_forward_hook(zero)
        with torch.no_grad():
            logits = self.model(torch.tensor([read])).logits[0].float()
        hook.remove()
        logs = torch.log_softmax(logits, dim=-1)
        rows = range(len(read) - len(behind), len(read))
        return sum(logs[row, token].item() for row, token in zip(rows, behind, strict=True))

    def reference(self, tasks: dict) -> dict:
        """By task, the log-likelihoods of all choices, as the model is and with zeros."""

        def logs(zeroing: bool) -> dict:
            return {
                task: [[self.log_likelihood(*pair, zeroing) for pair in item["pairs"]] for item in tasks[task]["items"]]
                for task in ("hellaswag", "winogrande", "piqa")
            }

        return {
            "windows": WINDOWS,
            "context_length": CONTEXT_LENGTH,
            "first_layer": self.first_layer,
            "dimensions": self.dimensions,
            "original": logs(zeroing=False),
            "set_to_zero": logs(zeroing=True),
        }
