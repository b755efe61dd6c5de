"""FP8 in blocks, by output and by tensor, with the scales that quant_method fp8, fbgemm_fp8 and modelopt store."""

import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from packing import Packed, largest, spread


def blocks(block: tuple[int, int], scale_dtype=torch.float32):
    """`weight_scale_inv`, which multiplies; of stacked experts `<name>_scale_inv`."""

    def pack(_module: str, weight: torch.Tensor) -> Packed:
        scale = (largest(weight, block) / 448).to(scale_dtype)
        factor = spread(scale.float(), block, weight.shape)
        codes = (weight / factor).to(torch.float8_e4m3fn)
        dense = codes.float() * factor
        # transformers takes the block size from the grid, which is right where nothing is cut off.
        if weight.shape[-2] % block[0] == 0 and weight.shape[-1] % block[1] == 0:
            theirs = Fp8Dequantize(None)._dequantize_one(codes, scale, torch.float32)
            assert torch.equal(theirs, dense)
        return {"|": codes, "|_scale_inv": scale}, dense

    return pack


def by_tensor(dtype: torch.dtype = torch.float8_e4m3fn):
    """`weight_scale` of one element, and a scale of the inputs that has nothing to do with the weights."""

    def pack(_module: str, weight: torch.Tensor) -> Packed:
        scale = weight.abs().amax() / torch.finfo(dtype).max
        codes = (weight / scale).to(dtype)
        parts = {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.5)}
        return parts, codes.float() * scale

    return pack


def by_output(_module: str, weight: torch.Tensor) -> Packed:
    """`weight_scale` `[out, 1]`."""
    scale = weight.abs().amax(dim=1, keepdim=True) / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale": scale}, codes.float() * scale


def nvfp4(_module: str, weight: torch.Tensor) -> Packed:
    """ModelOpt's NVFP4: `weight_scale_2` multiplies the scales of groups of 16."""
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    values = torch.cat([values, -values])
    overall = weight.abs().amax() / (6 * 448)
    scale = (largest(weight, (1, 16)) / 6 / overall).to(torch.float8_e4m3fn)
    factor = spread(scale.float() * overall, (1, 16), weight.shape)
    codes = ((weight / factor).unsqueeze(-1) - values).abs().argmin(dim=-1)
    bytes_ = (codes[:, 0::2] | codes[:, 1::2] << 4).to(torch.uint8)
    parts = {"weight": bytes_, "weight_scale": scale, "weight_scale_2": overall}
    parts["input_scale"] = torch.tensor(0.25)
    return parts, values[codes] * factor
