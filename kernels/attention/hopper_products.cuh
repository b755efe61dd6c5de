// The products of attention on Hopper, and whose turn it is to start them.
#pragma once

#include "../warpgroup.cuh"
#include "elements.cuh"

#if HOPPER

// d += A B, or d = A B.
template <class T, int N>
__device__ __forceinline__ void start_product(float (&d)[N][4], uint64_t a, uint64_t b,
                                              int accumulate) {
    if constexpr (std::is_same_v<T, __half>) {
        wgmma_f16<0, 0>(d, a, b, accumulate);
    } else {
        wgmma_bf16<0, 0>(d, a, b, accumulate);
    }
}

// d += A B with A in registers and B transposed.
template <class T, int N>
__device__ __forceinline__ void start_product(float (&d)[N][4], const uint32_t (&a)[4],
                                              uint64_t b) {
    if constexpr (std::is_same_v<T, __half>) {
        wgmma_f16<1>(d, a, b, 1);
    } else {
        wgmma_bf16<1>(d, a, b, 1);
    }
}

// Weights of a tile as left operands: two accumulator tiles beside each other are one.
template <class T, int N>
__device__ __forceinline__ void pack_weights(uint32_t (&packed)[N / 2][4],
                                             const float (&weights)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            packed[n / 2][n % 2 * 2 + half] =
                pack<T>(weights[n][2 * half], weights[n][2 * half + 1]);
        }
    }
}

// The turns of two warpgroups at starting products. Each takes as many; the first is the first one's.
struct ProductTurns {
    static constexpr int FIRST = 1;  // of the named barriers
    static constexpr int THREADS = HOPPER_CONSUMERS * 128;
    static_assert(HOPPER_CONSUMERS == 2);
    int consumer;

    __device__ __forceinline__ explicit ProductTurns(int consumer) : consumer(consumer) {
        if (consumer == 1) give();
    }
    __device__ __forceinline__ void await() const {
        named_barrier_sync(FIRST + consumer, THREADS);
    }
    // After the second one's last turn nobody waits for another.
    __device__ __forceinline__ void pass(bool last) const {
        if (consumer == 0 || !last) give();
    }

private:
    __device__ __forceinline__ void give() const {
        named_barrier_arrive(FIRST + (consumer ^ 1), THREADS);
    }
};

// Waits for the threads of one warpgroup of the two.
__device__ __forceinline__ void warpgroup_sync(int consumer) {
    named_barrier_sync(ProductTurns::FIRST + HOPPER_CONSUMERS + consumer, 128);
}

#endif
