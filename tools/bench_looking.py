"""What looking costs, in massact and in PyTorch, side by side in one run.

    python tools/bench_looking.py --massact target/release/massact --shape llama-2-7b --layers 4 --tokens 512

Walks of the same shape (`assets/shapes.json`) with random weights that are nowhere on disk look at nothing, at
statistics of layer outputs, at statistics of every site, at attention sinks and mean maps of attention, or
intervene once. massact's are `massact bench --parts looking`; PyTorch's are transformers' layers:

    reference  eager attention and the head, sequence by sequence; hooks keep what is looked at, and when the pass is
               over it is reduced on the host with max and torch.median, as the reference program does; an
               intervention is a pass of its own
    best       fused attention, no head, all sequences at once; what is looked at is reduced where it appears, with
               topk and median; attention that is looked at is eager in any case; an intervention starts from the
               kept output of the layer before it
    compiled   best with every layer through torch.compile; hooks inside layers would break it, so that it only looks
               between them

"Every site" are the outputs of all layers and of every module inside them. Repetitions are interleaved, so that
a slow minute hits all alike; rates are of the median repetition.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench_transformers import machine

ROOT = Path(__file__).parent.parent
NOTHING, OUTPUTS, EVERY = "nothing", "statistics of layer outputs", "statistics of every site"
SINKS, MAPS, INTERVENTION = "attention sinks", "attention maps", "one intervention"
ROWS = (NOTHING, OUTPUTS, EVERY, SINKS, MAPS, INTERVENTION)
# massact leaves maps out beyond this.
MAP_TOKENS = 1024
TOP_K = 5
SPLIT = 1


def config_of(shape: str, layers: int | None, tokens: int) -> dict:
    """The config.json of a shape, with positions for all tokens."""
    shapes = json.loads((ROOT / "assets" / "shapes.json").read_text())
    config = next(one["config"] for name, one in shapes.items() if shape in (name, *one["aliases"]))
    for key in ("max_position_embeddings", "n_positions"):
        if key in config:
            config[key] = max(config[key], tokens)
    for key in ("num_hidden_layers", "n_layer"):
        if layers and key in config:
            config[key] = layers
    return config


class Peers:
    """transformers' layers with random weights, run in three ways."""

    def __init__(self, job: argparse.Namespace):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        self.torch = torch
        self.device = job.device
        torch.manual_seed(0)
        torch.set_num_threads(job.threads)
        settings = config_of(job.shape, job.layers, job.tokens)
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        self.dtype = torch.bfloat16 if job.device == "cuda" else torch.float32
        with torch.device(job.device):
            self.model = AutoModelForCausalLM.from_config(config, dtype=self.dtype).eval()
        self.base = self.model.base_model
        self.layers = getattr(self.base, "layers", None) or self.base.h
        self.ids = torch.randint(config.vocab_size, (job.sequences, job.tokens), device=job.device)
        self.compiled = [torch.compile(layer) for layer in self.layers] if "compiled" in job.peers else []

    # --- as the reference does it -------------------------------------------------------

    def reference(self, row: str) -> None:
        """One repetition, sequence by sequence."""
        self.model.set_attn_implementation("eager")
        kept = []

        def keep(module, arguments, output):
            kept.append(first(output).clone())

        looked_at = {OUTPUTS: self.layers, EVERY: self.modules(), INTERVENTION: self.layers}.get(row, [])
        hooks = [module.register_forward_hook(keep) for module in looked_at]
        for ids in self.ids.split(1):
            found = self.model(ids, output_attentions=row in (SINKS, MAPS))
            for tensor in kept:
                magnitude = tensor.detach().cpu().view(-1).abs().float()
                magnitude.max(0).values.item(), magnitude.median().item()
            kept.clear()
            if row in (SINKS, MAPS):
                for weights in found.attentions:
                    self.of_attention(row, weights).cpu()
        for hook in hooks:
            hook.remove()
        if row == INTERVENTION:
            hook = self.layers[min(SPLIT, len(self.layers) - 1)].register_forward_hook(set_to_zero)
            for ids in self.ids.split(1):
                self.model(ids)
            hook.remove()

    # --- as it is best done -------------------------------------------------------------

    def best(self, row: str) -> None:
        """One repetition of all sequences."""
        self.run(row, list(self.layers))

    def run_compiled(self, row: str) -> None:
        """The same through torch.compile; None where that is of no use."""
        self.run(row, self.compiled)

    def run(self, row: str, layers: list) -> None:
        maps = row in (SINKS, MAPS)
        self.model.set_attn_implementation("eager" if maps else "sdpa")
        found, hooks = [], []

        def reduce(module, arguments, output):
            found.append(self.reduced(first(output)))

        def receive(module, arguments, output):
            # The weights are the attention module's second result.
            found.append(self.of_attention(row, output[1]))

        if row == EVERY:
            hooks = [module.register_forward_hook(reduce) for module in self.modules()]
        if maps:
            attention = [getattr(layer, "self_attn", None) or layer.attn for layer in self.layers]
            hooks = [module.register_forward_hook(receive) for module in attention]
        hidden, more = self.embedded()
        split = min(SPLIT, len(layers) - 1)
        for index, layer in enumerate(layers):
            hidden = first(layer(hidden, **more))
            if row in (OUTPUTS, INTERVENTION):
                found.append(self.reduced(hidden))
            if row == INTERVENTION and index == split:
                variant = hidden.clone()
                variant[:, 0, 0] = 0
        if row == INTERVENTION:
            for layer in layers[split + 1 :]:
                variant = first(layer(variant, **more))
        for one in found:
            one.cpu()
        for hook in hooks:
            hook.remove()

    def embedded(self) -> tuple:
        """The residual stream before the first layer, and what layers are given besides."""
        if hasattr(self.base, "wpe"):
            positions = self.torch.arange(self.ids.shape[1], device=self.device)
            return self.base.wte(self.ids) + self.base.wpe(positions), self.masked()
        hidden = self.base.embed_tokens(self.ids)
        positions = self.torch.arange(self.ids.shape[1], device=self.device)[None]
        embeddings = self.base.rotary_emb(hidden, positions)
        return hidden, {"position_embeddings": embeddings, "position_ids": positions} | self.masked()

    def masked(self) -> dict:
        """Fused attention without a mask is causal; eager attention needs one."""
        if self.model.config._attn_implementation == "sdpa":
            return {"attention_mask": None}
        tokens, lowest = self.ids.shape[1], self.torch.finfo(self.dtype).min
        hidden = self.torch.full((1, 1, tokens, tokens), lowest, dtype=self.dtype, device=self.device)
        return {"attention_mask": hidden.triu(1)}

    # --- what is looked at --------------------------------------------------------------

    def modules(self) -> list:
        """The layers and everything inside them."""
        return [module for layer in self.layers for module in layer.modules()]

    def reduced(self, tensor):
        """Of each sequence the largest magnitudes and the median."""
        magnitude = tensor.reshape(self.ids.shape[0], -1).abs() if tensor.ndim == 3 else tensor.abs()[None]
        magnitude = magnitude.flatten(1)
        return self.torch.cat((magnitude.topk(TOP_K).values, magnitude.median(1, keepdim=True).values), 1)

    def of_attention(self, row: str, weights):
        """What each key receives, or the mean over heads."""
        return weights.mean(2) if row == SINKS else weights.mean(1)


