// Weights of a byte each, with scales and perhaps zero points that blocks share.
#pragma once
#include "packed_numbers.cuh"

// Parts: codes; scales; int8 zero points, if any. Numbers: the scales' grid; values of a line. The factor is
// what scales are divided by.
template <float decode(int)>
struct Bytes {
    const unsigned char* codes;
    GridLine scales;
    const unsigned char* zeros;
    float divisor;

    __device__ __forceinline__ Bytes(const PackedArguments& p, int line)
        : codes(p.parts[0] + (size_t)line * p.numbers[4]), scales(p, p.parts[1], line),
          zeros(p.parts[2]), divisor(p.factor) {}

    __device__ __forceinline__ float operator()(int column) const {
        int block = scales.block(column);
        float code = decode(codes[column]);
        if (zeros) code -= int8(zeros[scales.first + block]);
        return code * (scales(block) / divisor);
    }
};
