// The magnitudes at some ranks, from the histogram that statistics_read.cu leaves, and the bins of a
// profile.
//
// histogram  [sequences, 2^bins_log2] of the upper bits of |x|, or [sequences, slots, 2^bins_log2]
// ranks      [sequences, slots, 2]: upper bits found so far, and the rank among the values that have them
// fine       [sequences, slots, 2^fine_log2]: zero at the start
// bins       [sequences, PROFILE_BINS]: zero at the start
//
// profile_select  one step of a radix select for each slot: appends bins_log2 bits. Grid (slots,
//                 sequences), 1024 threads. Reads a histogram a slot, from the second-level cache; bound
//                 by latency.
// profile_fine    histograms of the lower bits of the values whose upper bits a slot has. Grid (blocks per
//                 sequence, sequences). Moves size(x) bytes; bound by memory, and by a comparison a slot
//                 and value. Types of 16 bits need it on cards with little shared memory only.
// profile_bins    adds the histogram's counts up: eight bins to a factor of two from 2^-PROFILE_LOWEST.
//                 A histogram of fewer bits than float16 has puts two of its least numbers into one bin;
//                 these are counted in x. Grid (blocks per sequence, sequences); the first block reads the
//                 histogram.
#include "statistics.cuh"

KERNEL_BOUNDED(STATISTICS_THREADS)
profile_select(const unsigned* histogram, unsigned* ranks, int bins_log2, int own_histogram) {
    SHARED(unsigned, sums, [32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t place = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const unsigned* bins =
        histogram + ((own_histogram ? place : (size_t)blockIdx.y) << bins_log2);
    const unsigned prefix = ranks[2 * place], rank = ranks[2 * place + 1];
    // As in statistics_rank.cu.
    const unsigned share = ((1u << bins_log2) + blockDim.x - 1) / blockDim.x;
    const unsigned begin = threadIdx.x * share;
    const unsigned end = min(begin + share, 1u << bins_log2);
    unsigned own = 0;
    for (unsigned bin = begin; bin < end; bin++) own += bins[bin];
    unsigned up_to = own;
    for (int distance = 1; distance < 32; distance *= 2) {
        unsigned other = __shfl_up_sync(FULL_WARP, up_to, distance);
        if (lane >= distance) up_to += other;
    }
    if (lane == 31) sums[warp] = up_to;
    __syncthreads();
    unsigned before = up_to - own;
    for (int other = 0; other < warp; other++) before += sums[other];
    if (rank >= before && rank - before < own) {
        unsigned bin = begin, left = rank - before;
        while (left >= bins[bin]) left -= bins[bin++];
        ranks[2 * place] = prefix << bins_log2 | bin;
        ranks[2 * place + 1] = left;
    }
}
REGISTER(profile_select)

template <class T>
__device__ __forceinline__ void fine(const T* x, const unsigned long long* starts,
                                     const unsigned* counts, const unsigned* ranks, unsigned* out,
                                     int slots, int fine_log2) {
    SHARED(unsigned, upper, [PROFILE_SLOTS]);
    if ((int)threadIdx.x < slots) {
        upper[threadIdx.x] = ranks[2 * ((size_t)blockIdx.y * slots + threadIdx.x)];
    }
    __syncthreads();
    const Sequence sequence = sequence_of(starts, counts);
    const unsigned mask = (1u << fine_log2) - 1;
    for_each_vector(x, sequence, [&](const MagnitudeVector<T>& magnitudes, long long,
                                     unsigned inside) {
        for (int i = 0; i < MagnitudeVector<T>::SIZE; i++) {
            if (!(inside >> i & 1)) continue;
            const unsigned magnitude = magnitudes[i];
            for (int slot = 0; slot < slots; slot++) {
                if (magnitude >> fine_log2 == upper[slot]) {
                    const size_t place = (size_t)blockIdx.y * slots + slot;
                    atomicAdd(&out[(place << fine_log2) + (magnitude & mask)], 1u);
                }
            }
        }
    });
}

template <class T>
__device__ __forceinline__ void add_to_bin(unsigned* bins, unsigned magnitude, unsigned count) {
    const float value = magnitude_value<T>(magnitude);
    const int eighths = (int)(__float_as_uint(value) >> 20) - 8 * (127 - PROFILE_LOWEST);
    const int place = min(max(eighths, 0), PROFILE_BINS - 1);
    atomicAdd(&bins[(size_t)blockIdx.y * PROFILE_BINS + place], count);
}

template <class T>
__device__ __forceinline__ void add_bins(const T* x, const unsigned long long* starts,
                                         const unsigned* counts, const unsigned* histogram,
                                         unsigned* bins, int bins_log2) {
    const int shift = Magnitude<T>::BITS - bins_log2;
    // Below 16 an eighth of a factor of two is no whole number of float16's least steps.
    const bool half = Magnitude<T>::INFINITE == Magnitude<__half>::INFINITE;
    const unsigned least = half && shift > 0 ? 16u >> shift : 0u;
    if (blockIdx.x == 0) {
        const unsigned* own = histogram + ((size_t)blockIdx.y << bins_log2);
        for (unsigned bin = least + threadIdx.x; bin < 1u << bins_log2; bin += blockDim.x) {
            if (own[bin] > 0) add_to_bin<T>(bins, bin << shift, own[bin]);
        }
    }
    if (least == 0) return;
    for_each_vector(x, sequence_of(starts, counts), [&](const MagnitudeVector<T>& magnitudes,
                                                        long long, unsigned inside) {
        for (int i = 0; i < MagnitudeVector<T>::SIZE; i++) {
            if ((inside >> i & 1) && magnitudes[i] < least << shift) {
                add_to_bin<T>(bins, magnitudes[i], 1u);
            }
        }
    });
}

#define DEFINE(T, suffix)                                                                      \
    KERNEL_BOUNDED(STATISTICS_THREADS) profile_fine_##suffix(                                  \
        const T* x, const unsigned long long* starts, const unsigned* counts,                  \
        const unsigned* ranks, unsigned* out, int slots, int fine_log2) {                      \
        fine(x, starts, counts, ranks, out, slots, fine_log2);                                 \
    }                                                                                          \
    REGISTER(profile_fine_##suffix)                                                            \
    KERNEL_BOUNDED(STATISTICS_THREADS) profile_bins_##suffix(                                  \
        const T* x, const unsigned long long* starts, const unsigned* counts,                  \
        const unsigned* histogram, unsigned* bins, int bins_log2) {                            \
        add_bins(x, starts, counts, histogram, bins, bins_log2);                               \
    }                                                                                          \
    REGISTER(profile_bins_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
