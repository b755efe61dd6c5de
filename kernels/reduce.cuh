// Sums over a warp and over a block.
#pragma once
#include "device.cuh"

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, distance);
    }
    return value;
}

// The sum over all threads of a block of whole warps, for every thread. Barriers before and after
// the use of `sums` (of 32 values, in shared memory) make it usable again at once.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* sums) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    value = warp_sum(value);
    if (lane == 0) sums[warp] = value;
    __syncthreads();
    // Every warp adds the same numbers in the same order, so all threads get the same bits.
    value = warp_sum(lane < blockDim.x / 32 ? sums[lane] : T(0));
    __syncthreads();
    return value;
}
