// The numbers that packed weights are made of: small floats, scales and zero points that blocks of a
// matrix share, and dense streams of codes (src/model/weights/encodings/numbers.rs and grid.rs).
#pragma once
#include "packed.cuh"

// E2M1: a sign, two exponent bits, one fraction bit; 0.5 is its only subnormal.
__device__ __forceinline__ float e2m1(int code) {
    int exponent = code >> 1 & 3, fraction = code & 1;
    float magnitude = exponent == 0 ? 0.5f * fraction
                                    : (1.0f + 0.5f * fraction) * (float)(1 << (exponent - 1));
    return code & 8 ? -magnitude : magnitude;
}

__device__ __forceinline__ float with_sign(float magnitude, int byte) {
    return byte & 128 ? -magnitude : magnitude;
}

// Moved into float32's fields, a small float is wrong by a power of two only, its subnormals included.
// FP8 E4M3 as networks use it: no infinity, NaN where all of exponent and fraction is set.
__device__ __forceinline__ float e4m3(int byte) {
    int magnitude = byte & 127;
    if (magnitude == 127) return NAN;
    return with_sign(__uint_as_float((unsigned)magnitude << 20) * 0x1p120f, byte);
}

// FP8 E5M2: as IEEE 754, with infinities.
__device__ __forceinline__ float e5m2(int byte) {
    int magnitude = byte & 127;
    if (magnitude > 124) return NAN;
    if (magnitude == 124) return with_sign(INFINITY, byte);
    return with_sign(__uint_as_float((unsigned)magnitude << 21) * 0x1p112f, byte);
}

// E8M0: 2^(byte - 127); 0 is 2^-127, a subnormal, and 255 comes out as infinity.
__device__ __forceinline__ float e8m0(int byte) {
    return __uint_as_float(byte == 0 ? 0x00400000u : (unsigned)byte << 23);
}

__device__ __forceinline__ float int8(int byte) { return (float)(signed char)byte; }

// Number `index` of those of a type.
template <int type>
__device__ __forceinline__ float number(const unsigned char* numbers, size_t index) {
    if constexpr (type == NUMBER_FLOAT32) {
        return reinterpret_cast<const float*>(numbers)[index];
    } else if constexpr (type == NUMBER_BFLOAT16) {
        return float(reinterpret_cast<const __nv_bfloat16*>(numbers)[index]);
    } else if constexpr (type == NUMBER_FLOAT16) {
        return float(reinterpret_cast<const __half*>(numbers)[index]);
    } else if constexpr (type == NUMBER_E4M3) {
        return e4m3(numbers[index]);
    } else if constexpr (type == NUMBER_E8M0) {
        return numbers[index] == 255 ? NAN : e8m0(numbers[index]);
    } else {
        static_assert(type == NUMBER_INT8);
        return int8(numbers[index]);
    }
}

// The same of a type that is not known before.
__device__ __forceinline__ float number(int type, const unsigned char* numbers, size_t index) {
    switch (type) {
        case NUMBER_FLOAT32: return number<NUMBER_FLOAT32>(numbers, index);
        case NUMBER_BFLOAT16: return number<NUMBER_BFLOAT16>(numbers, index);
        case NUMBER_FLOAT16: return number<NUMBER_FLOAT16>(numbers, index);
        case NUMBER_E4M3: return number<NUMBER_E4M3>(numbers, index);
        case NUMBER_E8M0: return number<NUMBER_E8M0>(numbers, index);
        default: return number<NUMBER_INT8>(numbers, index);
    }
}

// A line of a grid that has a number a block of the matrix. Numbers of the arguments: the type, rows and
// columns of a block, columns of the grid.
struct GridLine {
    const unsigned char* numbers;
    int type, block_columns;
    size_t first;

    __device__ __forceinline__ GridLine(const PackedArguments& p, const unsigned char* grid, int line)
        : numbers(grid), type(p.numbers[0]), block_columns(p.numbers[2]),
          first((size_t)(line / p.numbers[1]) * p.numbers[3]) {}

    __device__ __forceinline__ int block(int column) const { return column / block_columns; }
    __device__ __forceinline__ float operator()(int block) const {
        return number(type, numbers, first + block);
    }
};

// Code `index` of a dense stream of codes of `bits` bits, the lowest bits of a word first, in words that
// are `stride` apart. A code may lie across two words.
__device__ __forceinline__ unsigned packed_code(const unsigned* words, size_t stride, int index,
                                                int bits) {
    unsigned bit = (unsigned)index * bits, word = bit / 32, shift = bit % 32;
    unsigned code = words[word * stride] >> shift;
    if (shift + bits > 32) code |= words[(word + 1) * stride] << (32 - shift);
    return code & ((1u << bits) - 1);
}
