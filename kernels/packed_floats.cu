// Weights packed as small floats with scales (packed.cuh).
#include "packed_bytes.cuh"

DEFINE_DECODES(e4m3, Bytes<e4m3>, decode_by_output)
DEFINE_DECODES(e5m2, Bytes<e5m2>, decode_by_output)

// Parts: codes, the low half of a byte first; E8M0 scales of 32. Numbers: blocks of a line.
struct Mxfp4 {
    const unsigned char *codes, *scales;

    __device__ __forceinline__ Mxfp4(const PackedArguments& p, int line)
        : codes(p.parts[0] + (size_t)line * p.numbers[0] * 16),
          scales(p.parts[1] + (size_t)line * p.numbers[0]) {}

    __device__ __forceinline__ float operator()(int column) const {
        return e2m1(codes[column / 2] >> (4 * (column % 2)) & 15) * e8m0(scales[column / 32]);
    }
};
DEFINE_DECODES(mxfp4, Mxfp4, decode_by_output)

// Parts: codes, the low half of a byte first; E4M3 scales of 16; one float32 for all. Numbers: groups of a
// line; whether the float32 divides the scales, else it multiplies them.
struct Nvfp4 {
    const unsigned char *codes, *scales;
    float all;
    bool divides;

    __device__ __forceinline__ Nvfp4(const PackedArguments& p, int line)
        : codes(p.parts[0] + (size_t)line * p.numbers[0] * 8),
          scales(p.parts[1] + (size_t)line * p.numbers[0]),
          all(number<NUMBER_FLOAT32>(p.parts[2], 0)), divides(p.numbers[1] != 0) {}

    __device__ __forceinline__ float operator()(int column) const {
        float scale = e4m3(scales[column / 16]);
        scale = divides ? scale / all : scale * all;
        return e2m1(codes[column / 2] >> (4 * (column % 2)) & 15) * scale;
    }
};
DEFINE_DECODES(nvfp4, Nvfp4, decode_by_output)