def first(output):
    """The tensor that a module returns, perhaps among others."""
    return output[0] if isinstance(output, tuple) else output


def set_to_zero(module, arguments, output):
    """An intervention on the first value."""
    first(output)[:, 0, 0] = 0
    return output


# --- running ----------------------------------------------------------------------------


def timed(work: Callable[[str], None], row: str, peers: Peers) -> float:
    """Seconds of one repetition."""
    if peers.device == "cuda":
        peers.torch.cuda.synchronize()
    began = time.perf_counter()
    with peers.torch.no_grad():
        work(row)
    if peers.device == "cuda":
        peers.torch.cuda.synchronize()
    return time.perf_counter() - began


def run_massact(job: argparse.Namespace) -> dict:
    """One repetition of all its walks: the document."""
    command = [str(job.massact), "bench", "--parts", "looking", "--repetitions", "1", "--json", "--quiet"]
    command += ["--shape", job.shape, "--tokens", str(job.tokens), "--sequences", str(job.sequences)]
    command += ["--device", job.device] + (["--layers", str(job.layers)] if job.layers else [])
    threads = {"RAYON_NUM_THREADS": str(job.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if done.returncode:
        raise SystemExit(f"massact bench: {done.stderr.strip()}")
    return json.loads(done.stdout)


def rows_of(peer: str, job: argparse.Namespace) -> list[str]:
    """What a peer can look at."""
    rows = [row for row in ROWS if row != MAPS or job.tokens <= MAP_TOKENS]
    return [row for row in rows if peer != "compiled" or row in (NOTHING, OUTPUTS, INTERVENTION)]


def measure(job: argparse.Namespace) -> dict:
    """Seconds of every repetition, by peer and row."""
    peers = Peers(job)
    works = {"reference": peers.reference, "best": peers.best, "compiled": peers.run_compiled}
    works = {peer: works[peer] for peer in job.peers}
    seconds = {peer: {row: [] for row in rows_of(peer, job)} for peer in ("massact", *works)}
    for peer, work in works.items():
        for row in seconds[peer]:
            timed(work, row, peers)
            print(f"warm: {peer}, {row}", file=sys.stderr)
    for repetition in range(job.repeats):
        for walk in run_massact(job)["looking"]["walks"]:
            seconds["massact"][walk["looks_at"]].append(walk["median_seconds"])
        for peer, work in works.items():
            for row in seconds[peer]:
                seconds[peer][row].append(timed(work, row, peers))
        print(f"{repetition + 1}/{job.repeats}", file=sys.stderr)
    return seconds


# --- summary ----------------------------------------------------------------------------


def markdown(job: argparse.Namespace, seconds: dict) -> str:
    """The table: rates, what looking adds to each program's bare walk, and ratios to massact."""
    where = machine()
    layers = f"{job.layers} layers, " if job.layers else ""
    lines = [
        f"### What looking costs: {job.shape}, {layers}{job.sequences} x {job.tokens} tokens",
        "",
        f"{where['cpu']}, {job.threads} threads; {job.device}; {where['date']}; commit {where['commit']}; "
        f"torch {where['torch']}, transformers {where['transformers']}; medians of {job.repeats} interleaved "
        f"repetitions.{' ' + job.note if job.note else ''}",
        "",
        "| a walk that looks at | massact tokens/s | added |"
        + "".join(f" {peer} tokens/s | added | massact is |" for peer in job.peers),
        "|---|---|---|" + "---|---|---|" * len(job.peers),
    ]
    median = {
        peer: {row: statistics.median(times) for row, times in rows.items()} for peer, rows in seconds.items()
    }
    tokens = job.sequences * job.tokens
    for row, ours in median["massact"].items():
        cells = [row, f"{tokens / ours:.0f}", f"{ours / median['massact'][NOTHING] - 1:+.1%}"]
        for peer in job.peers:
            theirs = median[peer].get(row)
            if theirs is None:
                cells += ["", "", ""]
                continue
            added = theirs / median[peer][NOTHING] - 1
            cells += [f"{tokens / theirs:.0f}", f"{added:+.1%}", f"{theirs / ours:.2f} times as fast"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--massact", type=Path, required=True, help="release binary")
    parser.add_argument("--shape", default="gpt2")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--peers", nargs="+", default=["reference", "best", "compiled"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--note", help="what the table should say of the machine")
    parser.add_argument("--results", type=Path, default=ROOT / "benches" / "results")
    return parser.parse_args()


def main() -> None:
    job = parse()
    seconds = measure(job)
    table = markdown(job, seconds)
    print(table)
    job.results.mkdir(parents=True, exist_ok=True)
    layers = f"-{job.layers}-layers" if job.layers else ""
    stem = job.results / f"looking-{job.shape}{layers}-{job.device}"
    stem.with_name(f"{stem.name}.md").write_text(table)
    settings = {key: str(value) for key, value in vars(job).items() if key not in ("massact", "results")}
    document = {"machine": machine(), "settings": settings, "seconds": seconds}
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
