"""Writes a checkpoint folder: config.json, safetensors files, index."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from table import Checkpoint, Tensors


def hub_tensors(model: torch.nn.Module) -> Tensors:
    """The model's tensors under the names it is published with.

    Goes through `save_pretrained`, since in memory transformers may fuse or rename
    what the files keep apart (experts of a mixture, for one).
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Numbers in this dtype; tables of integers as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def write_weights(row: Checkpoint, tensors: Tensors, folder: Path) -> None:
    """Stores `tensors` in the row's dtype, names and number of files."""
    rename = row.rename or (lambda name: name)
    if row.packing:
        stored = tensors
    else:
        stored = {rename(name): in_dtype(tensor, row.dtype).contiguous() for name, tensor in tensors.items()}
        if row.layout:
            stored = row.layout(stored)
    if row.extra_tensors:
        stored |= row.extra_tensors(row.config)
    # Written by publishers' libraries and expected by some readers.
    metadata = {"format": "pt"}
    if row.shards == 1:
        save_file(stored, folder / "model.safetensors", metadata)
        return
    weight_map = {}
    # Dealt round-robin, so that the tensors of a layer lie in different files.
    names = sorted(stored)
    for shard in range(row.shards):
        file_name = f"model-{shard + 1:05}-of-{row.shards:05}.safetensors"
        part = {name: stored[name] for name in names[shard :: row.shards]}
        save_file(part, folder / file_name, metadata)
        weight_map |= dict.fromkeys(part, file_name)
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in stored.values())},
        "weight_map": dict(sorted(weight_map.items())),
    }
    write_json(folder / "model.safetensors.index.json", index)


def write_json(path: Path, content: dict) -> None:
    """Indented JSON with a final newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """An empty folder at this path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
