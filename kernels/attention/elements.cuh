// The three element types, and where a warp's tile lives in its threads.
#pragma once

#include <type_traits>

#include "../device.cuh"

template <class T>
struct Element;

template <>
struct Element<float> {
    static __device__ __forceinline__ float widen(float x) { return x; }
    static __device__ __forceinline__ float narrow(float x) { return x; }
};

template <>
struct Element<__nv_bfloat16> {
    static __device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
    static __device__ __forceinline__ __nv_bfloat16 narrow(float x) { return __float2bfloat16(x); }
};

template <>
struct Element<__half> {
    static __device__ __forceinline__ float widen(__half x) { return __half2float(x); }
    static __device__ __forceinline__ __half narrow(float x) { return __float2half(x); }
};

// d += A B on the tensor cores.
template <class T>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&left)[4],
                                         const uint32_t (&right)[2]) {
    if constexpr (std::is_same_v<T, __half>) {
        mma_m16n8k16_f16(d, left, right);
    } else {
        mma_m16n8k16_bf16(d, left, right);
    }
}

// Two values in one register, the first in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack(float first, float second);

template <>
__device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const uint32_t*>(&pair);
}

template <>
__device__ __forceinline__ uint32_t pack<__half>(float first, float second) {
    const __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const uint32_t*>(&pair);
}

template <class T>
__device__ __forceinline__ float rounded(float x) {
    return Element<T>::widen(Element<T>::narrow(x));
}

// A warp holds a tile of 16 x 8 float32 as the tensor cores do (m16n8k16's accumulator): thread
// `lane` has tile[0], tile[1] in row lane / 4 and tile[2], tile[3] in row lane / 4 + 8, at columns
// 2 * (lane % 4) and the next. The float32 kernels keep the same places, so that everything that is
// done between the two products is written once.
__device__ __forceinline__ int lane_id() { return threadIdx.x & 31; }

// Row of entries 2 * half and 2 * half + 1 of the m-th tile from above.
__device__ __forceinline__ int fragment_row(int m, int half) {
    return m * 16 + half * 8 + (lane_id() >> 2);
}

// Column of entries j and 2 + j of the n-th tile from the left.
__device__ __forceinline__ int fragment_column(int n, int j) {
    return n * 8 + (lane_id() & 3) * 2 + j;
}

// Over the four lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
