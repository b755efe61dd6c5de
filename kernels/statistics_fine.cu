// The second read of a float32 tensor (or of a 16-bit one on a card with little shared memory): a
// histogram of the lower bits of those magnitudes whose upper bits are the median's.
//
// select     [sequences, 2]: upper bits of the median (statistics_rank.cu)
// histogram  [sequences, 2^fine_log2], in device memory: only the few values near the median count
//
// Grid (blocks per sequence, sequences). Moves size(x) bytes; bound by memory. Lanes that agree
// with the first of them add once, so that a constant tensor is no slower.
#include "statistics.cuh"

template <class T>
__device__ __forceinline__ void fine(const T* x, const unsigned long long* starts,
                                     const unsigned* counts, const unsigned* select,
                                     unsigned* histogram, int fine_log2) {
    const Sequence sequence = sequence_of(starts, counts);
    const unsigned upper = select[2 * blockIdx.y];
    const unsigned mask = (1u << fine_log2) - 1;
    unsigned* bins = histogram + ((size_t)blockIdx.y << fine_log2);
    for_each_vector(x, sequence, [&](const MagnitudeVector<T>& magnitudes, long long,
                                     unsigned inside) {
        for (int i = 0; i < MagnitudeVector<T>::SIZE; i++) {
            unsigned magnitude = magnitudes[i];
            bool counts_here = (inside >> i & 1) && magnitude >> fine_log2 == upper;
            unsigned who = __ballot_sync(FULL_WARP, counts_here);
            if (who == 0) continue;
            int leader = __ffs(who) - 1;
            unsigned bin = magnitude & mask;
            unsigned leaders = __shfl_sync(FULL_WARP, bin, leader);  // by all lanes, always
            bool same = counts_here && bin == leaders;
            unsigned equals = __ballot_sync(FULL_WARP, same);
            if ((int)threadIdx.x % 32 == leader) {
                atomicAdd(&bins[bin], (unsigned)__popc(equals));
            } else if (counts_here && !same) {
                atomicAdd(&bins[bin], 1u);
            }
        }
    });
}

#define DEFINE(T, suffix)                                                                     \
    KERNEL_BOUNDED(STATISTICS_THREADS) statistics_fine_##suffix(                                  \
        const T* x, const unsigned long long* starts, const unsigned* counts,                 \
        const unsigned* select, unsigned* histogram, int fine_log2) {                         \
        fine(x, starts, counts, select, histogram, fine_log2);                                \
    }                                                                                         \
    REGISTER(statistics_fine_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
