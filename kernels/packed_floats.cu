// Weights packed as small floats with scales (packed.cuh).
#include "packed.cuh"

// E2M1: a sign, two exponent bits, one fraction bit; 0.5 is its only subnormal.
__device__ __forceinline__ float e2m1(int code) {
    int exponent = code >> 1 & 3, fraction = code & 1;
    float magnitude = exponent == 0 ? 0.5f * fraction
                                    : (1.0f + 0.5f * fraction) * (float)(1 << (exponent - 1));
    return code & 8 ? -magnitude : magnitude;
}

// 2^(byte - 127); 0 is 2^-127, a subnormal, and 255 is infinity, as it is in float64 rounded to float32.
__device__ __forceinline__ float e8m0(int byte) {
    return __uint_as_float(byte == 0 ? 0x00400000u : (unsigned)byte << 23);
}

// Parts: codes, the low half of a byte first; E8M0 scales of 32. Numbers: blocks of a line.
struct Mxfp4 {
    const PackedArguments& p;
    __device__ __forceinline__ float operator()(int line, int column) const {
        size_t block = (size_t)line * p.numbers[0] + column / 32;
        int byte = p.parts[0][block * 16 + column % 32 / 2];
        return e2m1(byte >> (4 * (column % 2)) & 15) * e8m0(p.parts[1][block]);
    }
};
DEFINE_DECODES(mxfp4, Mxfp4, decode_by_output)
