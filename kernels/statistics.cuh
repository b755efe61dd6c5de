// What the statistics kernels share: how a sequence lies in a tensor, and how they walk over it.
#pragma once
#include "magnitude.cuh"
#include "numeric.cuh"

// Elements of one sequence: `count` of them from `start` on. Sequences are rows of one tensor.
struct Sequence {
    unsigned long long start;
    unsigned count;
};

__device__ __forceinline__ Sequence sequence_of(const unsigned long long* starts,
                                                const unsigned* counts) {
    return {starts[blockIdx.y], counts[blockIdx.y]};
}

// Calls use(magnitudes, first, inside) for all vectors that overlap the sequence, dealt out to the
// blocks of the row by whole tiles of blockDim.x vectors; every thread of a warp takes part in
// every call. `first` is the index in the sequence of the vector's first element (it may lie before
// the sequence), bit i of `inside` tells whether element i belongs to it. A thread's vectors come
// in ascending order.
template <class T, class Load, class Use>
__device__ __forceinline__ void for_each_loaded(Sequence sequence, Load load, Use use) {
    constexpr int SIZE = MagnitudeVector<T>::SIZE;
    constexpr unsigned ALL = (1u << SIZE) - 1;
    unsigned long long end = sequence.start + sequence.count;
    unsigned long long last = (end + SIZE - 1) / SIZE;
    unsigned long long base = sequence.start / SIZE + (unsigned long long)blockIdx.x * blockDim.x;
    for (; base < last; base += (unsigned long long)gridDim.x * blockDim.x) {
        unsigned long long vector = base + threadIdx.x;
        MagnitudeVector<T> magnitudes;
        memset(&magnitudes, 0, sizeof magnitudes);
        unsigned inside = 0;
        long long first = (long long)(vector * SIZE) - (long long)sequence.start;
        if (vector < last) {
            magnitudes = load(vector * SIZE);
            inside = ALL;
            if (first < 0) inside &= ALL << -first;
            long long over = first + SIZE - (long long)sequence.count;
            if (over > 0) inside &= ALL >> over;
        }
        use(magnitudes, first, inside);
    }
}

template <class T, class Use>
__device__ __forceinline__ void for_each_vector(const T* x, Sequence sequence, Use use) {
    for_each_loaded<T>(
        sequence, [=](unsigned long long place) { return load_magnitudes(x + place); }, use);
}

// The same of x += other, where sequences share no vector.
template <class T, class Use>
__device__ __forceinline__ void for_each_sum(T* x, const T* other, Sequence sequence, Use use) {
    for_each_loaded<T>(
        sequence,
        [=](unsigned long long place) {
            Vector<T> sum = load_vector(x + place), more = load_vector(other + place);
#pragma unroll
            for (int i = 0; i < Vector<T>::SIZE; i++) sum.set(i, sum[i] + more[i]);
            store_vector(x + place, sum);
            MagnitudeVector<T> magnitudes;
            memcpy(&magnitudes, &sum, sizeof sum);
            return magnitudes;
        },
        use);
}
