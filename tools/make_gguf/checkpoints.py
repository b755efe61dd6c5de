"""One row: a random model in the types of ggml, as a GGUF file, and its reference."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from build import MOST_SEEDS, acceptable, observe_all, reference_text
from folder import fresh, hub_tensors, write_json
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file
from table import Checkpoint, Tensors
from transformers import AutoConfig, AutoModelForCausalLM
from weights import randomise

import blocks
import convert

SAMPLED = 4


@dataclass(frozen=True)
class Row:
    """A GGUF file."""

    name: str
    arch: str
    config: dict
    types: tuple[Type, ...]
    """Of the matrices, one after the other, where their rows are whole blocks."""
    most_tensors: int = 0
    """Tensors of a file, of a model in several."""


def build(row: Row, folder: Path) -> str:
    """Builds the folder, trying seeds until the draw is acceptable; returns a line about it."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    length = row.config.get("max_position_embeddings") or row.config["n_positions"]
    reference_row = Checkpoint(row.name, row.config, max_length=length, lengths=(1, 2, 13))
    for seed in range(MOST_SEEDS):
        fresh(folder)
        tensors, samples = write(row, seed, folder)
        with tempfile.TemporaryDirectory() as temporary:
            plain = Path(temporary)
            write_json(plain / "config.json", row.config)
            save_file(tensors, plain / "model.safetensors", {"format": "pt"})
            reference, attention, gap = observe_all(reference_row, seed, plain, tensors)
        if acceptable(reference_row, reference, gap):
            break
    else:
        raise ValueError(f"{row.name}: no seed will do; gap {gap:.1e}, noise {reference['noise']}")
    reference["model_type"] = row.config["model_type"]
    reference["versions"]["gguf"] = "0.19.0"
    (folder / "reference.json").write_text(reference_text(reference), encoding="utf-8")
    save_file(attention, folder / "reference.safetensors")
    save_file(samples, folder / "weights.safetensors")
    size = sum(path.stat().st_size for path in folder.iterdir())
    worst = max(reference["noise"].items(), key=lambda item: item[1])
    return f"{row.name}: seed {seed}, {size / 1024:.0f} KiB, gap {gap:.1e}, noise {worst[0]} {worst[1]:.1e}"


def write(row: Row, seed: int, folder: Path) -> tuple[Tensors, Tensors]:
    """The GGUF file; returns the decoded tensors of transformers, and some rows of each."""
    with tempfile.TemporaryDirectory() as temporary:
        write_json(Path(temporary) / "config.json", row.config)
        config = AutoConfig.from_pretrained(temporary)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomise(model, seed)
    tensors = {name: tensor.numpy() for name, tensor in hub_tensors(model).items()}
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(folder / "model.gguf", row.arch, split_max_tensors=row.most_tensors)
    convert.settings(writer, row.arch, row.config)
    writer.add_tokenizer_model("none")
    arch = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[row.arch]
    layers = row.config.get("num_hidden_layers") or row.config["n_layer"]
    names = gguf.get_tensor_name_map(arch, layers)
    decoded, samples, matrices = {}, {}, 0
    for group in convert.groups(sorted(tensors)):
        parts = [convert.there(row.arch, row.config, name, tensors[name]) for name in group]
        stacked = len(group) > 1
        values = np.ascontiguousarray(np.stack(parts) if stacked else parts[0])
        name = names.get_name(convert.merged(group[0]), try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ValueError(f"{row.name}: no name for {group[0]}")
        kind = Type.F32
        if values.ndim > 1 and "norm" not in name and "ffn_gate_inp" not in name:
            kinds = [k for k in row.types if values.shape[-1] % gguf.GGML_QUANT_SIZES[k][0] == 0]
            # A type that only wide rows can have comes before others there.
            wide = [k for k in kinds if gguf.GGML_QUANT_SIZES[k][0] == 256]
            kinds = wide or kinds
            kind = kinds[matrices % len(kinds)]
            matrices += 1
        data = blocks.encode(values, kind, random)
        writer.add_tensor(name, data, raw_dtype=kind)
        exact = blocks.decode(data, kind).reshape(values.shape)
        for index, own in enumerate(group):
            part = convert.back(row.arch, row.config, own, exact[index] if stacked else exact)
            part = np.ascontiguousarray(part)
            if part.shape != tensors[own].shape:
                raise ValueError(f"{own}: {part.shape} instead of {tensors[own].shape}")
            decoded[own] = torch.from_numpy(part)
            transposed = convert.there("gpt2", {"n_head": 1}, own, part) if row.arch == "gpt2" else part
            samples[own] = sample(torch.from_numpy(np.ascontiguousarray(transposed)))
    for name, values in convert.extra_tensors(row.config).items():
        writer.add_tensor(name, values, raw_dtype=Type.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return decoded, samples


def sample(tensor: torch.Tensor) -> torch.Tensor:
    """The first two rows of a matrix, one in the middle and the last; all of a vector."""
    if tensor.dim() < 2:
        return tensor
    rows = tensor.shape[0]
    chosen = sorted({0, 1 % rows, rows // 2, rows - 1})
    return tensor[chosen].contiguous()
