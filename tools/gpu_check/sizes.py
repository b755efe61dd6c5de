"""The sizes at which things are measured: on a card those of the targets."""

import json
from dataclasses import dataclass

from job import ROOT, Job
from shapes import SHAPES


@dataclass(frozen=True)
class Pass:
    """The pass through a whole model."""

    shape: str
    # Which `massact bench --shape` stands in for it; on a card it has the same widths.
    noise_shape: str
    samples: int
    length: int

    @property
    def config(self) -> dict:
        return SHAPES[self.shape][0]

    @property
    def tokens(self) -> int:
        return self.samples * self.length

    def flops(self, noise: bool) -> int:
        """Of all products in the layers: with the weights, and of causal attention."""
        config = known(self.noise_shape) if noise else self.config
        return self.samples * sum(products(config, self.length))


def whole(job: Job) -> Pass:
    if not job.on_card:
        return Pass("tiny", "tiny", 4, SHAPES["tiny"][1])
    shape, noise = ("llama-1.1b-whole", "tinyllama-1.1b") if job.quick else ("llama-7b", "llama-2-7b")
    return Pass(shape, noise, 8, SHAPES[shape][1])


def products(config: dict, length: int) -> tuple[int, int]:
    """Floating-point operations of a sequence in the layers: of the weights, and of causal attention."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    keys = hidden // heads * config["num_key_value_heads"]
    weights = 2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * config["intermediate_size"]
    layers = config["num_hidden_layers"]
    return 2 * weights * length * layers, 4 * hidden * (length * (length + 1) // 2) * layers


def known(shape: str) -> dict:
    """The config of one that `massact bench` knows by name."""
    return json.loads((ROOT / "assets" / "shapes.json").read_text())[shape]["config"]


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
    config = known(shape)
    return Micro(shape, sequences, tokens, config["hidden_size"], config["intermediate_size"])
