"""bitsandbytes, packed by the library itself."""

import torch
from bitsandbytes import functional

from packing import Packed


def four_bits(kind: str, double: bool, block: int = 64, storage=torch.uint8):
    """nf4 or fp4; blocks run over the flattened matrix.

    It is packed as one row: the library's CPU kernel (0.50.2) lets blocks of wider matrices begin anew in
    every row when it unpacks them, and they do not when it packs.
    """

    def pack(_module: str, weight: torch.Tensor) -> Packed:
        codes, state = functional.quantize_4bit(
            weight.reshape(1, -1),
            blocksize=block,
            compress_statistics=double,
            quant_type=kind,
            quant_storage=storage,
        )
        dense = functional.dequantize_4bit(codes, state).reshape(weight.shape)
        assert (dense - weight).abs().max() < 0.25 * weight.abs().max()
        state.shape = weight.shape
        assert dense.dtype == torch.float32
        parts = {f"|.{name}": part for name, part in state.as_dict(packed=True).items()}
        return parts | {"|": codes}, dense

    return pack


def int8(_module: str, weight: torch.Tensor) -> Packed:
    """`SCB`, the largest magnitude of every output, and the layout of the codes, 0 for by row."""
    codes, largest, _ = functional.int8_vectorwise_quant(weight.to(torch.float16))
    dense = codes.float() * (largest / 127).unsqueeze(1)
    theirs = functional.int8_vectorwise_dequant(codes, largest)
    assert (theirs - dense).abs().max() <= 1e-6 * dense.abs().max()
    parts = {"weight": codes, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, dense
