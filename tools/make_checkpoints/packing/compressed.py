"""compressed-tensors, packed by the library itself."""

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

from packing import Packed, largest, pack_words, range_of_groups, spread


def library(format_: str, scale_dtype=torch.bfloat16, **arguments):
    """Packed in this format, with the weights' `QuantizationArgs`; unpacked with float32 scales."""
    weights = QuantizationArgs(**arguments)
    # Formats of eight bits ask for quantised inputs, whatever becomes of them.
    scheme = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=None)
    compressor = BaseCompressor.load_from_registry(format_)
    block = {"tensor": None, "channel": None, "group": (1, weights.group_size)}.get(
        weights.strategy, tuple(weights.block_structure or ())
    )

    def pack(_module: str, weight: torch.Tensor) -> Packed:
        own = block or ((1, weight.shape[1]) if weights.strategy == "channel" else tuple(weight.shape))
        parts = {"weight": weight}
        if weights.symmetric:
            top = 448 if weights.type == "float" else 2 ** (weights.num_bits - 1) - 0.5
            scale = (largest(weight, own) / top).to(scale_dtype)
        else:
            scale, zero = range_of_groups(weight, own[1], weights.num_bits)
            scale = scale.to(scale_dtype)
            parts["weight_zero_point"] = (zero - 2 ** (weights.num_bits - 1)).to(torch.int8)
        parts["weight_scale"] = scale.flatten() if weights.strategy == "tensor" else scale
        stored = compressor.compress(parts | {"weight_scale": parts["weight_scale"].float()}, scheme)
        stored["weight_scale"] = parts["weight_scale"]
        widened = stored | {"weight_scale": stored["weight_scale"].float()}
        return stored, compressor.decompress(widened, scheme)["weight"].float()

    return pack


def int4_act_order(size: int):
    """Groups by importance rather than by place: `weight_g_idx`, which older versions of the library wrote."""

    def pack(module: str, weight: torch.Tensor) -> Packed:
        order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(len(module)))
        groups = torch.empty_like(order)
        groups[order] = torch.arange(weight.shape[1]) // size
        scale, zero = range_of_groups(weight[:, order], size, 4)
        scales, zeros = scale.float()[:, groups], zero[:, groups]
        codes = torch.round(weight / scales + zeros).clamp(0, 15)
        parts = {
            "weight_packed": pack_words(codes, 4),
            "weight_shape": torch.tensor(weight.shape),
            "weight_scale": scale,
            "weight_zero_point": pack_words(zero.T, 4).T,
            "weight_g_idx": groups.to(torch.int32),
        }
        return parts, (codes - zeros) * scales

    return pack


def fp4(format_: str):
    """NVFP4 or MXFP4; the dense values are the library's codes with scales in float32."""
    group = 16 if format_.startswith("nv") else 32
    strategy = "tensor_group" if group == 16 else "group"
    weights = QuantizationArgs(num_bits=4, type="float", strategy=strategy, group_size=group)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    compressor = BaseCompressor.load_from_registry(format_)

    def pack(_module: str, weight: torch.Tensor) -> Packed:
        parts = {"weight": weight}
        if group == 16:
            parts["weight_global_scale"] = (448 * 6 / weight.abs().amax()).reshape(1)
            scale = largest(weight, (1, group)) / 6 * parts["weight_global_scale"]
            parts["weight_scale"] = scale.to(torch.float8_e4m3fn).float()
        else:
            parts["weight_scale"] = 2 ** torch.ceil(torch.log2(largest(weight, (1, group)) / 6))
        stored = compressor.compress(parts, scheme)
        codes = unpack_fp4_from_uint8(stored["weight_packed"], *weight.shape, dtype=torch.float32)
        scale = parts["weight_scale"]
        if group == 16:
            scale = scale / parts["weight_global_scale"]
            stored["input_global_scale"] = torch.tensor([3.0])
        dense = codes * spread(scale, (1, group), weight.shape)
        theirs = compressor.decompress(stored, scheme)["weight"].float()
        assert (theirs - dense).abs().max() <= 0.01 * dense.abs().max()
        return stored, dense

    return pack


def mxfp8(_module: str, weight: torch.Tensor) -> Packed:
    """FP8 in groups of 32 with powers of two, which bfloat16 holds exactly, as the library returns it."""
    weights = QuantizationArgs(
        num_bits=8, type="float", strategy="group", group_size=32, scale_dtype=torch.uint8
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    compressor = BaseCompressor.load_from_registry("mxfp8-quantized")
    scale = 2 ** torch.ceil(torch.log2(largest(weight, (1, 32)) / 448))
    stored = compressor.compress({"weight": weight, "weight_scale": scale}, scheme)
    return stored, compressor.decompress(stored, scheme)["weight"].float()
