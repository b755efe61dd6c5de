"""Train the demo architecture in six variants, which differ in nothing else.

    python tools/train_ablation --work DIR --out OUT --steps 1600 [VARIANT ...]

Needs DIR/train.txt, DIR/val.txt and DIR/tokenizer.json as the demo does (see
train_demo/gather_corpus.py and train_tokenizer.py). All variants see the same windows in the same
order and start from the same seed. Each is saved to OUT/<variant> in the layout of transformers,
with the tokenizer and a log.

The variants take turns of TURN steps, so that all are equally far at any time, and their states are
kept under OUT/states: a later call resumes. The learning rate is constant until the last fifth, so a
run that must end early is resumed with fewer --steps and is then what it would have been with those
from the start, as long as the new last fifth has not begun.

Variants: baseline; kv-bias (an extra learned key and value per head); dyt (DyT in the place of
every norm, and a learned factor on the embedding); tvr (target variance rescaling every 50
steps); kv-bias-tvr; dyt-tvr.
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, logging

TOOLS = Path(__file__).resolve().parents[1]
sys.path += [str(TOOLS), str(TOOLS / "train_demo")]

from data import even_windows, random_windows, token_stream  # noqa: E402
from rescaling import rescale  # noqa: E402
from train import CONFIG, PEAK_LR, SEED, mean_nll  # noqa: E402
from variants import add_extra_key, replace_norms, scale_embedding  # noqa: E402

WARM_UP_STEPS = 100
SEQUENCES, LENGTH = 4, 256
RESCALE_EVERY = 50
TURN = 100


@dataclass(frozen=True)
class Variant:
    """What a variant changes."""

    kv_bias: bool = False
    dyt: bool = False
    rescale_to: float | None = None


VARIANTS = {
    "baseline": Variant(),
    "kv-bias": Variant(kv_bias=True),
    "dyt": Variant(dyt=True),
    "tvr": Variant(rescale_to=0.01),
    "kv-bias-tvr": Variant(kv_bias=True, rescale_to=0.01),
    "dyt-tvr": Variant(dyt=True, rescale_to=0.02),
}


def build(variant: Variant) -> LlamaForCausalLM:
    """The model before its first step."""
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(CONFIG)
    if variant.kv_bias:
        add_extra_key(model, (CONFIG.num_key_value_heads, 1, CONFIG.head_dim))
    if variant.dyt:
        replace_norms(model, bias=True)
        scale_embedding(model, CONFIG.hidden_size**0.5)
    return model


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then constant, and linear towards zero in the last fifth."""
    return PEAK_LR * min(1.0, (step + 1) / WARM_UP_STEPS, 5 * (steps - step) / steps)


@torch.no_grad()
def held_out_nll(model, windows: torch.Tensor) -> float:
    """Mean NLL of windows, a few at a time."""
    parts = windows.split(8)
    return sum(mean_nll(model, part).item() * len(part) for part in parts) / len(windows)


class Run:
    """A variant in training."""

    def __init__(self, name: str, out: Path):
        self.name, self.variant = name, VARIANTS[name]
        self.model = build(self.variant)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.step, self.seconds, self.log = 0, 0.0, []
        self.file = out / "states" / f"{name}.pt"
        if self.file.exists():
            state = torch.load(self.file)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]

    def turn(self, stream: np.ndarray, held_out: torch.Tensor, steps: int) -> None:
        """Up to TURN more steps."""
        started = time.time()
        for step in range(self.step, min(self.step + TURN, steps)):
            windows = random_windows(stream, SEQUENCES, LENGTH, np.random.default_rng([SEED, step]))
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(step, steps)
            loss = mean_nll(self.model, windows)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step = step + 1
            if self.variant.rescale_to is not None and self.step % RESCALE_EVERY == 0:
                rescale(self.model.model.layers, self.variant.rescale_to)
        self.seconds += time.time() - started
        entry = {"step": self.step, "held_out": held_out_nll(self.model, held_out)}
        self.log.append(entry | {"seconds": round(self.seconds)})
        print(self.name, json.dumps(self.log[-1]), flush=True)
        self.keep()

    def keep(self) -> None:
        """Writes the state, whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        new = self.file.with_suffix(".new")
        torch.save(state | {"step": self.step, "seconds": self.seconds, "log": self.log}, new)
        new.replace(self.file)

    def save(self, folder: Path, tokenizer: Path) -> None:
        """Writes the checkpoint."""
        self.model.save_pretrained(folder)
        shutil.copy(tokenizer, folder / "tokenizer.json")
        (folder / "log.json").write_text(json.dumps(self.log, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The variants in turns."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("variants", nargs="*", metavar="VARIANT", help="default: all six")
    cli.add_argument("--work", type=Path, required=True)
    cli.add_argument("--out", type=Path, required=True)
    cli.add_argument("--steps", type=int, default=1600)
    cli.add_argument("--threads", type=int, default=1)
    args = cli.parse_args()
    unknown = [name for name in args.variants if name not in VARIANTS]
    if unknown:
        cli.error(f"no such variant: {', '.join(unknown)}; known: {', '.join(VARIANTS)}")
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    stream = token_stream(args.work, "train")
    held_out = even_windows(token_stream(args.work, "val"), 24, LENGTH)
    runs = [Run(name, args.out) for name in args.variants or VARIANTS]
    while any(run.step < args.steps for run in runs):
        # The one that is furthest behind.
        min(runs, key=lambda run: run.step).turn(stream, held_out, args.steps)
    for run in runs:
        run.save(args.out / run.name, args.work / "tokenizer.json")


if __name__ == "__main__":
    main()
