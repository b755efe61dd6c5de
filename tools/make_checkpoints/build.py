"""Turns one row of the table into a folder: weights, reference.json, reference.safetensors."""

import json
import platform
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig

import experiments
import inside
import noise
from auto_class import auto_class
from folder import fresh, hub_tensors, in_dtype, write_json, write_weights
from quantities import attention_summary, sequence_summary, smallest_gap
from record import observe
from table import Checkpoint, Tensors
from tokenizers_and_text import write_text, write_tokenizer
from weights import randomise

SMALLEST_GAP = 1e-3
SMALLEST_MARGIN = 1e-4
MOST_SEEDS = 60
# Of a packed matrix every so many-th value is kept beside the reference.
SAMPLED = 37


def build(row: Checkpoint, folder: Path) -> str:
    """Builds the folder, trying seeds until the draw is acceptable; returns a line about it."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for seed in range(MOST_SEEDS):
        tensors = write_checkpoint(row, seed, fresh(folder))
        reference, attention, gap = observe_all(row, seed, folder, tensors)
        if not acceptable(row, reference, gap):
            continue
        if not row.tokenizer:
            break
        model = load(row, folder, tensors)
        reference["experiments"], margin = experiments.summaries(row, folder, model)
        if margin > SMALLEST_MARGIN:
            break
    else:
        raise ValueError(
            f"{row.name}: no seed will do; the last has gap {gap:.1e}, noise {reference['noise']}"
        )
    (folder / "reference.json").write_text(reference_text(reference), encoding="utf-8")
    save_file(attention, folder / "reference.safetensors")
    if row.mixers:
        token_ids = reference["sequences"][reference["attention_sequence"]]["token_ids"]
        model = load(row, folder, tensors).double()
        save_file(inside.sites(row, model, token_ids), folder / "sites.safetensors")
    size = sum(path.stat().st_size for path in folder.iterdir())
    worst = max(reference["noise"].items(), key=lambda item: item[1])
    return f"{row.name}: seed {seed}, {size / 1024:.0f} KiB, gap {gap:.1e}, noise {worst[0]} {worst[1]:.1e}"


def acceptable(row: Checkpoint, reference: dict, gap: float) -> bool:
    """Top lists without near-ties (their order is part of the reference), and little noise."""
    quiet = all(
        value < row.noise_allowance * noise.LIMIT[quantity] for quantity, value in reference["noise"].items()
    )
    return gap > SMALLEST_GAP and quiet


def write_checkpoint(row: Checkpoint, seed: int, folder: Path) -> Tensors:
    """A random model in its hub form; returns its tensors under transformers' own names."""
    # AutoConfig reads the file, so old and new spellings take the way they take for users.
    write_json(folder / "config.json", row.config)
    config = AutoConfig.from_pretrained(folder)
    # What is built has whole weights.
    config.__dict__.pop("quantization_config", None)
    # Some initial values are drawn from the global generator (gpt-oss's sinks).
    torch.manual_seed(seed)
    model = auto_class(config).from_config(config, dtype=torch.float32)
    if row.variant:
        row.variant(model)
    randomise(model, seed)
    tensors = hub_tensors(model)
    if row.plant:
        row.plant(row.config, tensors)
    if row.packing:
        return write_packed(row, tensors, folder)
    write_weights(row, tensors, folder)
    if row.tokenizer:
        write_tokenizer(row.tokenizer, row.context_length, folder)
        write_text(row.text_start, folder)
    return {name: in_dtype(tensor, row.dtype) for name, tensor in tensors.items()}


def write_packed(row: Checkpoint, tensors: Tensors, folder: Path) -> Tensors:
    """A model of which matrices are packed; returns what they stand for, in float32."""
    if row.layout:
        tensors = row.layout(tensors)
    stored, dense, packed = row.packing.apply(tensors, row.dtype)
    write_weights(row, stored, folder)
    for name, content in row.packing.files:
        write_json(folder / name, content)
    # Not all of them: with the whole model beside it, what is read wrong shows in its numbers, too.
    samples = {name: dense[name].flatten()[::SAMPLED].clone() for name in packed}
    save_file(samples, folder / "dequantised.safetensors")
    return dense


