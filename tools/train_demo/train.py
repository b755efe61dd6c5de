"""Train the demo model on the gathered corpus.

    python tools/train_demo/train.py --work DIR --steps 1800

Needs DIR/train.txt, DIR/val.txt and DIR/tokenizer.json. Every 100 steps the whole state is saved
to DIR/state.pt and the model to DIR/checkpoints/STEP; a later call resumes from DIR/state.pt.
A resumed call may name another number of steps: the cosine is then that of the new number.

There is no weight decay. A model that may grow its weights freely separates the first position
from the others soon: attention heads park on `<s>`, and the layer that marks it writes an ever
larger vector there. Weight decay holds that vector small (see the model card).
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from data import BOS, EOS, even_windows, random_windows, token_stream
from sink import aim_readers, aim_writer, empty_value, hold_readers, hold_writer, idle_neuron

SEED = 20240
PEAK_LR = 4e-3
WARM_UP_STEPS = 200
# Large batches while the learning rate rises and the loss falls fast, then half as large: on a small
# budget of tokens, more and smaller steps learn more.
WARM_UP_TOKENS_PER_STEP = 24 * 256
TOKENS_PER_STEP = 12 * 256

# Before PLANT_STEP an attention sink is planted (sink.py): a neuron of WRITER_LAYER that writes
# WRITER_TOP1 to WRITER_DIMS dimensions at position 0, and in all later layers queries that like what
# it wrote by PLANT_LOGIT nats. Position 0 stands out in the model already, but no head rests on it.
# The writer is held; the readers may train at first, and from HOLD_STEP on are held at HOLD_LOGIT,
# from RAISE_STEP on at RAISED_LOGIT: left alone, the heads rest on position 0 less and less.
PLANT_STEP = 600
AIM_EVERY = 100
WRITER_LAYER = 2
WRITER_DIMS = 2
WRITER_TOP1 = 500.0
PLANT_LOGIT = 6.0
HOLD_STEP = 1300
HOLD_LOGIT = 7.0
RAISE_STEP = 1400
RAISED_LOGIT = 9.0

EVAL_EVERY = 100

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


def learning_rate(step, steps):
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    if step < WARM_UP_STEPS:
        return PEAK_LR * (step + 1) / WARM_UP_STEPS
    progress = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return PEAK_LR * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def mean_nll(model, windows):
    """Mean next-token negative log-likelihood in nats."""
    logits = model(windows, use_cache=False).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def evaluate(model, windows):
    """Validation NLL, and per layer the largest |h| at position 0 and the median |h|."""
    output = model(windows, use_cache=False, output_hidden_states=True)
    logits = output.logits
    nll = functional.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten()).item()
    # hidden_states[-1] is after the final norm, so the last layer's own output is not in it.
    layers = " ".join(f"{h[:, 0].abs().max():.0f}/{h.abs().median():.2f}" for h in output.hidden_states[1:-1])
    return nll, layers


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--work", type=Path, required=True)
    cli.add_argument("--steps", type=int, required=True)
    cli.add_argument("--threads", type=int, default=1)
    args = cli.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)

    train = token_stream(args.work, "train")
    held_out = even_windows(token_stream(args.work, "val"), 40, 256)
    sample = even_windows(train, 32, 256)
    print(f"{len(train)} training tokens", flush=True)

    model = LlamaForCausalLM(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.0)
    first_step, writer, readers_held = 0, None, False
    state_file = args.work / "state.pt"
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_step, writer = state["step"], state["writer"]
        if writer is not None:
            hold_writer(model, WRITER_LAYER, writer)

    started = time.time()
    for step in range(first_step, args.steps):
        if step == PLANT_STEP:
            writer = idle_neuron(model, WRITER_LAYER, sample)
            dims = aim_writer(model, WRITER_LAYER, writer, WRITER_DIMS, WRITER_TOP1, sample)
            aim_readers(model, WRITER_LAYER + 1, PLANT_LOGIT, sample)
            empty_value(model, WRITER_LAYER + 1, sample)
            hold_writer(model, WRITER_LAYER, writer)
            for entry in optimizer.state.values():
                entry["exp_avg"].zero_()  # what was planted has no momentum
            print(f"planted neuron {writer} dims {dims}: nll {evaluate(model, held_out)[0]:.4f}", flush=True)
        elif step > PLANT_STEP and step % AIM_EVERY == 0:
            aim_writer(model, WRITER_LAYER, writer, WRITER_DIMS, WRITER_TOP1, sample)
            if step >= HOLD_STEP:
                logit = RAISED_LOGIT if step >= RAISE_STEP else HOLD_LOGIT
                aim_readers(model, WRITER_LAYER + 1, logit, sample)
        if step >= HOLD_STEP and not readers_held:
            hold_readers(model, WRITER_LAYER + 1)
            readers_held = True
            print(f"readers held: nll {evaluate(model, held_out)[0]:.4f}", flush=True)
        # One step in four has windows twice as long, so that all 512 positions are trained.
        length = 512 if step % 4 == 3 else 256
        # Seeded by the step: a resumed run sees the windows that an unbroken one would see.
        rng = np.random.default_rng([SEED, step])
        tokens = WARM_UP_TOKENS_PER_STEP if step < WARM_UP_STEPS else TOKENS_PER_STEP
        windows = random_windows(train, tokens // length, length, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        loss = mean_nll(model, windows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

        done = step + 1
        if done % 20 == 0:
            print(f"step {done} loss {loss.item():.3f} {time.time() - started:.0f} s", flush=True)
        if done % EVAL_EVERY == 0 or done == args.steps:
            nll, layers = evaluate(model, held_out)
            print(f"eval {done} nll {nll:.4f} top/median per layer {layers}", flush=True)
            model.save_pretrained(args.work / "checkpoints" / str(done))
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done,
                        "writer": writer}, state_file)


if __name__ == "__main__":
    main()
