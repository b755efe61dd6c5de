"""The sizes at which things are measured: on a card those of the targets."""

import json
from dataclasses import dataclass

from job import ROOT, Job
from shapes import SHAPES


@dataclass(frozen=True)
class Pass:
    """The pass through a whole model."""

    shape: str
    # Which `massact bench --shape` has the same widths.
    bench_shape: str
    samples: int
    length: int

    @property
    def config(self) -> dict:
        return SHAPES[self.shape][0]

    @property
    def tokens(self) -> int:
        return self.samples * self.length

    def flops(self) -> int:
        """Of all products in the layers: with the weights, and of causal attention."""
        return self.samples * sum(products(self.config, self.length))


def whole(job: Job) -> Pass:
    if not job.on_card:
        return Pass("tiny", "tiny", 4, SHAPES["tiny"][1])
    shape, bench = ("llama-1.1b-whole", "llama-1.1b") if job.quick else ("llama-7b", "llama-7b")
    return Pass(shape, bench, 8, SHAPES[shape][1])


def products(config: dict, length: int) -> tuple[int, int]:
    """Floating-point operations of a sequence in the layers: of the weights, and of causal attention."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    keys = hidden // heads * config["num_key_value_heads"]
    weights = 2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * config["intermediate_size"]
    layers = config["num_hidden_layers"]
    return 2 * weights * length * layers, 4 * hidden * (length * (length + 1) // 2) * layers


@dataclass(frozen=True)
class Micro:
    """A micro-batch of that pass, at which single operations are measured."""

    shape: str
    sequences: int
    tokens: int
    hidden: int
    inner: int

    @property
    def arguments(self) -> list[str]:
        """Of `massact bench`."""
        sizes = ["--sequences", str(self.sequences), "--tokens", str(self.tokens)]
        return ["--shape", self.shape, *sizes]


def micro(job: Job) -> Micro:
    shape, sequences, tokens = ("llama-2-7b", 4, 4096) if job.on_card else ("tiny", 2, 128)
    known = json.loads((ROOT / "assets" / "shapes.json").read_text())
    config = known[shape]["config"]
    return Micro(shape, sequences, tokens, config["hidden_size"], config["intermediate_size"])