def load_dense(row: Checkpoint, dense: Tensors) -> torch.nn.Module:
    """A packed model as what its weights stand for, which transformers need not unpack."""
    config = {key: value for key, value in row.config.items() if key != "quantization_config"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "config.json", config)
        save_file(dense, folder / "model.safetensors", {"format": "pt"})
        return load(replace(row, packing=None), folder, dense)


def load_variant(row: Checkpoint, folder: Path, tensors: Tensors) -> torch.nn.Module:
    """A changed model with these tensors, widened."""
    config = AutoConfig.from_pretrained(folder)
    model = auto_class(config).from_config(config, dtype=torch.float32, attn_implementation="eager")
    row.variant(model)
    widened = {name: tensor.float() for name, tensor in tensors.items()}
    missing, unused = model.load_state_dict(widened, strict=False)
    # A tied head is not stored.
    if unused or any(not name.startswith("lm_head") for name in missing):
        raise ValueError(f"{row.name}: unused {unused}, missing {missing}")
    model.tie_weights()
    return model.eval()


def load(row: Checkpoint, folder: Path, tensors: Tensors) -> torch.nn.Module:
    """The checkpoint as a float32 eager model: as transformers reads the folder, in which every
    stored tensor must have found its place, or for a variant made from `tensors`."""
    if row.variant:
        return load_variant(row, folder, tensors)
    if row.packing:
        return load_dense(row, tensors)
    model, info = auto_class(AutoConfig.from_pretrained(folder)).from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        # One expert after another: the fused form refuses these odd sizes.
        experts_implementation="eager",
        output_loading_info=True,
    )
    unused = [
        name
        for name in info["unexpected_keys"]
        if not any(re.search(pattern, name) for pattern in row.allowed_unused)
    ]
    if unused or info["missing_keys"] or info["mismatched_keys"]:
        raise ValueError(f"{row.name}: unused {unused}, missing {info['missing_keys']}")
    return model.eval()


def sequences(row: Checkpoint, seed: int, vocabulary: int) -> list[list[int]]:
    """Random token ids of the row's lengths; the smallest and largest id occur in the longest."""
    generator = torch.Generator().manual_seed(1000 + seed)
    drawn = [
        torch.randint(vocabulary, (length,), generator=generator).tolist()
        for length in (*row.lengths, row.max_length)
    ]
    # A start token occurs once, or its values would tie.
    largest = vocabulary - 1
    drawn[-1][0], drawn[-1][-1] = 0, largest - (largest == row.start_id)
    for token_ids in drawn:
        if row.start_id is not None and len(token_ids) > 1:
            token_ids[0] = row.start_id
        for place, required in enumerate(row.include_ids, start=len(token_ids) // 2):
            if 0 < place < len(token_ids):
                token_ids[place] = required
    return drawn


def observe_all(
    row: Checkpoint, seed: int, folder: Path, tensors: Tensors
) -> tuple[dict, dict, float]:
    """The reference document, the attention tensors, and the smallest gap in any top list."""
    single = load(row, folder, tensors)
    double = load(row, folder, tensors).double()
    summaries, attention = [], {}
    worst = dict.fromkeys(noise.LIMIT, 0.0)
    gap = float("inf")
    mapped = len(row.lengths) - 1
    vocabulary = single.config.get_text_config().vocab_size
    for index, token_ids in enumerate(sequences(row, seed, vocabulary)):
        observed = observe(single, token_ids)
        truth = observe(double, token_ids, float64=True)
        summaries.append(sequence_summary(observed, token_ids))
        gap = min([gap, *map(smallest_gap, observed.layers)])
        measured = noise.measure(observed, truth, token_ids)
        worst = {quantity: max(worst[quantity], measured[quantity]) for quantity in worst}
        if index == mapped:
            attention = attention_summary(observed)
    reference = {
        "checkpoint": row.name,
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
        "noise": {quantity: float(f"{value:.3g}") for quantity, value in worst.items()},
        "attention_sequence": mapped,
        "sequences": summaries,
    }
    return reference, attention, gap


def reference_text(reference: dict) -> str:
    """JSON with one line per innermost record: readable in a diff without a line per number."""
    return (
        json.dumps(reference, ensure_ascii=False)
        .replace('{"layer"', '\n{"layer"')
        .replace('{"token_ids"', '\n{"token_ids"')
        + "\n"
    )
