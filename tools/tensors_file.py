"""Safetensors files with nothing but torch: eight bytes of length, a JSON header, the tensors.

For machines that have no other package, and for checkpoints larger than their memory: tensors
are made, written and dropped one by one.
"""

import json
import mmap
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import torch

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def write(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    make: Callable[[str, tuple[int, ...]], torch.Tensor],
) -> None:
    """Writes the tensor `make(name, shape)` of every name."""
    (stored,) = (name for name, known in DTYPES.items() if known is dtype)
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            tensor = make(name, shape).to(dtype).cpu().contiguous()
            file.write(tensor.view(torch.uint8).numpy().data)


def read(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor by name, on the file's pages: copy what should outlive the next one."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        # A private mapping: torch wants memory that it may write to.
        data = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        offset = 8 + size + entry["data_offsets"][0]
        flat = torch.frombuffer(data, dtype=dtype, count=prod(shape), offset=offset)
        yield name, flat.reshape(shape)
