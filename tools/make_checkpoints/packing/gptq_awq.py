"""GPTQ and AWQ as AutoGPTQ and AutoAWQ store them, defined here; AWQ is read back by compressed-tensors' converter.

Both keep `[in, out]`. GPTQ (github.com/AutoGPTQ/AutoGPTQ, qlinear_cuda_old.py) packs along the inputs and
its zero points along the outputs, less one in its first version; 3 bits are a dense stream. AWQ
(github.com/casper-hansen/AutoAWQ, gemm.py) packs both along the outputs, nibble i of a word holding
output [0, 2, 4, 6, 1, 3, 5, 7][i].
"""

import torch
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.compressors import BaseCompressor

from packing import Packed, pack_words, range_of_groups

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def gptq(bits: int, size: int, version: int = 1, act_order: bool = False, g_idx: bool = True):
    """Groups of `size` inputs, all of them for -1; with `act_order` an input's group is not by its place."""

    def pack(module: str, weight: torch.Tensor) -> Packed:
        outputs, inputs = weight.shape
        own = inputs if size == -1 else size
        order = torch.arange(inputs)
        if act_order:
            order = torch.randperm(inputs, generator=torch.Generator().manual_seed(len(module)))
        groups = torch.empty_like(order)
        groups[order] = torch.arange(inputs) // own
        scale, zero = range_of_groups(weight[:, order], own, bits)
        # The first version cannot say 0 without a difference between libraries.
        zero = zero.clamp(min=1) if version == 1 else zero
        scales, zeros = scale.float()[:, groups], zero[:, groups]
        codes = torch.round(weight / scales + zeros).clamp(0, 2**bits - 1)
        parts = {
            "qweight": pack_words(codes, bits).T,
            "qzeros": pack_words((zero - int(version == 1)).T, bits),
            "scales": scale.T,
        }
        if g_idx:
            parts["g_idx"] = groups.to(torch.int32)
        return parts, (codes - zeros) * scales

    return pack


def zero_bias(outputs):
    """A bias of zeros beside every packed module, as AutoGPTQ stores for Llama."""
    return lambda module: {f"{module}.bias": torch.zeros(outputs(module), dtype=torch.float16)}


def awq(size: int):
    """Asymmetric codes of four bits."""

    def pack(_module: str, weight: torch.Tensor) -> Packed:
        scale, zero = range_of_groups(weight, size, 4)
        scales, zeros = (part.repeat_interleave(size, dim=1) for part in (scale.float(), zero))
        codes = torch.round(weight / scales + zeros).clamp(0, 15)

        def words(values: torch.Tensor) -> torch.Tensor:
            ordered = values.T.unflatten(1, (-1, 8))[:, :, AWQ_ORDER].flatten(1)
            return pack_words(ordered, 4)

        parts = {"qweight": words(codes), "qzeros": words(zero), "scales": scale.T}
        dense = (codes - zeros) * scales
        assert torch.equal(converted(parts, size), dense)
        return parts, dense

    return pack


def converted(parts: dict[str, torch.Tensor], size: int) -> torch.Tensor:
    """What compressed-tensors makes of an AWQ module."""
    converter = AutoAWQConverter(bits=4, group_size=size, zero_point=True)
    tensors = converter.process({f"m.{name}": part for name, part in parts.items()})
    own = {name.removeprefix("m."): tensor for name, tensor in tensors.items()}
    own["weight_scale"] = own["weight_scale"].float()
    weights = QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=size)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    return BaseCompressor.load_from_registry("pack-quantized").decompress(own, scheme)["weight"]
