"""Train the demo architecture in six variants, which differ in nothing else.

    python tools/train_ablation --work DIR --out OUT --steps 220 [VARIANT ...]

Needs DIR/train.txt, DIR/val.txt and DIR/tokenizer.json as the demo does (see
train_demo/gather_corpus.py and train_tokenizer.py), or DIR/train.npy and DIR/val.npy made
from them. All variants see the same windows in the same order and start from the same seed.
Each is saved to OUT/<variant> in the layout of transformers, with the tokenizer and a log.

Variants: baseline; kv-bias (an extra learned key and value per head); dyt (DyT in the place of
every norm, and a learned factor on the embedding); tvr (target variance rescaling every 50
steps); kv-bias-tvr; dyt-tvr.
"""

import argparse
import json
import math
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, logging

TOOLS = Path(__file__).resolve().parents[1]
sys.path += [str(TOOLS), str(TOOLS / "train_demo")]

from data import BOS, EOS, even_windows, random_windows, token_stream  # noqa: E402
from rescaling import rescale  # noqa: E402
from variants import add_extra_key, replace_norms, scale_embedding  # noqa: E402

SEED = 20240
PEAK_LR = 2e-3
WARM_UP_STEPS = 50
SEQUENCES, LENGTH = 8, 256
RESCALE_EVERY = 50
LOG_EVERY = 55

CONFIG = LlamaConfig(
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    bos_token_id=BOS,
    eos_token_id=EOS,
)


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
    """Linear warm-up, then a cosine down to a tenth of the peak."""
    if step < WARM_UP_STEPS:
        return PEAK_LR * (step + 1) / WARM_UP_STEPS
    progress = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return PEAK_LR * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def mean_nll(model, windows: torch.Tensor) -> torch.Tensor:
    """Mean next-token negative log-likelihood in nats."""
    logits = model(windows, use_cache=False).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def held_out_nll(model, windows: torch.Tensor) -> float:
    """The same, a few windows at a time."""
    parts = windows.split(SEQUENCES)
    return sum(mean_nll(model, part).item() * len(part) for part in parts) / len(windows)


def train(name: str, work: Path, out: Path, steps: int) -> None:
    """Trains one variant and saves it."""
    variant = VARIANTS[name]
    stream = token_stream(work, "train")
    held_out = even_windows(token_stream(work, "val"), 24, LENGTH)
    model = build(variant)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.0)
    log, started = [], time.time()
    for step in range(steps):
        rng = np.random.default_rng([SEED, step])
        windows = random_windows(stream, SEQUENCES, LENGTH, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss = mean_nll(model, windows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done = step + 1
        if variant.rescale_to is not None and done % RESCALE_EVERY == 0:
            rescale(model.model.layers, variant.rescale_to)
        if done % LOG_EVERY == 0 or done == steps:
            entry = {"step": done, "train": loss.item(), "held_out": held_out_nll(model, held_out)}
            log.append(entry | {"seconds": round(time.time() - started)})
            print(name, json.dumps(log[-1]), flush=True)
    folder = out / name
    model.save_pretrained(folder)
    shutil.copy(work / "tokenizer.json", folder / "tokenizer.json")
    (folder / "log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """One variant after another."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("variants", nargs="*", metavar="VARIANT", help="default: all six")
    cli.add_argument("--work", type=Path, required=True)
    cli.add_argument("--out", type=Path, required=True)
    cli.add_argument("--steps", type=int, default=220)
    cli.add_argument("--threads", type=int, default=1)
    args = cli.parse_args()
    unknown = [name for name in args.variants if name not in VARIANTS]
    if unknown:
        cli.error(f"no such variant: {', '.join(unknown)}; known: {', '.join(VARIANTS)}")
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    for name in args.variants or VARIANTS:
        train(name, args.work, args.out, args.steps)


if __name__ == "__main__":
    main()
