// Decoding packed weights: what each kernel is told, and how it walks.
//
// The encodings and their formulas are in src/model/weights/encodings/, and kernels compute the same
// float32, bit for bit: sums of products are not contracted into fused multiply-adds. Here an encoding is a
// struct that is made of the arguments and a line and maps a place in the line to its value: a line is an
// output's row of the stored matrix, or an input's column where the format packs along the other axis. A
// block takes a line of the result (grid-stride), its threads the values of the line.
//
// Moves the codes once and the result once. A result of 16 bits is two to four times as large as its codes,
// so writing it bounds the kernel.
#pragma once
#include "numeric.cuh"

// src/backend/cuda/packed.rs
struct PackedArguments {
    // The parts of one matrix, the codes first; null where there is none.
    const unsigned char* parts[PACKED_PARTS];
    void* out;
    // Of the result.
    int outputs, inputs;
    // Output o of the result is output first + i / size * stride + i % size of the stored matrix, where
    // i = skipped + o.
    int first, size, stride, skipped;
    // What they mean, the encoding says.
    int numbers[PACKED_NUMBERS];
    float factor;
};
static_assert(sizeof(PackedArguments) == PACKED_BYTES);
static_assert(offsetof(PackedArguments, factor) == PACKED_FACTOR_OFFSET);

__device__ __forceinline__ int stored_output(const PackedArguments& p, int output) {
    int i = p.skipped + output;
    return p.first + i / p.size * p.stride + i % p.size;
}

// A result [outputs, inputs] of an encoding whose lines are outputs'.
template <class T, class Line>
__device__ __forceinline__ void decode_by_output(const PackedArguments& p) {
    for (int o = blockIdx.x; o < p.outputs; o += gridDim.x) {
        const Line value(p, stored_output(p, o));
        T* out = static_cast<T*>(p.out) + (size_t)o * p.inputs;
        for (int i = threadIdx.x; i < p.inputs; i += blockDim.x) out[i] = T(value(i));
    }
}

// A result [inputs, outputs] of an encoding whose lines are inputs'.
template <class T, class Line>
__device__ __forceinline__ void decode_by_input(const PackedArguments& p) {
    for (int i = blockIdx.x; i < p.inputs; i += gridDim.x) {
        const Line value(p, i);
        T* out = static_cast<T*>(p.out) + (size_t)i * p.outputs;
        for (int o = threadIdx.x; o < p.outputs; o += blockDim.x) {
            out[o] = T(value(stored_output(p, o)));
        }
    }
}

// Kernels decode_<name>_<suffix> of an encoding.
#define DEFINE_DECODE(T, suffix, name, Line, walk)                               \
    KERNEL decode_##name##_##suffix(const __grid_constant__ PackedArguments p) { \
        walk<T, Line>(p);                                                        \
    }                                                                            \
    REGISTER(decode_##name##_##suffix)
#define DEFINE_DECODES(name, Line, walk)                 \
    DEFINE_DECODE(float, f32, name, Line, walk)          \
    DEFINE_DECODE(__nv_bfloat16, bf16, name, Line, walk) \
    DEFINE_DECODE(__half, f16, name, Line, walk)
