"""How weights are stored in few bits: one file a format.

A packer takes one matrix and returns what is stored of it, by what follows the module's name, and
the float32 matrix that it stands for: codes and scales widened, and multiplied in float32.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from table import Tensors

Packed = tuple[Tensors, torch.Tensor]


@dataclass(frozen=True)
class Packing:
    """Which matrices of a model are packed, and how."""

    rules: tuple[tuple[str, Callable[[str, torch.Tensor], Packed]], ...]
    """Patterns of module names, each with its packer; the first that matches counts."""

    extra: Callable[[str], Tensors] | None = None
    """Tensors beside those of a packed module, by its name, that do not change its values."""

    files: tuple[tuple[str, dict], ...] = ()
    """Further JSON files of the folder."""

    def apply(self, tensors: Tensors, dtype: torch.dtype) -> tuple[Tensors, Tensors, list[str]]:
        """What is stored, what it stands for in float32, and the names of what is packed."""
        stored, dense, packed = {}, {}, []
        for name, tensor in tensors.items():
            module = name.removesuffix(".weight")
            packer = next((rule for pattern, rule in self.rules if re.search(pattern, module)), None)
            if packer is None or tensor.dim() < 2:
                stored[name] = tensor.to(dtype)
                dense[name] = stored[name].float()
                continue
            parts, values = packer(module, tensor.float())
            dense[name] = values.contiguous()
            separator = "." if name.endswith(".weight") else "_"
            # A part that belongs to the tensor rather than to the module begins with a bar.
            stored |= {
                (name + part[1:] if part.startswith("|") else module + separator + part): value.contiguous()
                for part, value in parts.items()
            }
            stored |= self.extra(module) if self.extra else {}
            packed.append(name)
        return stored, dense, packed


def spread(grid: torch.Tensor, block: tuple[int, int], shape: torch.Size) -> torch.Tensor:
    """A number a block, for every value; the last blocks are cut off."""
    rows = grid.repeat_interleave(block[0], dim=-2)[..., : shape[-2], :]
    return rows.repeat_interleave(block[1], dim=-1)[..., : shape[-1]]


def largest(weight: torch.Tensor, block: tuple[int, int]) -> torch.Tensor:
    """The largest magnitude of every block."""
    rows, columns = weight.shape[-2:]
    padding = (0, -columns % block[1], 0, -rows % block[0])
    padded = torch.nn.functional.pad(weight.abs(), padding)
    split = padded.unflatten(-1, (-1, block[1])).unflatten(-3, (-1, block[0]))
    return split.amax(dim=(-1, -3))


def range_of_groups(weight: torch.Tensor, size: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """float16 scales and whole zero points, `[out, groups]`, of asymmetric codes of groups of inputs."""
    groups = weight.unflatten(-1, (-1, size))
    low, high = groups.amin(dim=-1).clamp(max=0), groups.amax(dim=-1).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).to(torch.float16)
    zero = torch.round(-low / scale.float()).clamp(0, 2**bits - 1)
    return scale, zero


def pack_words(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes `[n, m]` as int32 `[n, m * bits / 32]`: a dense stream, the lowest bits first."""
    shifts = torch.arange(bits)
    stream = (codes.long().unsqueeze(-1) >> shifts & 1).flatten(1)
    words = stream.unflatten(1, (-1, 32)) << torch.arange(32)
    words = words.sum(dim=-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
