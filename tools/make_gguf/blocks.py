"""Values in a type of ggml, and back. Types that `gguf` decodes but does not encode get random blocks."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# Where the float16 scale of a block lies, and that of the minimum with how many times as large it must be
# for values around zero.
SCALES = {
    Type.Q2_K: (80, (82, 1.5)),
    Type.Q3_K: (108, None),
    Type.Q4_K: (0, (2, 7.5)),
    Type.Q5_K: (0, (2, 15.5)),
    Type.Q6_K: (208, None),
    Type.IQ4_NL: (0, None),
    Type.IQ4_XS: (0, None),
}


def encode(values: np.ndarray, kind: Type, random: np.random.Generator) -> np.ndarray:
    """Bytes of about these values; where `gguf` cannot encode, of random ones of the same spread."""
    if kind not in SCALES:
        return gguf.quantize(values, kind)
    size, length = gguf.GGML_QUANT_SIZES[kind]
    rows, width = values.shape[:-1], values.shape[-1]
    count = values.size // size
    blocks = random.integers(0, 256, (count, length), dtype=np.uint8)
    at, minimum = SCALES[kind]

    def scaled(scale: np.ndarray) -> np.ndarray:
        out = blocks.copy()
        fields = [(at, scale)] + ([(minimum[0], scale * minimum[1])] if minimum else [])
        for place, field in fields:
            out[:, place : place + 2] = field.astype(np.float16).view(np.uint8).reshape(count, 2)
        return out

    unit = gguf.dequantize(scaled(np.ones(count)), kind).std()
    # Scales differ between blocks, some are negative, and the first block's is zero.
    scale = values.std() / unit * random.uniform(0.5, 1.5, count) * random.choice([-1, 1, 1], count)
    scale[0] = 0
    return scaled(scale).reshape(*rows, width // size * length)


def decode(data: np.ndarray, kind: Type) -> np.ndarray:
    """The values in float32."""
    if kind == Type.F32:
        return data.astype(np.float32)
    if kind == Type.F16:
        return data.astype(np.float32)
    return gguf.dequantize(data, kind)
